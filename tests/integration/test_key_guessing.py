"""What a bad key costs with a real database, and what the time of a refusal reveals."""

import math
import random
import statistics
import time
import zlib

import pytest
from image_categorizer_server.access.api_key import ALPHABET, CHECKSUM_LENGTH, PREFIX, new_key
from image_categorizer_server.access.guesses import Guesses
from image_categorizer_server.access.key_uses import KeyUses
from image_categorizer_server.access.key_verifier import KeyVerifier
from image_categorizer_server.db.key import find_key, note_uses
from image_categorizer_server.domain.access import Role
from image_categorizer_server.errors import CredentialsInvalid
from image_categorizer_server.services.key import create_key

SAMPLES = 2000
KNOWN_CHARACTERS = 40
MAX_BAD_KEY_MS = 1.0


@pytest.fixture
def verifier(database):
    return KeyVerifier(find_key, 60, Guesses(10**9), KeyUses(note_uses, 60))


def sharing(secret):
    """Returns an unknown key that has the first characters of a real one, and a right checksum."""
    known = secret[len(PREFIX) : len(PREFIX) + KNOWN_CHARACTERS]
    body = known + "".join(random.choices(ALPHABET, k=3))
    number, checksum = zlib.crc32(body.encode()), ""
    for _ in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, len(ALPHABET))
        checksum += ALPHABET[digit]
    return f"{PREFIX}{body}{checksum}"


async def refused_in_s(verifier, key):
    start_s = time.perf_counter()
    with pytest.raises(CredentialsInvalid):
        await verifier.verify(key, "192.0.2.1")
    return time.perf_counter() - start_s


def probability_of_no_difference(one, other):
    """Returns the p value of the Mann-Whitney U test, by its normal approximation."""
    ranked = sorted([(value, True) for value in one] + [(value, False) for value in other])
    ranks = sum(rank for rank, (_, is_one) in enumerate(ranked, 1) if is_one)
    count, others = len(one), len(other)
    mean = count * (count + others + 1) / 2
    deviation = math.sqrt(count * others * (count + others + 1) / 12)
    return math.erfc(abs(ranks - mean) / deviation / math.sqrt(2))


def test_the_statistic_sees_a_difference_of_a_twentieth():
    generator = random.Random(2)
    one = [generator.gauss(1, 0.2) for _ in range(1000)]
    assert probability_of_no_difference(one, [value * 1.05 for value in one]) < 0.001
    assert probability_of_no_difference(one[:500], one[500:]) > 0.01


async def test_the_time_of_a_refusal_does_not_reveal_how_much_of_a_key_is_right(verifier):
    secret = (await create_key("real", Role.ADMIN)).secret
    # By chance, one try in a hundred finds a difference where there is none.
    for _ in range(3):
        kinds = [True, False] * (SAMPLES // 2)
        random.shuffle(kinds)
        times = {True: [], False: []}
        for knows_most in kinds:
            key = sharing(secret) if knows_most else new_key()
            times[knows_most].append(await refused_in_s(verifier, key))
        probability = probability_of_no_difference(*times.values())
        medians = [f"{statistics.median(found) * 1e6:.0f} us" for found in times.values()]
        print(f"p = {probability:.3f}, medians {medians}")
        if probability > 0.01:
            return
    pytest.fail(f"the times differ: p = {probability:g}")


async def test_a_bad_key_costs_little_cpu_even_if_the_database_is_asked(verifier):
    await create_key("real", Role.ADMIN)
    for kind, keys in {
        "unknown": [new_key() for _ in range(1000)],
        "of a wrong checksum": [new_key()[:-1] + "!" for _ in range(1000)],
    }.items():
        start_s = time.process_time()
        for key in keys:
            with pytest.raises(CredentialsInvalid):
                await verifier.verify(key, "192.0.2.1")
        spent_ms = (time.process_time() - start_s) * 1000 / len(keys)
        print(f"a key {kind} costs {spent_ms:.3f} ms of CPU")
        assert spent_ms <= MAX_BAD_KEY_MS
