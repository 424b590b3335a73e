"""The categories of a model with the broader ones above them, and how confident it is of each.

The outputs of the network come first, by position; broader categories follow.  A category may have
several parents: what is above it are all categories that have all of its outputs.  A broader
category that is an output itself, such as `dog` beside `poodle`, counts its own output, too.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.domain.classification import NO_CATEGORY, Category, Prediction
from image_categorizer_server.domain.model import Activation
from image_categorizer_server.inference.models.manifest import CategoryEntry


@dataclass(frozen=True, slots=True)
class Filters:
    """Which outputs may be predicted."""

    included: frozenset[int] | None = None
    """None for all."""
    excluded: frozenset[int] = frozenset()

    def indices(self, count: int) -> NDArray[np.intp] | None:
        """Returns the positions that pass, of `count` outputs, in their order; None for all."""
        if self.included is None and not self.excluded:
            return None
        included = range(count) if self.included is None else self.included
        return np.array(sorted(set(included) - self.excluded), dtype=np.intp)

    def pass_category(self, outputs: frozenset[int]) -> bool:
        """Returns whether a category with these outputs may be predicted.

        It may if it is one of the included categories or below one, and not one of the excluded
        categories or below one.
        """
        is_included = self.included is None or outputs <= self.included
        return is_included and not outputs <= self.excluded


class CategoryTree:
    """The categories of one model; immutable."""

    def __init__(self, entries: Sequence[CategoryEntry], activation: Activation) -> None:
        """Builds the tree.

        Args:
            entries: the outputs of the network, by position, with unique names.
            activation: after a softmax, categories exclude each other, and the confidences of a
                category's outputs are added.  Otherwise an image may show several of them, so their
                sum means nothing, and the largest is taken.
        """
        self._combine = np.add if activation == "softmax" else np.maximum
        self._output_count = len(entries)
        positions = {entry.name: position for position, entry in enumerate(entries)}
        identifiers: dict[str, str] = {}
        for entry in entries:
            identifiers |= dict.fromkeys(entry.ancestors, "")
        for entry in entries:
            named = zip(entry.ancestors, entry.ancestor_ids, strict=False)
            identifiers |= {name: identifier for name, identifier in named if identifier}
        for name in identifiers:
            positions.setdefault(name, len(positions))
        # Nearest first.
        upward = [
            tuple(dict.fromkeys(positions[name] for name in e.ancestors if name != e.name))
            for e in entries
        ]
        members: defaultdict[int, set[int]] = defaultdict(set)
        for output, uppers in enumerate(upward):
            for position in (output, *uppers):
                members[position].add(output)
        self._members = [frozenset(members[position]) for position in range(len(positions))]
        self._above = [self._found_above(p, upward) for p in range(len(positions))]
        names = list(positions)
        outputs = [Category(e.name, e.id, e.ancestors) for e in entries]
        broader = [
            Category(names[p], identifiers[names[p]], tuple(names[a] for a in self._above[p]))
            for p in range(len(entries), len(names))
        ]
        self.categories: tuple[Category, ...] = (*outputs, *broader, Category(NO_CATEGORY))
        """Outputs, broader categories, and the answer that there is none."""
        self.positions: Mapping[str, int] = {NO_CATEGORY: len(positions)} | positions
        """Position of each name in `categories`."""
        self._groups = [p for p, found in enumerate(self._members) if found != {p}]
        counts = [len(self._members[p]) for p in self._groups]
        self._starts = np.cumsum([0, *counts[:-1]], dtype=np.intp)
        self._flat = np.array([o for p in self._groups for o in sorted(self._members[p])], np.intp)

    def _found_above(self, position: int, upward: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """Returns the categories that have all outputs of a category, nearest first.

        Of two categories with the same outputs, the one that is named first is below.
        """
        outputs = sorted(self._members[position])
        chains = [(output, *upward[output]) for output in outputs]
        common = reduce(set.intersection, map(set, chains))
        order = [other for other in chains[0] if other in common]
        after = order.index(position)
        return tuple(
            other
            for place, other in enumerate(order)
            if place > after or len(self._members[other]) > len(outputs)
        )

    @cached_property
    def digest(self) -> str:
        """A hash of the names and of what is above what."""
        text = json.dumps([(c.name, c.ancestors) for c in self.categories])
        return hashlib.sha256(text.encode()).hexdigest()

    def is_known(self, name: str) -> bool:
        """Returns whether the model has a category: an output, or a broader one."""
        return self.positions.get(name, len(self._members)) < len(self._members)

    def outputs(self, names: Iterable[str]) -> frozenset[int]:
        """Returns the outputs at and below some categories.

        Raises:
            KeyError: the model does not have a category.
        """
        found: set[int] = set()
        for name in names:
            position = self.positions[name]
            if position == len(self._members):
                raise KeyError(name)
            found |= self._members[position]
        return frozenset(found)

    def confidences(self, answer: NDArray[np.float32]) -> NDArray[np.float64]:
        """Returns the confidence of each category, without the last, from those of the outputs."""
        values = np.zeros(len(self._members))
        values[: self._output_count] = answer
        if self._groups:
            values[self._groups] = self._combine.reduceat(values[self._flat], self._starts)
        return values.clip(0, 1)

    def deepest(self, answer: NDArray[np.float32], threshold: float, filters: Filters) -> int:
        """Returns the position of the category to answer with.

        It reaches the threshold, and no category below it does.  Of several such categories, it is
        the most confident; of equals, the one below most others, then the first.

        Args:
            answer: float32 (C,), the confidences of the outputs.
            threshold: minimum confidence.
            filters: a category that does not pass is no answer; confidences do not change.
        """
        values = self.confidences(answer)
        found = [
            position
            for position in np.flatnonzero(values >= threshold).tolist()
            if filters.pass_category(self._members[position])
        ]
        surpassed = {above for position in found for above in self._above[position]}
        ranked = [
            (-values[position], -len(self._above[position]), position)
            for position in found
            if position not in surpassed
        ]
        return min(ranked)[-1] if ranked else len(self._members)

    def roll_up(
        self, answer: NDArray[np.float32], threshold: float, top_k: int, filters: Filters
    ) -> list[Prediction]:
        """Returns the deepest category, then the outputs below it by descending confidence.

        Args:
            answer: float32 (C,), the confidences of the outputs.
            threshold: minimum confidence of the first.
            top_k: maximum number of predictions, at least 1.
            filters: which categories may be predicted.
        """
        position = self.deepest(answer, threshold, filters)
        if position == len(self._members):
            return [Prediction(self.categories[position], 0.0)]
        first = Prediction(self.categories[position], float(self.confidences(answer)[position]))
        below = [
            output
            for output in self._members[position]
            if output != position and filters.pass_category(self._members[output])
        ]
        below.sort(key=lambda output: (-answer[output], output))
        rest = (Prediction(self.categories[o], min(float(answer[o]), 1.0)) for o in below)
        return [first, *rest][:top_k]

    def with_raw_confidences(
        self, predictions: Sequence[Prediction], raw: NDArray[np.float32], *, is_rolled_up: bool
    ) -> list[Prediction]:
        """Returns the predictions with their confidences before the temperature.

        Args:
            predictions: what was answered.
            raw: float32 (C,), the confidences of the outputs before the temperature.
            is_rolled_up: whether the first prediction stands for all outputs below it; any other
                stands for its own output.
        """
        found = []
        for place, prediction in enumerate(predictions):
            position = self.positions[prediction.category.name]
            if position == len(self._members):
                value = 0.0
            elif is_rolled_up and place == 0:
                value = float(self.confidences(raw)[position])
            else:
                value = min(float(raw[position]), 1.0)
            found.append(replace(prediction, raw_confidence=value))
        return found

    def strongest(
        self, answer: NDArray[np.float32], predictions: Iterable[Prediction]
    ) -> dict[str, int]:
        """Returns the most confident output at or below each predicted category, by its name."""
        found = {}
        for prediction in predictions:
            name = prediction.category.name
            members = sorted(self._members[self.positions[name]])
            found[name] = members[int(answer[members].argmax())]
        return found
