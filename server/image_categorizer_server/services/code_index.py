"""The codes of many embeddings in memory, and those nearest to one of them.

There is no graph to build, and a code is added or removed in no time.  All codes are compared, by
the first half of their bits; those that are near then by all bits.  They are kept word by word, so
that each step of NumPy runs over many codes at once.
"""

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.services.sign_codes import WORDS

FIRST_CAPACITY = 256
GROWTH = 1.5
BLOCK = 16_384
"""Codes that are compared at once: their words stay in the processor's cache."""
FIRST_WORDS = WORDS // 2
"""Of a code, by which all are compared."""
SHORT_LIST = 16
"""How many times as many as are wanted are compared by all bits.  Of a million, with 500 wanted,
recall is that of whole codes, in half the time."""
SAMPLE = 61
ROW_BYTES = WORDS * 8 + 8


class CodeIndex:
    """Codes with their numbers; not thread-safe."""

    def __init__(self) -> None:
        self._codes = np.empty((WORDS, FIRST_CAPACITY), np.uint64)
        self._numbers = np.empty(FIRST_CAPACITY, np.int64)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def size_bytes(self) -> int:
        """The memory that it takes."""
        return self._numbers.size * ROW_BYTES

    def add(self, numbers: NDArray[np.int64], codes: NDArray[np.uint8]) -> None:
        """Adds codes.

        Args:
            numbers: int64 (N,), none of them in the index.
            codes: uint8 (N, CODE_BYTES).
        """
        end = self._count + len(numbers)
        if end > self._numbers.size:
            self._grow(max(end, int(self._numbers.size * GROWTH)))
        self._codes[:, self._count : end] = codes.view(np.uint64).T
        self._numbers[self._count : end] = numbers
        self._count = end

    def _grow(self, capacity: int) -> None:
        codes, numbers = np.empty((WORDS, capacity), np.uint64), np.empty(capacity, np.int64)
        codes[:, : self._count] = self._codes[:, : self._count]
        numbers[: self._count] = self._numbers[: self._count]
        self._codes, self._numbers = codes, numbers

    def remove(self, numbers: NDArray[np.int64]) -> None:
        """Removes the codes of these numbers, as far as they are in the index."""
        held = self._numbers[: self._count]
        gone = np.isin(held, numbers).nonzero()[0]
        keep = self._count - len(gone)
        # The last ones take the places of those that are removed.
        holes = gone[gone < keep]
        movers = np.setdiff1d(np.arange(keep, self._count), gone, assume_unique=True)
        self._codes[:, holes] = self._codes[:, movers]
        self._numbers[holes] = self._numbers[movers]
        self._count = keep

    def nearest(self, code: bytes, limit: int) -> NDArray[np.int64]:
        """Returns the numbers int64 (up to `limit`,) of the codes nearest to one; in no order.

        One that is nearest by all bits, but not near by the first half of them, is missed.
        """
        count = self._count
        if limit >= count:
            return self._numbers[:count].copy()
        words = np.frombuffer(code, np.uint64)
        by_half = self._distances(words[:FIRST_WORDS])
        near = smallest(by_half, limit * SHORT_LIST)
        distances = by_half[near]
        for row, word in zip(self._codes[FIRST_WORDS:], words[FIRST_WORDS:], strict=True):
            distances += np.bitwise_count(row[near] ^ word)
        best = distances.argpartition(limit)[:limit] if len(near) > limit else slice(None)
        return self._numbers[near[best]]

    def _distances(self, words: NDArray[np.uint64]) -> NDArray[np.uint16]:
        """Returns the number of bits uint16 (N,) in which each code differs from some words."""
        found = np.zeros(self._count, np.uint16)
        differing, counts = np.empty(BLOCK, np.uint64), np.empty(BLOCK, np.uint8)
        for start in range(0, self._count, BLOCK):
            end = min(start + BLOCK, self._count)
            size, sums = end - start, found[start:end]
            for row, word in zip(self._codes[: len(words)], words, strict=True):
                np.bitwise_xor(row[start:end], word, out=differing[:size])
                np.bitwise_count(differing[:size], out=counts[:size])
                np.add(sums, counts[:size], out=sums)
        return found


def smallest(values: NDArray[np.uint16], least: int) -> NDArray[np.intp]:
    """Returns the places (`least` or more) of the smallest of values uint16 (N,), in order.

    A sample tells about how small they are: a partition of all takes four times as long.
    """
    if least >= len(values):
        return np.arange(len(values))
    sample = np.sort(values[::SAMPLE])
    bound = int(sample[min(len(sample) * least // len(values) + 1, len(sample) - 1)])
    while True:
        found = np.flatnonzero(values <= bound)
        if len(found) >= least:
            return found
        bound += 1
