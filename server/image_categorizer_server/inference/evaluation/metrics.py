"""Figures of an evaluation: accuracy by category, confusions, calibration, coverage."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.evaluation.answers import TOP, Answered, Answers

Z_95 = 1.959964  # 95 % of a normal distribution lies within this many standard deviations
BINS = 15
DRAWS = 200
SEED = 1
THRESHOLDS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Share:
    """How many of all."""

    count: int
    total: int
    """At least 1."""

    @property
    def value(self) -> float:
        """The share, in [0, 1]."""
        return self.count / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95 % interval; see `interval_95`."""
        return interval_95(self.count, self.total)


@dataclass(frozen=True, slots=True)
class CategoryFigures:
    """How a model treats one category."""

    name: str
    pictures: int
    """How many pictures of the set are of this category."""
    predicted: int
    """How many pictures the model says it of."""
    right: int

    @property
    def recall(self) -> Share | None:
        """Of its pictures, those recognized; None if there are none."""
        return Share(self.right, self.pictures) if self.pictures else None

    @property
    def precision(self) -> Share | None:
        """Of the pictures that the model says it of, those that are; None if there are none."""
        return Share(self.right, self.predicted) if self.predicted else None


@dataclass(frozen=True, slots=True)
class Confusion:
    """Pictures of one category that are taken for another."""

    category: str
    predicted: str
    pictures: tuple[Answered, ...]
    """The most confident mistake first."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers whose confidence is in [low, high), or is 1 in the last bin."""

    low: float
    high: float
    count: int
    confidence: float
    """Mean confidence; the middle of the bin if it is empty."""
    right: int

    @property
    def accuracy(self) -> float:
        """Share of its answers that are right; 0 if it is empty."""
        return self.right / self.count if self.count else 0.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """Whether answers are right as often as their confidence says."""

    bins: tuple[Bin, ...]
    ece_by_chance: float
    """The `ece` of a perfectly calibrated model on as many pictures; see `error_by_chance`."""

    @property
    def count(self) -> int:
        """How many answers there are."""
        return sum(each.count for each in self.bins)

    @property
    def ece(self) -> float:
        """The expected calibration error (Naeini et al. 2015), in [0, 1]."""
        gaps = (each.count * abs(each.accuracy - each.confidence) for each in self.bins)
        return sum(gaps) / self.count


@dataclass(frozen=True, slots=True)
class Coverage:
    """What remains if answers below a confidence are not given."""

    threshold: float
    answered: Share
    right: Share | None
    """Of those answered; None if there are none."""


def interval_95(count: int, total: int) -> tuple[float, float]:
    """Returns Wilson's 95 % confidence interval (1927) of a share.

    Args:
        count: number of successes, 0 to `total`.
        total: number of trials, at least 1.
    """
    p, z2 = count / total, Z_95**2
    middle = (p + z2 / (2 * total)) / (1 + z2 / total)
    half = Z_95 / (1 + z2 / total) * math.sqrt(p * (1 - p) / total + z2 / (4 * total**2))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def top_share(answered: Sequence[Answered], k: int) -> Share:
    """Returns how often the right category is among the `k` most confident ones, k at most 5."""
    return Share(sum(a.rank is not None and a.rank < k for a in answered), len(answered))


def by_category(answered: Iterable[Answered], names: Sequence[str]) -> list[CategoryFigures]:
    """Returns the figures of each category that a picture has or is given, the worst first."""
    pictures: Counter[int] = Counter()
    predicted: Counter[int] = Counter()
    right: Counter[int] = Counter()
    for each in answered:
        assert each.category is not None
        pictures[each.category] += 1
        predicted[each.top[0]] += 1
        right[each.category] += each.is_right
    figures = [
        CategoryFigures(names[index], pictures[index], predicted[index], right[index])
        for index in sorted(pictures.keys() | predicted.keys())
    ]
    return sorted(figures, key=_worst_first)


def _worst_first(figures: CategoryFigures) -> tuple[float, int, str]:
    recall = figures.recall
    return recall.value if recall else 2.0, -figures.pictures - figures.predicted, figures.name


def confusions(answered: Iterable[Answered], names: Sequence[str]) -> list[Confusion]:
    """Returns the pairs of categories that are confused, the most frequent first."""
    mistakes: defaultdict[tuple[int, int], list[Answered]] = defaultdict(list)
    for each in answered:
        assert each.category is not None
        if not each.is_right:
            mistakes[each.category, each.top[0]].append(each)
    found = [
        Confusion(
            names[category],
            names[predicted],
            tuple(sorted(wrong, key=lambda each: -each.confidences[0])),
        )
        for (category, predicted), wrong in mistakes.items()
    ]
    return sorted(found, key=lambda pair: (-len(pair.pictures), pair.category, pair.predicted))


def calibration_of(answered: Iterable[Answered], bins: int = BINS) -> Calibration:
    """Returns the calibration of the most confident category, in bins of equal width."""
    inside: list[list[Answered]] = [[] for _ in range(bins)]
    every = list(answered)
    for each in every:
        inside[min(int(each.confidences[0] * bins), bins - 1)].append(each)
    return Calibration(
        tuple(
            Bin(
                low=index / bins,
                high=(index + 1) / bins,
                count=len(part),
                confidence=(
                    sum(each.confidences[0] for each in part) / len(part)
                    if part
                    else (index + 0.5) / bins
                ),
                right=sum(each.is_right for each in part),
            )
            for index, part in enumerate(inside)
        ),
        error_by_chance([each.confidences[0] for each in every], bins),
    )


def calibration_by_group(
    answered: Iterable[Answered], members: Sequence[str]
) -> dict[str, Calibration]:
    """Returns the calibration of the answers of each group that has any, by name.

    Args:
        answered: pictures whose category the model has.
        members: the group of each category of the network.
    """
    found: dict[str, list[Answered]] = {}
    for each in answered:
        found.setdefault(members[each.top[0]], []).append(each)
    return {name: calibration_of(found[name]) for name in sorted(found)}


def error_by_chance(confidences: Sequence[float], bins: int = BINS) -> float:
    """Returns the expected calibration error that a perfectly calibrated model would show.

    The error is a mean of distances, so chance alone makes it larger than 0, and the more so the
    fewer the pictures.  Consistency resampling (Broecker & Smith 2007) tells by how much: answers
    are drawn to be right exactly as often as their confidence says.

    Args:
        confidences: of the most confident category, at least one; in [0, 1].
        bins: number of bins of equal width.
    """
    values = np.array(confidences)
    places = np.minimum((values * bins).astype(np.int64), bins - 1)
    random = np.random.default_rng(SEED)
    errors = []
    for _ in range(DRAWS):
        surplus = values - (random.random(len(values)) < values)
        errors.append(np.abs(np.bincount(places, surplus, bins)).sum() / len(values))
    return float(np.mean(errors))


def coverage_of(
    answered: Sequence[Answered], thresholds: Iterable[float] = THRESHOLDS
) -> list[Coverage]:
    """Returns for each threshold how many pictures are answered, and how many of those rightly."""
    found = []
    for threshold in thresholds:
        kept = [each for each in answered if each.confidences[0] >= threshold]
        right = Share(sum(each.is_right for each in kept), len(kept)) if kept else None
        found.append(Coverage(threshold, Share(len(kept), len(answered)), right))
    return found


def coverage_curve(answered: Sequence[Answered], points: int = 200) -> list[tuple[float, float]]:
    """Returns (share answered, share of those right) from the strictest threshold to none."""
    ordered = sorted(answered, key=lambda each: -each.confidences[0])
    curve, right = [], 0
    for number, each in enumerate(ordered, 1):
        right += each.is_right
        is_last_of_equals = (
            number == len(ordered) or ordered[number].confidences[0] < each.confidences[0]
        )
        if is_last_of_equals:
            curve.append((number / len(ordered), right / number))
    step = max(1, -(-len(curve) // points))
    return [*curve[:-1:step], curve[-1]]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All figures of one version on one set. They are of pictures whose category the model has."""

    answers: Answers
    top_1: Share
    top_5: Share | None
    """None if the model has no more than 5 categories."""
    categories: tuple[CategoryFigures, ...]
    confusions: tuple[Confusion, ...]
    calibration: Calibration
    coverage: tuple[Coverage, ...]
    calibration_by_group: Mapping[str, Calibration]
    """Of the answers in each group that has a temperature and any answers, by its name."""

    @property
    def top_1_of_all(self) -> Share:
        """How often answers are right if pictures of unknown categories count as wrong."""
        return Share(self.top_1.count, self.top_1.total + len(self.answers.unknown))

    @property
    def unknown_labels(self) -> dict[str, int]:
        """How many pictures there are of each category that the model does not have."""
        counts = Counter(each.picture.label for each in self.answers.unknown)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def evaluation_of(answers: Answers) -> Evaluation:
    """Returns the figures.

    Raises:
        OperatorError: no picture is readable and of a category of the model.
    """
    known, names = answers.known, answers.categories
    if not known:
        raise OperatorError(
            f"No picture of {answers.dataset.path} can be evaluated: "
            f"{len(answers.unreadable)} are unreadable, and {len(answers.unknown)} are of "
            "categories that the model does not have."
        )
    return Evaluation(
        answers,
        top_share(known, 1),
        top_share(known, TOP) if len(names) > TOP else None,
        tuple(by_category(known, names)),
        tuple(confusions(known, names)),
        calibration_of(known),
        tuple(coverage_of(known)),
        _by_group_with_temperature(answers),
    )


def _by_group_with_temperature(answers: Answers) -> dict[str, Calibration]:
    if not answers.temperatures:
        return {}
    found = calibration_by_group(answers.known, answers.groups)
    return {name: found[name] for name in answers.temperatures if name in found}
