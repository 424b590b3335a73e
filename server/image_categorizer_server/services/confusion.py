"""Corrections of one of a tenant's categories to another: they decide between these two only.

    the head says A ─▶ have people corrected A to B, often enough? ─▶ looks more like B? it is B

Only answers with A change, and only to B: whatever else the head says stays as it is.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from image_categorizer_server.inference.heads.examples import Labelled, Vectors
from image_categorizer_server.inference.heads.pair import (
    FIRST,
    SECOND,
    Pair,
    Scale,
    separating,
)

MIN_CORRECTIONS = 5
"""Of one confusion, in either direction: fewer say nothing about other images."""
MAX_CONFUSIONS = 8
"""The most frequent ones count: all are learned whenever somebody has said something."""
MAX_OF_CATEGORY = 100
"""Of examples, and of corrections, that one of the two is learned from."""


@dataclass(frozen=True, eq=False)
class Said:
    """Images with categories: examples, or corrections."""

    image_ids: tuple[str, ...]
    shown: tuple[str, ...]
    """What they show."""
    vectors: Vectors
    """float32 (N, D), each of length 1."""
    answered: tuple[str, ...] = ()
    """What the head had answered: of corrections only."""

    def of(self, name: str) -> Vectors:
        """Returns the embeddings of those that show a category, float32 (M, D)."""
        chosen = [i for i, shown in enumerate(self.shown) if shown == name]
        found: Vectors = self.vectors[chosen[:MAX_OF_CATEGORY]]
        return found

    def similarities(self, vector: Vectors) -> Vectors:
        """Returns how similar each is to a vector, float32 (D,) of length 1: float32 (N,)."""
        found: Vectors = self.vectors @ vector if self.image_ids else np.empty(0, np.float32)
        return found

    def positions(self, answered: str, shown: str) -> list[int]:
        """Returns where the corrections of one category to another are."""
        pairs = zip(self.answered, self.shown, strict=True)
        return [i for i, pair in enumerate(pairs) if pair == (answered, shown)]


NOTHING_SAID = Said((), (), np.empty((0, 0), np.float32))


@dataclass(frozen=True, eq=False)
class Confusion:
    """What tells a category from the one that it was corrected to."""

    shown: str
    """The one that it was corrected to."""
    pair: Pair
    positions: tuple[int, ...]
    """Of the corrections."""


Confusions = Mapping[str, Sequence[Confusion]]
"""By what the head answers."""


def confusions_of(examples: Said, corrections: Said, own: Sequence[str]) -> Confusions:
    """Returns the confusions that people have corrected, and that can be told apart.

    Args:
        examples: that the head was made of.
        corrections: of its answers.
        own: the categories that it answers.
    """
    named = zip(corrections.answered, corrections.shown, strict=True)
    counts = Counter(tuple(sorted(names)) for names in named)
    often = [names for names, n in sorted(counts.items()) if n >= MIN_CORRECTIONS]
    often.sort(key=lambda names: -counts[names])
    scale = Scale.of(examples.vectors)
    found: dict[str, list[Confusion]] = {}
    for names in often[:MAX_CONFUSIONS]:
        first, second = names if names[0] in own else names[::-1]
        pair = _pair(examples, corrections, (first, second), scale)
        if pair is None:
            continue
        for answered, shown, decides in ((first, second, pair), (second, first, pair.reversed())):
            if positions := corrections.positions(answered, shown):
                found.setdefault(answered, []).append(Confusion(shown, decides, tuple(positions)))
    return found


def _pair(examples: Said, corrections: Said, names: tuple[str, str], scale: Scale) -> Pair | None:
    """Returns what tells two categories apart; None if their corrections do not help."""
    first, second = names
    parts = [
        (examples.of(first), FIRST, False),
        (examples.of(second), SECOND, False),
        (_corrected(corrections, second, first), FIRST, True),
        (_corrected(corrections, first, second), SECOND, True),
    ]
    vectors = np.concatenate([found for found, _, _ in parts])
    labels = np.repeat([label for _, label, _ in parts], [len(found) for found, _, _ in parts])
    is_correction = np.repeat([one for _, _, one in parts], [len(found) for found, _, _ in parts])
    both = Labelled(vectors, labels.astype(np.intp), 2)
    return separating(both, is_correction, scale) if both.counts.all() else None


def _corrected(corrections: Said, answered: str, shown: str) -> Vectors:
    found: Vectors = corrections.vectors[corrections.positions(answered, shown)[:MAX_OF_CATEGORY]]
    return found
