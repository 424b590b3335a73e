"""The codes of embeddings: near ones tell similar embeddings, and an index finds them."""

import numpy as np
import pytest
from image_categorizer_server.services.code_index import (
    BLOCK,
    FIRST_CAPACITY,
    SHORT_LIST,
    CodeIndex,
    smallest,
)
from image_categorizer_server.services.sign_codes import BITS, CODE_BYTES, code_of, codes_of

DIMENSIONS = 64


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture
def random():
    return np.random.default_rng(3)


@pytest.fixture
def vectors(random):
    return unit(np.abs(random.standard_normal((3000, DIMENSIONS))))


def distance(one, other):
    return int(np.bitwise_count(one ^ other).sum())


def test_a_code_is_the_same_on_every_machine(vectors):
    fixed = unit(np.arange(1.0, 17.0) % 5)
    assert code_of(fixed)[:8].hex() == "25584b371142fdfc"
    assert [code_of(v) for v in vectors[:3]] == [c.tobytes() for c in codes_of(vectors[:3])]
    assert len(code_of(fixed)) == CODE_BYTES


def test_the_distance_of_codes_tells_the_angle(vectors):
    codes, centred = codes_of(vectors), unit(vectors - vectors.mean(1, keepdims=True))
    angles = np.arccos((centred[0] @ centred[1:].T).clip(-1, 1))
    shares = np.array([distance(codes[0], other) for other in codes[1:]]) / BITS
    assert np.abs(shares * np.pi - angles).max() < 0.2
    assert np.abs(shares * np.pi - angles).mean() < 0.04


def test_an_index_finds_the_codes_nearest_by_distance_in_blocks_of_any_size(random):
    count = BLOCK + 100
    codes = random.integers(0, 256, (count, CODE_BYTES), np.uint8)
    codes[[7, BLOCK + 50]] = codes[3]
    codes[[7, BLOCK + 50], 0] ^= 1
    index = CodeIndex()
    index.add(np.arange(count), codes)
    assert sorted(index.nearest(codes[3].tobytes(), 3)) == [3, 7, BLOCK + 50]
    assert len(index.nearest(codes[3].tobytes(), count)) == count


def test_codes_that_are_added_and_removed_in_any_order_leave_the_others(random):
    codes = random.integers(0, 256, (4 * FIRST_CAPACITY, CODE_BYTES), np.uint8)
    index, held = CodeIndex(), set()
    for step in range(40):
        new = np.array([n for n in random.integers(0, len(codes), 60) if n not in held])
        new = np.unique(new).astype(np.int64)
        index.add(new, codes[new])
        held |= set(new.tolist())
        gone = random.choice(sorted(held), 20 + step % 25, replace=False)
        index.remove(np.append(gone, 10**6))
        held -= set(gone.tolist())
        assert len(index) == len(held)
    assert sorted(index.nearest(codes[0].tobytes(), 10**6).tolist()) == sorted(held)
    for number in sorted(held)[::10]:
        assert index.nearest(codes[number].tobytes(), 1).tolist() == [number]
    index.remove(np.array(sorted(held)))
    assert index.nearest(codes[0].tobytes(), 5).tolist() == []


@pytest.mark.parametrize("least", [1, 40, 5000, 100_000])
def test_the_smallest_of_many_are_found(random, least):
    values = random.binomial(1024, 0.5, 60_000).astype(np.uint16)
    found = smallest(values, least)
    assert len(found) >= min(least, len(values))
    others = np.delete(values, found)
    assert not len(others) or values[found].max() < others.min()
    assert len(found) < 3 * least + 1000


def test_codes_are_ordered_by_all_their_bits(random):
    count, limit = 3 * SHORT_LIST * 10, 10
    codes = random.integers(0, 256, (count, CODE_BYTES), np.uint8)
    wanted = codes[0].copy()
    codes[:limit] = wanted
    codes[:limit, 0] ^= 1
    codes[limit : 2 * limit] = wanted  # equal in the first half, not in the second
    codes[limit : 2 * limit, CODE_BYTES // 2 :] ^= 255
    index = CodeIndex()
    index.add(np.arange(count), codes)
    assert sorted(index.nearest(wanted.tobytes(), limit)) == list(range(limit))
