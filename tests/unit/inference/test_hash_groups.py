"""Groups of similar hashes, compared with comparing all pairs."""

import numpy as np
import pytest
from image_categorizer_server.errors import FailedPrecondition
from image_categorizer_server.inference.images import hash_groups
from image_categorizer_server.inference.images.hash_groups import labels_of
from scipy.sparse.csgraph import connected_components


def near_hashes(generator, centres, copies, most_bits):
    """Random hashes, each with copies that differ from it by some bits."""
    found = []
    for centre in generator.integers(0, 2**64, centres, np.uint64):
        found.append(int(centre))
        for _ in range(copies):
            bits = generator.choice(64, generator.integers(0, most_bits + 1), replace=False)
            found.append(int(centre) ^ sum(1 << int(bit) for bit in bits))
    return np.array(found, np.uint64)


def partition(labels):
    groups = {}
    for place, label in enumerate(labels.tolist()):
        groups.setdefault(label, []).append(place)
    return sorted(map(tuple, groups.values()))


@pytest.mark.parametrize("bits", range(12))
def test_groups_are_those_of_comparing_all_pairs(bits):
    hashes = near_hashes(np.random.default_rng(bits), 120, 4, 14)
    distances = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
    _, expected = connected_components(distances <= bits, directed=False)
    assert partition(labels_of(hashes, bits)) == partition(expected)


def test_many_pairs_are_compared_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr(hash_groups, "PAIRS_AT_ONCE", 50)
    hashes = np.arange(300, dtype=np.uint64)  # three bands are the same
    distances = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
    _, expected = connected_components(distances <= 1, directed=False)
    assert partition(labels_of(hashes, 1)) == partition(expected)
    assert partition(labels_of(hashes, 0)) == [(n,) for n in range(300)]


def test_equal_hashes_are_one_group_without_being_compared():
    hashes = np.array([7] * 200_000 + [2**63], np.uint64)
    assert len(partition(labels_of(hashes, 3))) == 2


def test_too_similar_hashes_are_refused_before_they_are_compared():
    hashes = np.arange(100_000, dtype=np.uint64)
    with pytest.raises(FailedPrecondition, match="too similar"):
        labels_of(hashes, 3)
    assert len(labels_of(np.empty(0, np.uint64), 4)) == 0
