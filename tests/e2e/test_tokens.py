"""A person's and a program's tokens, from a real identity provider, through the gateway."""

import json
import subprocess

import grpc
import httpx
import pytest
from image_categorizer import ImageCategorizationClient
from image_categorizer.v1 import classify_pb2, classify_pb2_grpc

from tests.support.bad_tokens import bad_tokens
from tests.support.issuer import new_key
from tests.support.pictures import jpeg
from tests.support.polling import wait_until
from tests.support.provider import AUDIENCE, running_provider
from tests.support.up import COMMAND, Up, command, environment, free_port

PICTURE = jpeg(64, 48)


@pytest.fixture(scope="module")
def provider():
    with running_provider(free_port()) as running:
        yield running


@pytest.fixture(scope="module")
def variables(provider):
    """The settings for the tokens of the provider."""
    issuer = {
        "name": "test",
        "issuer": provider.issuer,
        "audiences": [AUDIENCE],
        "roles": {"ic-classifier": "classifier", "ic-viewer": "viewer"},
        "scope_claim": "scope",
    }
    return {
        "CATEGORIZER_TOKEN__ISSUERS": json.dumps([issuer]),
        "CATEGORIZER_TOKEN__ALLOW_HTTP": "true",
        "CATEGORIZER_TOKEN__ALLOWED_NETWORKS": '["127.0.0.0/8"]',
        "CATEGORIZER_TEST__FAKE_MODEL": "0,0",
    }


@pytest.fixture(scope="module")
def installation(variables, tmp_path_factory):
    running = Up(tmp_path_factory.mktemp("tokens"), free_port(), variables)
    running.start()
    yield running
    assert running.stop() == 0


STREAMING = "classify models:read"
"""The scopes of a client that streams: it asks the server for its limits first."""


def classified(installation, token):
    headers = {"authorization": f"Bearer {token}"}
    return httpx.post(f"{installation.url}/v1/classify", content=PICTURE, headers=headers)


def test_a_programs_token_classifies_over_rest(installation, provider):
    answer = classified(installation, provider.access_token())
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"]


def test_a_persons_token_classifies_by_grpc(installation, provider):
    token = provider.sign_in("ada")["access_token"]
    with grpc.insecure_channel(f"127.0.0.1:{installation.port}") as channel:
        answer = classify_pb2_grpc.ClassifyServiceStub(channel).Classify(
            classify_pb2.ClassifyRequest(image=PICTURE),
            metadata=(("authorization", f"Bearer {token}"),),
        )
    assert answer.predictions


def test_the_sdk_asks_for_tokens(installation, provider):
    with ImageCategorizationClient(
        base_url=f"127.0.0.1:{installation.port}",
        token_provider=lambda: provider.access_token(STREAMING),
    ) as client:
        assert client.classify_image(PICTURE).predictions
        assert [r.key for r in client.classify_stream([("a", PICTURE)])] == ["a"]


def test_the_server_says_who_calls(installation, provider):
    headers = {"authorization": f"Bearer {provider.access_token(STREAMING)}"}
    assert httpx.get(f"{installation.url}/v1/me", headers=headers).json() == {
        "actor_id": "test:robot",
        "tenant_id": "default",
        "role": "classifier",
        "scopes": ["classify", "models:read"],
    }
    with ImageCategorizationClient(
        installation.shown_key(), f"127.0.0.1:{installation.port}"
    ) as client:
        caller = client.caller()
    assert (caller.tenant_id, caller.role, caller.scopes) == ("default", "admin", ())


def test_the_command_line_takes_a_token_for_a_key(installation, provider, tmp_path):
    (tmp_path / "a.jpg").write_bytes(PICTURE)
    done = command(
        "classify",
        tmp_path / "a.jpg",
        "--json",
        CATEGORIZER_CLIENT__BASE_URL=f"127.0.0.1:{installation.port}",
        CATEGORIZER_CLIENT__API_KEY=provider.access_token(STREAMING),
    )
    assert done.returncode == 0, done.stderr


def test_an_id_token_of_the_same_person_is_refused(installation, provider):
    answer = classified(installation, provider.sign_in("ada")["id_token"])
    assert answer.status_code == 401
    assert answer.json()["message"] == "the access token is not valid"


def test_role_and_scope_of_the_token_decide(installation, provider):
    headers = {"authorization": f"Bearer {provider.access_token('models:read')}"}
    assert httpx.get(f"{installation.url}/v1/models", headers=headers).status_code == 200
    assert classified(installation, provider.access_token("models:read")).status_code == 403
    assert classified(installation, provider.access_token("openid")).status_code == 401
    roles = list(provider.roles)
    try:
        provider.roles[:] = ["ic-viewer"]
        assert classified(installation, provider.access_token()).status_code == 403
        provider.roles[:] = ["platform", "admin", "classifier"]
        assert classified(installation, provider.access_token()).status_code == 401
    finally:
        provider.roles[:] = roles


def test_no_bad_token_passes_the_gateway(installation):
    statuses = {}
    for name, token in bad_tokens(new_key()):
        if token.isascii() and token.isprintable():
            statuses[name] = classified(installation, token).status_code
    assert len(statuses) >= 60
    assert statuses.pop("100 KB") in (400, 401, 431)
    assert set(statuses.values()) == {401}


def test_of_two_headers_none_counts(installation, provider):
    token, key = provider.access_token(), installation.shown_key()
    for pair in ((token, token), (token, key), (key, token)):
        headers = [("authorization", f"Bearer {credentials}") for credentials in pair]
        answer = httpx.get(f"{installation.url}/v1/models", headers=headers)
        assert answer.status_code == 401


@pytest.mark.slow
def test_the_provider_rotates_its_key(installation, provider):
    old = provider.access_token()
    provider.rotate()
    new = provider.access_token()
    assert old.split(".")[0] != new.split(".")[0]
    wait_until(lambda: classified(installation, new).status_code == 200, 60, 1)
    assert classified(installation, old).status_code == 200


def test_explain_agrees_with_the_server(installation, provider, variables):
    def explained(token):
        return subprocess.run(
            [*COMMAND, "access", "explain", "-", "--data", str(installation.data)],
            env=environment(**variables),
            input=token,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    good = explained(provider.access_token("classify batches:read"))
    assert good.returncode == 0, good.stderr
    for words in ("test:robot", "batches:read, classify", "ClassifyService.Classify"):
        assert words in good.stdout
    assert "ListModels" not in good.stdout
    bad = explained(provider.sign_in("ada")["id_token"])
    assert bad.returncode == 1
    assert "refused" in bad.stderr
