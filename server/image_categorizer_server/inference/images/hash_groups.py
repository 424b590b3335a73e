"""Groups of hashes that differ by few bits: multi-index hashing (Norouzi, Punjani, Fleet 2012).

Hashes of 64 bits have four bands of 16.  If two hashes differ by 4a + b bits at most, one of the
first b + 1 bands differs by a bits at most, or one of the others by a - 1.  So only hashes are
compared that have such a band in common: a hash meets those in the buckets of its band, and of the
bands that differ from it by so few bits.
"""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.errors import FailedPrecondition

BANDS = 4
BAND_BITS = 16
BUCKETS = 1 << BAND_BITS
PAIRS_AT_ONCE = 1 << 21
MAX_PAIRS = 1_000_000_000
"""About 40 s of one core."""
Hashes = NDArray[np.uint64]
Numbers = NDArray[np.int64]


def labels_of(hashes: Hashes, max_distance_bits: int) -> Numbers:
    """Returns the group of each hash.

    Two hashes are in one group if they differ by few bits, or a chain of such hashes joins them.

    Args:
        hashes: uint64 (N,).
        max_distance_bits: by how many bits, 0 to 11.

    Returns:
        int64 (N,): the number of the group of each hash.

    Raises:
        FailedPrecondition: there are too many pairs to compare.
    """
    different, places = np.unique(hashes, return_inverse=True)
    if not max_distance_bits:
        return places
    groups = np.arange(len(different))
    buckets = [_Buckets(different, band) for band in range(BANDS)]
    wanted = [
        (band, mask)
        for band, radius in zip(buckets, _radii(max_distance_bits), strict=True)
        for mask in _masks(radius)
    ]
    pairs = sum(band.count(mask) for band, mask in wanted)
    if pairs > MAX_PAIRS:
        raise FailedPrecondition(
            f"{len(different)} hashes are too similar to compare: {pairs} pairs; allow fewer bits"
        )
    for band, mask in wanted:
        for one, other in band.pairs(mask):
            bits = np.bitwise_count(different[one] ^ different[other])
            near = np.flatnonzero(bits <= max_distance_bits)
            near = near[groups[one[near]] != groups[other[near]]]
            if near.size:
                groups = _joined(groups, one[near], other[near])
    return groups[places]


def _radii(max_distance_bits: int) -> list[int]:
    """Returns by how many bits each band may differ; -1: it need not be looked at."""
    least, more = divmod(max_distance_bits, BANDS)
    return [least if band <= more else least - 1 for band in range(BANDS)]


def _masks(radius: int) -> list[int]:
    """Returns all changes of a band by so many bits at most."""
    return [
        sum(1 << bit for bit in bits)
        for count in range(radius + 1)
        for bits in combinations(range(BAND_BITS), count)
    ]


class _Buckets:
    """Hashes by one of their bands."""

    def __init__(self, hashes: Hashes, band: int) -> None:
        shift = np.uint64(band * BAND_BITS)
        keys = ((hashes >> shift) & np.uint64(BUCKETS - 1)).astype(np.int64)
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]
        self._counts = np.bincount(keys, minlength=BUCKETS)
        self._ends = np.cumsum(self._counts)

    def count(self, mask: int) -> int:
        """Returns how many pairs of hashes have bands that differ by a mask."""
        if mask == 0:
            return int((self._counts * (self._counts - 1) // 2).sum())
        return int(self._counts @ self._counts[np.arange(BUCKETS) ^ mask]) // 2

    def pairs(self, mask: int) -> Iterator[tuple[Numbers, Numbers]]:
        """Yields these pairs, each once, a few at a time."""
        places = np.arange(len(self._keys))
        if mask:
            places = places[self._keys < self._keys ^ mask]
        keys = self._keys[places] ^ mask
        ends = self._ends[keys]
        starts = ends - self._counts[keys] if mask else places + 1
        sizes = ends - starts
        has_some = sizes > 0
        places, starts, sizes = places[has_some], starts[has_some], sizes[has_some]
        totals = np.cumsum(sizes)
        done = 0
        while done < len(places):
            before = int(totals[done - 1]) if done else 0
            # One hash at least, whose bucket has no more hashes than there are.
            last = max(int(np.searchsorted(totals, before + PAIRS_AT_ONCE)), done + 1)
            some = slice(done, last)
            firsts = np.repeat(totals[some] - sizes[some] - before, sizes[some])
            seconds = np.arange(len(firsts)) - firsts + np.repeat(starts[some], sizes[some])
            yield self._order[np.repeat(places[some], sizes[some])], self._order[seconds]
            done = last


def _joined(groups: Numbers, one: Numbers, other: Numbers) -> Numbers:
    """Returns the groups once those of pairs of hashes are one."""
    # Imported here: few servers compare images, and all would start with it.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = int(groups.max()) + 1
    edges = coo_array((np.ones(len(one), bool), (groups[one], groups[other])), (size, size))
    _, joined = connected_components(edges, directed=False)
    numbers: Numbers = joined[groups].astype(np.int64)
    return numbers
