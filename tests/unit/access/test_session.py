"""Sessions: cookies, CSRF, the secrets of a sign-in, and when a session ends."""

import hashlib
from base64 import urlsafe_b64encode
from contextlib import contextmanager
from datetime import timedelta

import pytest
from image_categorizer_server import clock
from image_categorizer_server.access.session import (
    Cookies,
    SessionVerifier,
    SignInSecrets,
    is_same_site,
    new_secret,
    sha256_of,
)
from image_categorizer_server.domain.access import Principal, Role, Session
from image_categorizer_server.errors import CredentialsInvalid

ADA = Principal("main:ada", "default", Role.ADMIN)


@contextmanager
def later(seconds):
    clock.shift(seconds)
    try:
        yield
    finally:
        clock.shift(0)


class Rows:
    """Sessions in memory; counts what is read and written."""

    def __init__(self, secret, max_s=1000.0, end_time=None):
        self.now = clock.now()
        self.secret_sha256 = sha256_of(secret)
        self.expire_time = self.now + timedelta(seconds=max_s)
        self.use_times = [self.now]
        self.end_time = end_time
        self.reads = 0

    async def find(self, secret_sha256):
        self.reads += 1
        if secret_sha256 != self.secret_sha256:
            return None
        return Session(ADA, self.use_times[-1], self.expire_time, self.end_time)

    async def touch(self, secret_sha256, now):
        assert secret_sha256 == self.secret_sha256
        self.use_times.append(now)


def verifier(rows, idle_s=300.0):
    return SessionVerifier(rows.find, rows.touch, idle_s, cache_s=60)


async def test_a_session_is_read_once_and_its_use_is_written_once_a_minute():
    secret = new_secret()
    rows = Rows(secret)
    sessions = verifier(rows)
    for _ in range(3):
        assert await sessions.verify(secret) == ADA
    assert (rows.reads, len(rows.use_times)) == (1, 1)
    with later(61):
        for _ in range(3):
            assert await sessions.verify(secret) == ADA
    assert (rows.reads, len(rows.use_times)) == (2, 2)


async def test_a_session_ends_when_it_is_not_used_and_when_it_is_old():
    secret = new_secret()
    idle = verifier(Rows(secret))
    with later(301), pytest.raises(CredentialsInvalid):
        await idle.verify(secret)
    used = verifier(Rows(secret))
    for seconds in (299, 500, 700, 999):
        with later(seconds):
            assert await used.verify(secret) == ADA
    with later(1000), pytest.raises(CredentialsInvalid):
        await used.verify(secret)


async def test_ended_and_unknown_sessions_are_refused_alike():
    secret = new_secret()
    for rows in (Rows(secret, end_time=clock.now()), Rows(new_secret())):
        with pytest.raises(CredentialsInvalid, match="^the session is not valid$"):
            await verifier(rows).verify(secret)


async def test_a_forgotten_session_is_read_again():
    secret = new_secret()
    rows = Rows(secret)
    sessions = verifier(rows)
    await sessions.verify(secret)
    sessions.forget(secret)
    await sessions.verify(secret)
    assert rows.reads == 2


def test_cookies_are_kept_from_scripts_and_other_sites_and_hosts():
    cookie = Cookies(is_secure=True).set("__Host-ic_session", "x", 60)
    assert cookie == (
        "__Host-ic_session=x; Max-Age=60; Path=/; HttpOnly; SameSite=Lax; Secure"
    )  # fmt: skip
    assert Cookies(is_secure=True).session == "__Host-ic_session"
    assert Cookies(is_secure=False).session == "ic_session"
    assert "Secure" not in Cookies(is_secure=False).set("ic_session", "x", 60)
    assert "Max-Age=0;" in Cookies(is_secure=True).set("__Host-ic_session", "", 60)


def test_by_tls_a_cookie_without_the_prefix_does_not_count():
    secret = new_secret()
    cookies = Cookies(is_secure=True)
    for text, found in (
        (f"__Host-ic_session={secret}", secret),
        (f"a=b; __Host-ic_session={secret}", secret),
        (f"ic_session={secret}", None),
        (f"__Host-ic_session={secret}; __Host-ic_session={secret}", None),
        ("__Host-ic_session=", None),
        (f"__Host-ic_session={secret}x", None),
        ("", None),
    ):
        assert cookies.secret_in({"x-cookies": text}, cookies.session) == found, text


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"x-image-categorizer": "1"}, True),
        ({"sec-fetch-site": "same-origin", "x-image-categorizer": "1"}, True),
        ({}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": "cross-site", "x-image-categorizer": "1"}, False),
    ],
)
def test_whether_a_page_of_this_site_calls(headers, expected):
    assert is_same_site(headers) is expected


def test_secrets_are_long_and_a_sign_in_follows_from_its_seed_alone():
    assert len({new_secret() for _ in range(100)}) == 100
    assert len(new_secret()) == 43
    seed = new_secret()
    secrets = SignInSecrets.of(seed)
    assert secrets == SignInSecrets.of(seed) != SignInSecrets.of(new_secret())
    assert len({seed, secrets.state, secrets.nonce, secrets.verifier, secrets.challenge}) == 5
    digest = hashlib.sha256(secrets.verifier.encode()).digest()
    assert secrets.challenge == urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert 43 <= len(secrets.verifier) <= 128
