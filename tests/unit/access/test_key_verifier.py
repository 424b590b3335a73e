"""Keys are verified, cached and forgotten."""

import asyncio
import random
import time
import zlib
from datetime import timedelta

import pytest
from image_categorizer_server import clock
from image_categorizer_server.access.api_key import (
    ALPHABET,
    CHECKSUM_LENGTH,
    PREFIX,
    is_well_formed,
    new_key,
    sha256_of,
)
from image_categorizer_server.access.key_uses import KeyUses
from image_categorizer_server.access.key_verifier import CACHED_KEYS
from image_categorizer_server.domain.access import Role, Scope
from image_categorizer_server.domain.key import FoundKey, network_of
from image_categorizer_server.errors import AddressNotAllowed, CredentialsInvalid, DependencyDown

from tests.support.keys import Rows, Written, key_of, verifier_of

ADDRESS = "192.0.2.1"
NOW = clock.now()
SOON = NOW + timedelta(hours=1)
PAST = NOW - timedelta(seconds=1)


@pytest.fixture(autouse=True)
def restored_clock():
    yield
    clock.shift(0)


async def test_a_good_key_is_looked_up_once():
    secret = new_key()
    rows = Rows((sha256_of(secret), key_of(scopes=frozenset({Scope.CLASSIFY}))))
    verifier = verifier_of(rows)
    for _ in range(2):
        principal = await verifier.verify(secret, ADDRESS)
        assert (principal.actor_id, principal.tenant_id) == ("k1", "default")
        assert (principal.role, principal.scopes) == (Role.CLASSIFIER, {Scope.CLASSIFY})
    assert rows.queries == 1


@pytest.mark.parametrize(
    "found",
    [
        None,
        key_of(revoke_time=NOW),
        key_of(expire_time=PAST),
        FoundKey(key_of(), is_previous=True),
        FoundKey(key_of(previous_secret_expire_time=PAST), is_previous=True),
        FoundKey(key_of(previous_secret_expire_time=SOON, revoke_time=NOW), is_previous=True),
    ],
    ids=["unknown", "revoked", "expired", "replaced", "overlap ended", "overlapping but revoked"],
)
async def test_keys_that_are_not_valid_are_refused_alike(found):
    secret = new_key()
    verifier = verifier_of(Rows((sha256_of(secret), found)))
    for _ in range(2):
        with pytest.raises(CredentialsInvalid, match="^the API key is not valid$"):
            await verifier.verify(secret, ADDRESS)


async def test_the_previous_secret_is_accepted_until_the_overlap_ends():
    secret = new_key()
    found = FoundKey(key_of(previous_secret_expire_time=SOON), is_previous=True)
    verifier = verifier_of(Rows((sha256_of(secret), found)), cache_s=1e9)
    assert (await verifier.verify(secret, ADDRESS)).actor_id == "k1"
    clock.shift(3700)
    with pytest.raises(CredentialsInvalid):
        await verifier.verify(secret, ADDRESS)


async def test_a_known_key_survives_a_lost_database_but_expires_on_time():
    secret = new_key()
    key = key_of(expire_time=SOON)
    verifier = verifier_of(Rows((sha256_of(secret), key), queries_until_down=1))
    await verifier.verify(secret, ADDRESS)
    await verifier.verify(secret, ADDRESS)
    with pytest.raises(DependencyDown):
        await verifier.verify(new_key(), ADDRESS)
    clock.shift(3700)
    with pytest.raises(CredentialsInvalid):
        await verifier.verify(secret, ADDRESS)


@pytest.mark.parametrize(
    ("address", "is_allowed"),
    [("192.0.2.77", True), ("192.0.3.1", False), ("2001:db8::7", True), ("", False)],
)
async def test_a_key_is_accepted_only_from_its_addresses(address, is_allowed):
    secret = new_key()
    networks = (network_of("192.0.2.0/24"), network_of("2001:db8::/32"))
    verifier = verifier_of(Rows((sha256_of(secret), key_of(allowed_addresses=networks))))
    if is_allowed:
        await verifier.verify(secret, address)
    else:
        with pytest.raises(AddressNotAllowed, match="address"):
            await verifier.verify(secret, address)


async def test_whoever_does_not_have_a_valid_secret_learns_nothing_of_addresses():
    secret = new_key()
    key = key_of(allowed_addresses=(network_of("192.0.2.0/24"),), revoke_time=NOW)
    with pytest.raises(CredentialsInvalid):
        await verifier_of(Rows((sha256_of(secret), key))).verify(secret, "198.51.100.1")


async def test_unknown_keys_are_cached_within_a_bound_and_drive_out_no_known_key():
    secret, unknown = new_key(), new_key()
    rows = Rows((sha256_of(secret), key_of()))
    verifier = verifier_of(rows)
    await verifier.verify(secret, ADDRESS)
    for key in (unknown, unknown, *(new_key() for _ in range(CACHED_KEYS))):
        with pytest.raises(CredentialsInvalid):
            await verifier.verify(key, "")
    assert rows.queries == CACHED_KEYS + 2
    await verifier.verify(secret, ADDRESS)
    assert rows.queries == CACHED_KEYS + 2
    # The oldest unknown key had to go.
    with pytest.raises(CredentialsInvalid):
        await verifier.verify(unknown, "")
    assert rows.queries == CACHED_KEYS + 3


async def test_guessing_is_limited_for_its_address_and_locks_out_nobody_who_has_a_key():
    secret, other = new_key(), new_key()
    rows = Rows((sha256_of(secret), key_of()), (sha256_of(other), key_of(key_id="k2")))
    verifier = verifier_of(rows, max_unknown=10)
    await verifier.verify(secret, ADDRESS)
    for _ in range(50):
        with pytest.raises(CredentialsInvalid):
            await verifier.verify(new_key(), ADDRESS)
    assert rows.queries == 11
    # The owner is at the same address, and the cache has forgotten the key.
    verifier.forget_all()
    assert (await verifier.verify(secret, ADDRESS)).actor_id == "k1"
    # So is somebody whose key was never used here: that has to wait, or another address.
    with pytest.raises(CredentialsInvalid, match="try again in a minute"):
        await verifier.verify(other, ADDRESS)
    assert (await verifier.verify(other, "198.51.100.9")).actor_id == "k2"


async def test_a_changed_key_is_looked_up_again_and_others_are_not():
    first, second, foreign = new_key(), new_key(), new_key()
    rows = Rows(
        (sha256_of(first), key_of(key_id="k1")),
        (sha256_of(second), key_of(key_id="k2")),
        (sha256_of(foreign), key_of(key_id="k3", tenant_id="other")),
    )
    verifier = verifier_of(rows)

    async def queries():
        before = rows.queries
        for secret in (first, second, foreign):
            await verifier.verify(secret, ADDRESS)
        return rows.queries - before

    assert await queries() == 3
    assert await queries() == 0
    verifier.forget_key("k1")
    assert await queries() == 1
    verifier.forget_tenant("default")
    assert await queries() == 2
    verifier.forget_all()
    assert await queries() == 3


async def test_a_row_that_was_read_before_a_change_is_not_cached():
    secret = new_key()
    sha256 = sha256_of(secret)
    rows = Rows((sha256, key_of()))
    asked, answer = asyncio.Event(), asyncio.Event()

    class Slow:
        async def find(self, secret_sha256):
            found = await rows.find(secret_sha256)
            asked.set()
            await answer.wait()
            return found

    verifier = verifier_of(Slow())
    async with asyncio.TaskGroup() as group:
        group.create_task(verifier.verify(secret, ADDRESS))
        await asked.wait()
        rows.by_hash[sha256] = FoundKey(key_of(revoke_time=clock.now()))
        verifier.forget_key("k1")
        answer.set()
    with pytest.raises(CredentialsInvalid):
        await verifier.verify(secret, ADDRESS)


async def test_only_accepted_keys_count_as_used():
    good, expired = new_key(), new_key()
    written = Written()
    uses = KeyUses(written.write, interval_s=60)
    rows = Rows(
        (sha256_of(good), key_of(key_id="good")),
        (sha256_of(expired), key_of(key_id="expired", expire_time=PAST)),
    )
    verifier = verifier_of(rows, uses)
    await verifier.verify(good, ADDRESS)
    for secret in (expired, new_key()):
        with pytest.raises(CredentialsInvalid):
            await verifier.verify(secret, ADDRESS)
    await uses.write()
    assert [list(use) for use in written.uses] == [["good"]]


def near_misses(secret, count, generator):
    """Yields keys one edit away from a real one, some with a checksum that is right again."""
    body = secret[len(PREFIX) : -CHECKSUM_LENGTH]
    while count:
        place, letter = generator.randrange(len(body)), generator.choice(ALPHABET)
        changed = body[:place] + letter + body[place + 1 :]
        kind = generator.randrange(4)
        key = {
            0: f"{PREFIX}{changed}{secret[-CHECKSUM_LENGTH:]}",
            1: f"{PREFIX}{changed}{checksum_of(changed)}",
            2: secret[:-1] + letter,
            3: secret.swapcase(),
        }[kind]
        if key != secret:
            count -= 1
            yield key


def checksum_of(body):
    """Returns the checksum, as the documentation describes it."""
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, 62)
        digits += ALPHABET[digit]
    return digits


async def test_of_ten_thousand_bad_keys_none_is_accepted_each_is_cheap_and_few_reach_the_database():
    generator = random.Random(1)
    secrets = [new_key() for _ in range(10)]
    rows = Rows(*((sha256_of(secret), key_of()) for secret in secrets))
    verifier = verifier_of(rows)
    tried = [new_key() for _ in range(2000)]
    tried += ["".join(generator.choices(ALPHABET, k=52)) for _ in range(1000)]
    tried += [PREFIX + "".join(generator.choices(ALPHABET, k=49)) for _ in range(2000)]
    for secret in secrets:
        tried += near_misses(secret, 500, generator)
    assert len(tried) == 10_000
    start_s = time.process_time()
    for key in tried:
        with pytest.raises(CredentialsInvalid):
            await verifier.verify(key, "")
    spent_ms = (time.process_time() - start_s) * 1000 / len(tried)
    well_formed = {key for key in tried if is_well_formed(key)}
    assert rows.queries == len(well_formed)
    assert 2000 < len(well_formed) < 5000
    assert spent_ms <= 1
