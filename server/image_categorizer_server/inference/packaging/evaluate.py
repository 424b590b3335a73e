"""Compares two runtimes of one network on pictures: accuracy and speed."""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.errors import InvalidRequest, OperatorError
from image_categorizer_server.inference.evaluation.answers import OnStep
from image_categorizer_server.inference.evaluation.dataset import (
    files_in,
    known_labels,
    read_labelled_set,
)
from image_categorizer_server.inference.evaluation.metrics import interval_95
from image_categorizer_server.inference.images.preprocess import Preprocessor
from image_categorizer_server.inference.models.manifest import CategoryEntry
from image_categorizer_server.inference.runtimes import Runtime

BATCH_SIZE = 8
TIMED_ROUNDS = 9
TOP = 5
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Picture:
    """A file, and the index of its category; None if unknown."""

    file: Path
    category: int | None = None


def pictures_in(folder: Path) -> list[Picture]:
    """Returns all files below a folder, by name, without hidden ones.

    Raises:
        OperatorError: there is no such folder.
    """
    return [Picture(file) for file in files_in(folder)]


def labelled_pictures(path: Path, categories: Sequence[CategoryEntry]) -> list[Picture]:
    """Returns the pictures of a labelled set.

    Args:
        path: see `read_labelled_set`.
        categories: the model's; a label is the name or the identifier of one.

    Raises:
        OperatorError: the set cannot be read, or the model does not know a label.
    """
    known = known_labels(categories)
    found = []
    for picture in read_labelled_set(path).pictures:
        index = picture.category(known)
        if index is None:
            shown = " or ".join(f"'{label}'" for label in picture.labels)
            raise OperatorError(f"{path}: the model has no category {shown or 'without a name'}.")
        found.append(Picture(picture.file, index))
    return found


def read_input(preprocessor: Preprocessor, file: Path) -> NDArray[np.uint8] | None:
    """Returns the input uint8 (H, W, 3) that serving makes of a file; None if it is not an image.

    Raises:
        OperatorError: the file cannot be read.
    """
    try:
        return preprocessor.prepare(file.read_bytes()).array
    except InvalidRequest:
        return None
    except OSError as error:
        raise OperatorError(f"Cannot read {file}: {error.strerror}.") from None


@dataclass(frozen=True, slots=True)
class Comparison:
    """How often two runtimes are right about the same pictures."""

    pictures: int
    right_before: int
    """Of the first runtime; without labels its answers count as right."""
    right_after: int
    is_labelled: bool
    top_5_before: int = 0
    """How often the right category is among the first five."""
    top_5_after: int = 0

    @property
    def lost_pictures(self) -> int:
        """By how many pictures the second is worse; negative if it is better."""
        return self.right_before - self.right_after

    @property
    def loss_points(self) -> float:
        """Percentage of the pictures by which the second is worse; negative if it is better."""
        return self.lost_pictures / self.pictures * 100

    @property
    def badness(self) -> tuple[int, int]:
        """The smaller of two is better: it loses fewer first answers, then fewer of five."""
        return self.lost_pictures, self.top_5_before - self.top_5_after

    def allowed_pictures(self, max_loss_points: float) -> int:
        """Returns how many pictures a limit lets the second lose.

        Only whole pictures can be lost, so the limit is rounded down to them.  A limit above zero
        allows one picture, however few there are: nothing smaller can be measured.

        Args:
            max_loss_points: the limit, in percent of the pictures.
        """
        allowed = math.floor(self.pictures * max_loss_points / 100 + ROUNDING)
        return max(allowed, 1) if max_loss_points > 0 else allowed

    def __str__(self) -> str:
        after = share(self.right_after, self.pictures)
        if not self.is_labelled:
            return f"Top-1 equal to fp32 on {self.pictures} pictures without labels: {after}"
        before = share(self.right_before, self.pictures)
        return (
            f"Top-1 right on {self.pictures} labelled pictures: fp32 {before}, int8 {after}, "
            f"loss {self.loss_points:.2f} points ({pictures_text(self.lost_pictures)})"
        )


def compare(
    before: Runtime,
    after: Runtime,
    pictures: Sequence[Picture],
    preprocessor: Preprocessor,
    on_step: OnStep,
) -> Comparison:
    """Returns how often each runtime is right; blocks.

    Raises:
        OperatorError: a picture cannot be read.
    """
    right_before = right_after = top_5_before = top_5_after = 0
    for start in range(0, len(pictures), BATCH_SIZE):
        part = pictures[start : start + BATCH_SIZE]
        inputs = [_input(preprocessor, picture) for picture in part]
        first, second = (
            np.argsort(-runtime.predict(inputs).confidences, -1, kind="stable")[:, :TOP]
            for runtime in (before, after)
        )
        answers = first[:, 0]
        wanted = np.array(
            [a if p.category is None else p.category for p, a in zip(part, answers, strict=True)]
        )[:, None]
        right_before += int((first[:, :1] == wanted).sum())
        right_after += int((second[:, :1] == wanted).sum())
        top_5_before += int((first == wanted).sum())
        top_5_after += int((second == wanted).sum())
        on_step("Comparing", start + len(part), len(pictures))
    is_labelled = all(picture.category is not None for picture in pictures)
    return Comparison(
        len(pictures), right_before, right_after, is_labelled, top_5_before, top_5_after
    )


def _input(preprocessor: Preprocessor, picture: Picture) -> NDArray[np.uint8]:
    array = read_input(preprocessor, picture.file)
    if array is None:
        raise OperatorError(f"{picture.file} cannot be decoded as an image.")
    return array


def share(count: int, total: int) -> str:
    """Returns a share and its 95 % interval as text, such as `91.5 % (86.2 to 94.9)`."""
    low, high = interval_95(count, total)
    return f"{count / total:.1%} ({low * 100:.1f} to {high * 100:.1f})".replace("%", " %")


def pictures_text(count: int) -> str:
    """Returns a number of pictures as text, such as `1 picture`."""
    return f"{count} {'picture' if count == 1 else 'pictures'}"


@dataclass(frozen=True, slots=True)
class Speeds:
    """Median throughputs over several rounds."""

    before_per_s: float
    after_per_s: float
    ratio: float
    """Median of the ratios of each round."""

    def __str__(self) -> str:
        return (
            f"Images/s on one thread: fp32 {self.before_per_s:.1f}, int8 {self.after_per_s:.1f}, "
            f"{self.ratio:.2f} times"
        )


def speeds(
    before: Runtime, after: Runtime, inputs: Sequence[NDArray[np.uint8]], on_step: OnStep
) -> Speeds:
    """Returns the throughput of each runtime with these inputs; blocks for seconds."""
    rounds: list[tuple[float, float]] = []
    for runtime in (before, after):
        runtime.predict(inputs)
    for number in range(TIMED_ROUNDS):
        first, second = (_images_per_s(runtime, inputs) for runtime in (before, after))
        rounds.append((first, second))
        on_step("Timing", number + 1, TIMED_ROUNDS)
    ratio = statistics.median(second / first for first, second in rounds)
    before_per_s, after_per_s = (statistics.median(side) for side in zip(*rounds, strict=True))
    return Speeds(before_per_s, after_per_s, ratio)


def _images_per_s(runtime: Runtime, inputs: Sequence[NDArray[np.uint8]]) -> float:
    start = time.perf_counter()
    runtime.predict(inputs)
    return len(inputs) / (time.perf_counter() - start)
