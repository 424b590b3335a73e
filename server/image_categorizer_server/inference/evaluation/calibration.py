"""Chooses the temperatures of a model: one for all answers, or one for each group of categories.

The group of an answer is that of its first category (Gupta & Ramdas 2022, arXiv:2107.08353), so a
server knows it, and all confidences of a picture have one temperature: their order stays.  Regions
of confidence are no groups here: at a border, the surer of two answers would get the lower one.

A group pays for its own temperature with chance: it has fewer pictures.  So a group needs enough
of them, is drawn towards the temperature of all, and a cross-validation must show that groups help.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.domain.model import Activation
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.evaluation.answers import Answered
from image_categorizer_server.inference.evaluation.metrics import calibration_by_group
from image_categorizer_server.inference.evaluation.temperature import (
    Logarithm,
    LogLosses,
    log_losses,
    rows_of,
)
from image_categorizer_server.inference.models.manifest import CategoryEntry, groups_of
from image_categorizer_server.inference.runtimes.calibrated import at_temperature

MIN_PICTURES = 50
MIN_GROUP_PICTURES = 30
"""Of those that fit."""
SPREAD = 0.3
"""Of the temperatures of groups around that of all: the standard deviation of their logarithms.  A
group of 25 pictures counts about as much as the prior."""
FOLDS = 10
CERTAINTY = 2.0
"""How many standard errors a gain needs.  Of sets of 200 to 2,000 pictures whose groups do not
differ, at most 2 % get groups; with one standard error up to 9 %, and they are worse off."""
NOBODY = ""
"""The group of categories that are in none."""
DIGITS = 4

GroupLevel = Literal["upper", "category"]
Grouping = Literal["auto", "none", "upper", "category"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to group categories, and what a cross-validation shows of it."""

    level: GroupLevel
    members: tuple[str, ...]
    """The group of each category; `NOBODY` for those that get the temperature of all."""
    gain: float
    """By how much the log loss is lower than with one temperature."""
    gain_error: float
    """The standard error of `gain`."""

    @property
    def is_better(self) -> bool:
        """Whether the gain is so large that chance rarely makes it."""
        return self.gain > CERTAINTY * self.gain_error

    def __str__(self) -> str:
        return (
            f"one for each {GROUP_NAMES[self.level]} lowers the log loss by "
            f"{self.gain:.4f} ± {self.gain_error:.4f}"
        )


GROUP_NAMES: Mapping[GroupLevel, str] = {"upper": "upper category", "category": "category"}


@dataclass(frozen=True, slots=True)
class Quality:
    """How honest confidences are."""

    log_loss: float
    """Mean of the negative logarithm of the likelihood of the right categories."""
    ece: float
    """Expected calibration error; with groups its mean over them, by their pictures: an error of
    one does not make up for that of another."""
    ece_by_chance: float


@dataclass(frozen=True, slots=True)
class Fitted:
    """The temperatures, and what they do to the pictures that did not fit them."""

    temperature: float
    before: Quality
    after: Quality
    fitted: int
    """How many pictures fitted them."""
    held_out: int
    """How many others there were."""
    choice: str
    """A sentence on why there are groups, or none."""
    temperatures: Mapping[str, float] = field(default_factory=dict)
    """Of each group."""
    pictures: Mapping[str, int] = field(default_factory=dict)
    """How many pictures fitted each group."""

    @property
    def helps(self) -> bool:
        """Whether the other pictures show more honest confidences, by both figures."""
        return self.after.log_loss < self.before.log_loss and self.after.ece < self.before.ece


def fit_calibration(
    answered: Sequence[Answered],
    activation: Activation,
    categories: Sequence[CategoryEntry],
    grouping: Grouping = "auto",
) -> Fitted:
    """Returns the temperatures with the largest likelihood of the right categories.

    Args:
        answered: with confidences of all categories; every second one fits.
        activation: of the network.
        categories: of the network.
        grouping: `auto` for groups if a cross-validation shows that they help, `none` for one
            temperature, or the groups to have.

    Raises:
        OperatorError: there are too few pictures, also for the groups to have, or the network has
            no activation.
    """
    if activation == "none":
        raise OperatorError("Its confidences come from no softmax or sigmoid: nothing to divide.")
    if len(answered) < 2 * MIN_PICTURES:
        raise OperatorError(
            f"{len(answered)} pictures are too few: at least {2 * MIN_PICTURES} of categories "
            "that the model has are needed."
        )
    fitting, held_out = answered[::2], answered[1::2]
    part = _Fitting(fitting, activation, categories)
    chosen, choice = part.choose(grouping)
    temperature = _number(part.losses.best(part.all))
    temperatures = part.temperatures(chosen) if chosen else {}
    members = groups_of(categories, temperatures)
    found = Counter(members[each.top[0]] for each in fitting)
    by_row = np.array([temperatures.get(members[each.top[0]], temperature) for each in held_out])
    rows = rows_of(held_out)
    calibrated = at_temperature(rows, by_row[:, None], activation)
    return Fitted(
        temperature,
        _quality(held_out, rows, activation, members),
        _quality(held_out, calibrated, activation, members),
        len(fitting),
        len(held_out),
        choice,
        temperatures,
        {name: found[name] for name in temperatures},
    )


class _Fitting:
    """The pictures that fit."""

    def __init__(
        self,
        answered: Sequence[Answered],
        activation: Activation,
        categories: Sequence[CategoryEntry],
    ) -> None:
        self.losses = LogLosses(answered, activation)
        self.all = np.ones(len(answered), bool)
        self._first = [each.top[0] for each in answered]
        self._categories = categories

    def choose(self, grouping: Grouping) -> tuple[Candidate | None, str]:
        """Returns the groups, None for one temperature, and a sentence that says why."""
        if grouping == "none":
            return None, "One temperature, as asked for."
        levels: tuple[GroupLevel, ...] = (
            ("upper", "category") if grouping == "auto" else (grouping,)
        )
        candidates = self._candidates(levels)
        if not candidates:
            too_few = (
                f"fewer than two groups of categories have {MIN_GROUP_PICTURES} pictures that fit"
            )
            if grouping != "auto":
                raise OperatorError(f"There can be no groups: {too_few}.")
            return None, f"One temperature: {too_few}."
        shown = "; ".join(map(str, candidates))
        best = max(candidates, key=lambda each: each.gain)
        if grouping != "auto":
            return best, f"Groups, as asked for: in cross-validation, {shown}."
        if best.is_better:
            return best, f"Groups: in cross-validation, {shown}."
        return None, f"One temperature: in cross-validation, {shown}, which is not enough."

    def temperatures(self, chosen: Candidate) -> dict[str, float]:
        """Returns the temperature of each group, by name."""
        found = self._fit(self.all, self._groups(chosen.members))
        return {name: _number(found[name]) for name in sorted(found) if name != NOBODY}

    def _candidates(self, levels: Iterable[GroupLevel]) -> list[Candidate]:
        members: dict[GroupLevel, tuple[str, ...]] = {}
        for level in levels:
            found = self._members(level)
            if found and found not in members.values():
                members[level] = found
        return [Candidate(level, found, *self._gain(found)) for level, found in members.items()]

    def _members(self, level: GroupLevel) -> tuple[str, ...]:
        """Returns the group of each category; empty if there are not two with enough pictures."""
        paths = [(*reversed(each.ancestors), each.name) for each in self._categories]
        deepest = max(map(len, paths))
        # Of upper categories the broadest that tell pictures apart.
        depths = range(deepest) if level == "upper" else [deepest - 1]
        for depth in depths:
            names = {path[min(depth, len(path) - 1)] for path in paths}
            counts = Counter(self._groups(groups_of(self._categories, names)))
            large = {name for name in names if counts[name] >= MIN_GROUP_PICTURES}
            if len(large) > 1:
                return groups_of(self._categories, large)
        return ()

    def _groups(self, members: Sequence[str]) -> NDArray[np.str_]:
        """Returns the group of each picture."""
        return np.array([members[first] for first in self._first])

    def _fit(self, pictures: NDArray[np.bool_], groups: NDArray[np.str_]) -> dict[str, Logarithm]:
        """Returns the temperature of each group of some pictures; that of all for `NOBODY`."""
        one = self.losses.best(pictures)
        names = set(groups.tolist()) - {NOBODY}
        found = {name: self.losses.best(pictures & (groups == name), one, SPREAD) for name in names}
        return {**found, NOBODY: one}

    def _gain(self, members: Sequence[str]) -> tuple[float, float]:
        """Returns by how much groups lower the log loss of pictures that do not fit, and its error.

        Each picture is compared with itself.
        """
        groups = self._groups(members)
        fold = np.arange(len(groups)) % FOLDS
        gains = np.zeros(len(groups))
        for number in range(FOLDS):
            fitted = self._fit(fold != number, groups)
            for name, logarithm in fitted.items():
                tested = (fold == number) & (groups == name)
                one = self.losses.at(fitted[NOBODY], tested)
                gains[tested] = one - self.losses.at(logarithm, tested)
        return float(gains.mean()), float(gains.std(ddof=1) / np.sqrt(len(gains)))


def _quality(
    answered: Sequence[Answered],
    rows: NDArray[np.float32],
    activation: Activation,
    members: Sequence[str],
) -> Quality:
    """Returns how honest confidences float32 (N, C) are, given the group of each category."""
    right = np.array([each.category for each in answered])
    said = [
        replace(each, confidences=tuple(float(row[index]) for index in each.top))
        for each, row in zip(answered, rows, strict=True)
    ]
    parts = list(calibration_by_group(said, members).values())
    shares = [part.count / len(answered) for part in parts]
    return Quality(
        float(log_losses(rows, right, activation).mean()),
        sum(share * part.ece for share, part in zip(shares, parts, strict=True)),
        sum(share * part.ece_by_chance for share, part in zip(shares, parts, strict=True)),
    )


def _number(logarithm: Logarithm) -> float:
    """Returns a temperature as a manifest has it."""
    return round(float(np.exp(logarithm)), DIGITS)
