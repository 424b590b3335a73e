"""The keys of an issuer: read, kept during outages, forgotten in time, and never read often."""

import asyncio
import json
from contextlib import asynccontextmanager, contextmanager, suppress

import hypothesis
import pytest
from hypothesis import strategies as st
from image_categorizer_server import clock
from image_categorizer_server.access.jwks import (
    MEMBERS,
    MIN_INTERVAL_S,
    DocumentUnavailable,
    IssuerKeys,
    public_key,
)
from image_categorizer_server.access.jws import TokenRefused
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.settings.token import TokenSettings
from image_categorizer_server.tasks import TaskOwner
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from tests.support.issuer import ISSUER, JWKS, Published, encoded, issuer_settings, new_key
from tests.support.polling import eventually

UNUSABLE = ValueError, TypeError, KeyError, JoseError
METADATA = f"{ISSUER}/.well-known/openid-configuration"


@contextmanager
def later(seconds):
    """Lets time pass."""
    clock.shift(seconds)
    try:
        yield
    finally:
        clock.shift(0)


@asynccontextmanager
async def watched(published, **issuer):
    """Yields keys that a task reads, as in the server."""
    keys = IssuerKeys(issuer_settings(**issuer), TokenSettings(), published.fetch)
    async with TaskOwner() as tasks:
        tasks.start(keys.watch(), "reader")
        yield keys


async def test_a_key_is_found_by_its_id():
    published = Published([new_key("a"), new_key("b")])
    async with watched(published) as keys:
        assert (await keys.find("b", "ES256")).kid == "b"
        assert published.reads == [JWKS]


async def test_without_an_id_there_must_be_one_key_that_fits():
    published = Published([new_key("a"), new_key("b", "EdDSA")])
    async with watched(published) as keys:
        assert (await keys.find(None, "ES256")).kid == "a"
    published.keys.append(new_key("c"))
    async with watched(published) as keys:
        with pytest.raises(TokenRefused, match="2 keys without 'kid'"):
            await keys.find(None, "ES256")


async def test_a_key_serves_only_the_algorithm_it_is_for():
    async with watched(Published([new_key("a")])) as keys:
        for algorithm in ("ES384", "RS256", "EdDSA"):
            with pytest.raises(TokenRefused, match="0 keys"):
                await keys.find("a", algorithm)


async def test_a_thousand_unknown_keys_cause_one_reading():
    published = Published()
    async with watched(published) as keys:
        await keys.find("k1", "ES256")
        asks = (keys.find(f"../{number}", "ES256") for number in range(1000))
        answers = await asyncio.gather(*asks, return_exceptions=True)
        assert {type(answer) for answer in answers} == {TokenRefused}
        assert len(published.reads) == 1
        with later(MIN_INTERVAL_S):
            asks = (keys.find(f"x{number}", "ES256") for number in range(1000))
            answers = await asyncio.gather(*asks, return_exceptions=True)
            assert {type(answer) for answer in answers} == {TokenRefused}
            assert len(published.reads) == 2


async def test_unknown_keys_cause_at_most_three_readings_in_any_minute():
    published = Published()
    read_at = []

    async def fetch(url, max_bytes):
        read_at.append(clock.now())
        return await published.fetch(url, max_bytes)

    keys = IssuerKeys(issuer_settings(), TokenSettings(), fetch)
    async with TaskOwner() as tasks:
        tasks.start(keys.watch(), "reader")
        await keys.find("k1", "ES256")
        for second in range(0, 181, 3):
            with later(second):
                for number in range(20):
                    with pytest.raises(TokenRefused):
                        await keys.find(f"{second}-{number}", "ES256")
    times_s = [(time - read_at[0]).total_seconds() for time in read_at]
    most = max(sum(0 <= other - start < 60 for other in times_s) for start in times_s)
    assert len(times_s) >= 6
    assert most <= 3, times_s


async def test_a_new_key_is_accepted_within_a_minute():
    published = Published()
    async with watched(published) as keys:
        await keys.find("k1", "ES256")
        published.keys.append(new_key("k2"))
        with later(MIN_INTERVAL_S):
            assert (await keys.find("k2", "ES256")).kid == "k2"
    assert MIN_INTERVAL_S + 2 * TokenSettings().timeout_s <= 60


async def test_a_removed_key_is_refused_within_five_minutes():
    published = Published([new_key("a"), new_key("b")])
    async with watched(published) as keys:
        await keys.find("a", "ES256")
        before = keys.generation
        del published.keys[0]
        with later(TokenSettings().refresh_s):
            await keys.find("b", "ES256")
            await eventually(lambda: keys.generation > before, 5)
            with pytest.raises(TokenRefused):
                await keys.find("a", "ES256")
    assert TokenSettings.model_fields["refresh_s"].metadata[1].le <= 200


async def test_an_issuer_that_publishes_no_key_any_more_has_none():
    published = Published()
    async with watched(published) as keys:
        await keys.find("k1", "ES256")
        published.keys.clear()
        with later(150):
            await keys.find("k1", "ES256")
            await eventually(lambda: keys.generation == 2, 5)
            with pytest.raises(TokenRefused):
                await keys.find("k1", "ES256")


async def test_known_keys_outlive_an_outage_by_an_hour_and_more_but_not_for_ever():
    published = Published()
    async with watched(published) as keys:
        await keys.find("k1", "ES256")
        published.stop()
        for hours in (1, 23):
            with later(hours * 3600):
                assert await keys.find("k1", "ES256")
        with later(25 * 3600), pytest.raises(DependencyDown):
            await keys.find("k1", "ES256")
        published.resume()
        with later(26 * 3600):
            assert await keys.find("k1", "ES256")


async def test_nothing_is_accepted_before_the_first_reading():
    published = Published(is_down=True)
    async with watched(published) as keys:
        with pytest.raises(DependencyDown) as caught:
            await keys.find("k1", "ES256")
        assert caught.value.retry_after_s > 0
        published.resume()
        with later(60):
            assert await keys.find("k1", "ES256")


@pytest.mark.parametrize(
    "content",
    [
        b"<html>",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": [], "keys": []}',
        json.dumps({"keys": [{}] * 101}).encode(),
    ],
)
async def test_an_answer_that_is_no_key_set_changes_nothing(content):
    published = Published()
    async with watched(published) as keys:
        await keys.find("k1", "ES256")
        published.documents[JWKS] = content
        with later(150):
            await keys.find("k1", "ES256")
            await eventually(lambda: keys.problem, 5)
            assert await keys.find("k1", "ES256")


async def test_discovery_finds_the_key_set_and_does_not_ask_again():
    published = Published()
    published.documents[METADATA] = json.dumps({"issuer": ISSUER, "jwks_uri": JWKS}).encode()
    async with watched(published, jwks_url="") as keys:
        assert await keys.find("k1", "ES256")
        with later(150), pytest.raises(TokenRefused):
            await keys.find("k2", "ES256")
    assert published.reads == [METADATA, JWKS, JWKS]


async def test_metadata_of_oauth_servers_is_found_too():
    published = Published()
    realm = f"{ISSUER}/realm/"
    metadata = f"{ISSUER}/.well-known/oauth-authorization-server/realm"
    published.documents[metadata] = json.dumps({"issuer": realm, "jwks_uri": JWKS}).encode()
    async with watched(published, issuer=realm, jwks_url="") as keys:
        assert await keys.find("k1", "ES256")
    assert published.reads == [f"{realm}.well-known/openid-configuration", metadata, JWKS]


async def test_the_key_set_is_looked_up_again_after_it_could_not_be_read():
    published = Published()
    old, new = f"{ISSUER}/old", f"{ISSUER}/new"
    published.documents[METADATA] = json.dumps({"issuer": ISSUER, "jwks_uri": old}).encode()
    published.documents[old] = published.key_set()
    async with watched(published, jwks_url="") as keys:
        assert await keys.find("k1", "ES256")
        published.keys[:] = [new_key("k2")]
        published.documents.clear()
        metadata = json.dumps({"issuer": ISSUER, "jwks_uri": new}).encode()
        published.documents.update({METADATA: metadata, new: published.key_set()})
        with later(150), pytest.raises(TokenRefused):
            await keys.find("k2", "ES256")
        with later(300):
            assert await keys.find("k2", "ES256")


@pytest.mark.parametrize(
    "metadata", [{"issuer": "https://evil.example", "jwks_uri": JWKS}, {"issuer": ISSUER}, []]
)
async def test_metadata_of_another_issuer_is_not_believed(metadata):
    published = Published()
    published.documents[METADATA] = json.dumps(metadata).encode()
    async with watched(published, jwks_url="") as keys:
        with pytest.raises(DependencyDown):
            await keys.find("k1", "ES256")


async def test_a_reading_that_hangs_ends_in_time():
    async def fetch(url, max_bytes):
        await asyncio.Event().wait()

    keys = IssuerKeys(issuer_settings(), TokenSettings(timeout_s=0.05), fetch)
    await keys.refresh()
    assert keys.problem == "no answer in time"


async def test_who_gives_up_does_not_end_the_reading_of_others():
    published, go_on = Published(), asyncio.Event()

    async def fetch(url, max_bytes):
        await go_on.wait()
        return await published.fetch(url, max_bytes)

    keys = IssuerKeys(issuer_settings(), TokenSettings(), fetch)
    async with TaskOwner() as tasks, asyncio.TaskGroup() as group:
        tasks.start(keys.watch(), "reader")
        patient = group.create_task(keys.find("k1", "ES256"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await keys.find("k1", "ES256")
        go_on.set()
        assert (await patient).kid == "k1"
    assert len(published.reads) == 1


def test_keys_that_must_not_verify_are_not_used():
    good = new_key().as_dict(private=False)
    assert public_key({**good, "x5c": "anything"}).kid == "k1"
    wrong = [
        new_key().as_dict(private=True),
        OctKey.generate_key(256).as_dict(private=True),
        {"kty": "oct"},
        {**good, "use": "enc"},
        {**good, "key_ops": ["sign"]},
        {**good, "key_ops": 7},
        {**good, "kid": 7},
        {**good, "kty": "AKP"},
        {**good, "x": good["y"]},
        {**good, "x": None},
        {**good, "crv": "P-192"},
        "k1",
    ]
    for entry in wrong:
        with pytest.raises(UNUSABLE):
            public_key(entry)


@pytest.mark.parametrize("bits", [1024, 2040, 8200])
def test_rsa_keys_that_are_short_or_take_long_are_not_used(bits):
    modulus = encoded((2 ** (bits - 1) + 1).to_bytes(bits // 8)).decode()
    with pytest.raises(ValueError, match=f"{bits} bits"):
        public_key({"kty": "RSA", "n": modulus, "e": "AQAB"})
    assert public_key(new_key(algorithm="RS256").as_dict(private=False))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.sampled_from(["AQAB", "RSA", "P-256"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
WHOLE = [new_key(algorithm=name).as_dict(private=False) for name in ("ES256", "RS256", "EdDSA")]


@hypothesis.settings(deadline=None)
@hypothesis.given(
    st.sampled_from(WHOLE), st.dictionaries(st.sampled_from([*MEMBERS, "key_ops"]), JSON)
)
def test_a_key_that_cannot_be_read_is_skipped_whatever_is_wrong_with_it(whole, changes):
    """An error would end the task that reads the keys."""
    good = new_key("good").as_dict(private=False)
    published = Published()
    published.documents[JWKS] = json.dumps({"keys": [{**whole, **changes}, good]}).encode()
    keys = IssuerKeys(issuer_settings(), TokenSettings(), published.fetch)

    async def found():
        await keys.refresh()
        with suppress(TokenRefused):
            await keys.find("k1", "ES256")
        return await keys.find("good", "ES256")

    assert asyncio.run(found()).kid == "good"


async def test_unusable_keys_of_a_set_do_not_spoil_the_others():
    published = Published()
    good = published.keys[0].as_dict(private=False)
    entries = [{"kty": "AKP"}, {"kty": "oct", "k": "x"}, 7, good]
    published.documents[JWKS] = json.dumps({"keys": entries}).encode()
    async with watched(published) as keys:
        assert await keys.find("k1", "ES256")


async def test_the_reason_why_keys_cannot_be_read_is_kept_short():
    async def fetch(url, max_bytes):
        raise DocumentUnavailable("x" * 5000)

    keys = IssuerKeys(issuer_settings(), TokenSettings(), fetch)
    await keys.refresh()
    assert len(keys.problem) == 200
