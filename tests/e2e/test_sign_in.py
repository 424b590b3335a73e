"""People sign in with a browser, at a real identity provider, through the gateway."""

import json
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.support.pictures import jpeg
from tests.support.polling import wait_until
from tests.support.provider import AUDIENCE, CLIENT, SECRET, running_provider
from tests.support.up import Up, free_port

PICTURE = jpeg(64, 48)
OWN_PAGE = {"sec-fetch-site": "same-origin"}
FORGERIES: tuple[dict[str, str], ...] = (
    {},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "none"},
    {"sec-fetch-site": "cross-site", "x-image-categorizer": "1"},
)


@pytest.fixture(scope="module")
def provider():
    with running_provider(free_port()) as running:
        yield running


@pytest.fixture(scope="module")
def installation(provider, tmp_path_factory):
    port = free_port()
    roles = {"ic-viewer": "viewer", "ic-classifier": "classifier", "ic-admin": "admin"}
    issuer = {
        "name": "test",
        "issuer": provider.issuer,
        "audiences": [AUDIENCE],
        "roles": roles,
        "scope_claim": "scope",
    }
    variables = {
        "CATEGORIZER_TOKEN__ISSUERS": json.dumps([issuer]),
        "CATEGORIZER_TOKEN__ALLOW_HTTP": "true",
        "CATEGORIZER_TOKEN__ALLOWED_NETWORKS": '["127.0.0.0/8"]',
        "CATEGORIZER_SIGN_IN__ISSUER": "test",
        "CATEGORIZER_SIGN_IN__CLIENT_ID": CLIENT,
        "CATEGORIZER_SIGN_IN__CLIENT_SECRET": SECRET,
        "CATEGORIZER_SIGN_IN__PUBLIC_URL": f"http://localhost:{port}",
        "CATEGORIZER_SIGN_IN__ADMINS": '["boss"]',
        "CATEGORIZER_SECURITY__KEY_CACHE_S": "1",
        "CATEGORIZER_TEST__FAKE_MODEL": "0,0",
    }
    running = Up(tmp_path_factory.mktemp("sign-in"), port, variables)
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def browser(installation):
    with httpx.Client(base_url=f"http://localhost:{installation.port}") as client:
        yield client


def at_provider(location, user):
    """Returns where the provider sends the browser of a person who has signed in there."""
    answer = httpx.get(location, params={**parsed(location), "login_hint": user})
    assert answer.status_code == 302, answer.text
    return answer.headers["location"]


def parsed(url):
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def sign_in(browser, user="ada"):
    """Signs in as a browser does, and returns the last answer."""
    started = browser.get("/auth/login")
    assert started.status_code == 302, started.text
    return browser.get(at_provider(started.headers["location"], user))


def me(browser, **headers):
    return browser.get("/v1/me", headers=headers or OWN_PAGE)


def test_a_person_signs_in_and_calls(browser, provider):
    started = browser.get("/auth/login")
    asked = parsed(started.headers["location"])
    assert asked["code_challenge_method"] == "S256"
    assert len(asked["state"]) == len(asked["nonce"]) == len(asked["code_challenge"]) == 43
    assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3
    assert started.headers["location"].startswith(provider.issuer)
    finished = browser.get(at_provider(started.headers["location"], "ada"))
    assert (finished.status_code, finished.headers["location"]) == (302, "/")
    assert '<div id="root">' in browser.get("/").text
    cookies = finished.headers.get_list("set-cookie")
    assert len(cookies) == 2
    for cookie in cookies:
        for flag in ("HttpOnly", "SameSite=Lax", "Path=/"):
            assert flag in cookie
    assert finished.headers["cache-control"] == "no-store"
    assert "x-set-cookie" not in finished.headers
    assert list(browser.cookies) == ["ic_session"]
    assert me(browser).json() == {
        "actor_id": "test:ada",
        "tenant_id": "default",
        "role": "classifier",
        "scopes": [],
    }
    answer = browser.post("/v1/classify", content=PICTURE, headers=OWN_PAGE)
    assert answer.status_code == 200, answer.text


def test_other_sites_cannot_use_the_session(browser):
    sign_in(browser)
    for headers in FORGERIES:
        assert browser.get("/v1/me", headers=headers).status_code == 401, headers
        answer = browser.post("/v1/classify", content=PICTURE, headers=headers)
        assert answer.status_code == 401, headers
        assert browser.post("/auth/logout", json={}, headers=headers).status_code == 401
    assert me(browser).status_code == 200
    assert me(browser, **{"x-image-categorizer": "1"}).status_code == 200


def test_who_signs_out_is_out(browser):
    sign_in(browser)
    assert me(browser).status_code == 200
    kept = dict(browser.cookies)
    answer = browser.post("/auth/logout", json={}, headers=OWN_PAGE)
    assert answer.status_code == 200, answer.text
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert list(browser.cookies) == []
    with httpx.Client(base_url=browser.base_url, cookies=kept) as thief:
        wait_until(lambda: me(thief).status_code == 401, 5, 0.1)
    assert browser.post("/auth/logout", json={}, headers=OWN_PAGE).status_code == 200


def test_a_sign_in_belongs_to_one_browser_and_one_code(browser, installation):
    started = browser.get("/auth/login")
    back = at_provider(started.headers["location"], "ada")
    with httpx.Client(base_url=browser.base_url) as other:
        assert other.get(back).status_code == 401
        other.get("/auth/login")
        assert other.get(back).status_code == 401
        assert list(other.cookies) == ["ic_sign_in"]
    code, state = parsed(back)["code"], parsed(back)["state"]
    for query in ({"code": code, "state": "x"}, {"code": code}, {"state": state}, {}):
        assert browser.get("/auth/callback", params=query).status_code == 401
    refused = browser.get("/auth/callback", params={"error": "access_denied", "state": state})
    assert refused.status_code == 401
    assert "ic_session" not in browser.cookies


def test_a_code_works_once(browser):
    started = browser.get("/auth/login")
    seed = browser.cookies["ic_sign_in"]
    back = at_provider(started.headers["location"], "ada")
    assert browser.get(f"{back}&session_state=1&iss=x").status_code == 302
    with httpx.Client(base_url=browser.base_url, cookies={"ic_sign_in": seed}) as again:
        assert again.get(back).status_code == 401


def test_the_role_is_the_one_of_the_last_sign_in(browser, provider):
    roles = list(provider.roles)
    try:
        for given, role in ((["ic-admin"], "admin"), (["ic-viewer"], "viewer")):
            provider.roles[:] = given
            sign_in(browser)
            assert me(browser).json()["role"] == role
        provider.roles[:] = []
        browser.cookies.clear()
        assert sign_in(browser).status_code == 401
        assert sign_in(browser, "boss").status_code == 302
        assert me(browser).json()["role"] == "admin"
    finally:
        provider.roles[:] = roles


@pytest.mark.parametrize("value", ["", "x", "a" * 43, "a" * 5000, "'; DROP TABLE sessions"])
def test_made_up_cookies_are_nobodys(installation, value):
    headers = {**OWN_PAGE, "cookie": f"ic_session={value}; other=1"}
    answer = httpx.get(f"{installation.url}/v1/me", headers=headers)
    assert answer.status_code == 401


def test_of_two_session_cookies_none_counts(browser):
    sign_in(browser)
    secret = browser.cookies["ic_session"]
    headers = {**OWN_PAGE, "cookie": f"ic_session={secret}; ic_session={secret}"}
    assert httpx.get(f"{browser.base_url}/v1/me", headers=headers).status_code == 401


def test_a_key_keeps_working_beside_a_session(browser, installation):
    sign_in(browser)
    headers = {"authorization": f"Bearer {installation.shown_key()}"}
    assert browser.get("/v1/me", headers=headers).json()["role"] == "admin"


def test_an_id_token_is_no_key_of_the_api(installation, provider):
    headers = {"authorization": f"Bearer {provider.sign_in('ada')['id_token']}"}
    assert httpx.get(f"{installation.url}/v1/me", headers=headers).status_code == 401
