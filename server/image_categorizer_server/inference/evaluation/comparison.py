"""What two models say about the same pictures: which flip between right and wrong."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.evaluation.answers import Answered, Answers
from image_categorizer_server.inference.evaluation.dataset import LabelledPicture
from image_categorizer_server.inference.evaluation.metrics import Share


@dataclass(frozen=True, slots=True)
class Flip:
    """A picture that the two models answer differently."""

    picture: LabelledPicture
    before: Answered
    after: Answered
    predicted_before: str
    predicted_after: str


@dataclass(frozen=True, slots=True)
class Compared:
    """The answers of two models, side by side."""

    before: Answers
    after: Answers
    right_before: Share
    right_after: Share
    lost: tuple[Flip, ...]
    """Right before, wrong after."""
    gained: tuple[Flip, ...]
    """Wrong before, right after."""
    other: tuple[Flip, ...]
    """Wrong in two ways."""
    left_out: int
    """Pictures that cannot be read, or whose category neither model has."""

    @property
    def p_value(self) -> float:
        """Probability of flips as uneven as these, or more so, if both models are equally good."""
        return sign_test(len(self.lost), len(self.gained))

    @property
    def lost_by_category(self) -> dict[str, int]:
        """How many pictures of each category are lost, most first."""
        counts = Counter(flip.picture.label for flip in self.lost)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def compare_answers(before: Answers, after: Answers) -> Compared:
    """Compares two answers about one set.

    A picture whose category only one model has is wrong for the other.

    Raises:
        OperatorError: there is no picture to compare.
    """
    first, second = before.by_picture, after.by_picture
    pairs = [
        (first[picture], second[picture])
        for picture in before.dataset.pictures
        if picture in first and picture in second
    ]
    pairs = [(a, b) for a, b in pairs if a.category is not None or b.category is not None]
    if not pairs:
        raise OperatorError(
            f"No picture of {before.dataset.path} can be compared: none is readable and of a "
            "category of the models."
        )
    flips = [_flip(before, after, a, b) for a, b in pairs]
    return Compared(
        before,
        after,
        Share(sum(a.is_right for a, _ in pairs), len(pairs)),
        Share(sum(b.is_right for _, b in pairs), len(pairs)),
        _sorted(f for f in flips if f.before.is_right and not f.after.is_right),
        _sorted(f for f in flips if f.after.is_right and not f.before.is_right),
        _sorted(
            f
            for f in flips
            if not (f.before.is_right or f.after.is_right)
            and f.predicted_before != f.predicted_after
        ),
        len(before.dataset.pictures) - len(pairs),
    )


def _flip(before: Answers, after: Answers, first: Answered, second: Answered) -> Flip:
    names = before.categories[first.top[0]], after.categories[second.top[0]]
    return Flip(first.picture, first, second, *names)


def _sorted(flips: Iterable[Flip]) -> tuple[Flip, ...]:
    """Returns the most confident answers of the second model first."""
    return tuple(sorted(flips, key=lambda flip: -flip.after.confidences[0]))


def sign_test(lost: int, gained: int) -> float:
    """Returns the p-value of McNemar's exact test (1947): is the split as even as a coin's."""
    flips = lost + gained
    tail = sum(math.comb(flips, k) for k in range(min(lost, gained) + 1))
    return min(1.0, tail / 2 ** (flips - 1)) if flips else 1.0
