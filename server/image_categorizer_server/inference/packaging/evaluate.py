"""Compares two runtimes of one network on pictures: accuracy and speed."""

import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from image_categorizer_server.errors import InvalidRequest, OperatorError
from image_categorizer_server.inference.images.preprocess import Preprocessor
from image_categorizer_server.inference.models.manifest import CategoryEntry
from image_categorizer_server.inference.runtimes import Runtime

BATCH_SIZE = 8
TIMED_ROUNDS = 9
Z_95 = 1.959964  # 95 % of a normal distribution lies within this many standard deviations
OnStep = Callable[[str, int, int], None]
"""Receives the name of the step, the amount done and the total."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A file, and the index of its category; None if unknown."""

    file: Path
    category: int | None = None


class _Entry(BaseModel):
    file: str
    category: str = ""
    category_id: str = ""


class _LabelledSet(BaseModel):
    images: list[_Entry]


def pictures_in(folder: Path) -> list[Picture]:
    """Returns all files below a folder, by name, without hidden ones.

    Raises:
        OperatorError: there is no such folder.
    """
    if not folder.is_dir():
        raise OperatorError(f"{folder} is not a folder.")
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return [Picture(file) for file in files if not file.name.startswith(".")]


def labelled_pictures(path: Path, categories: Sequence[CategoryEntry]) -> list[Picture]:
    """Returns the pictures of a labelled set.

    Args:
        path: a JSON file `{"images": [{"file", "category" or "category_id"}]}`, with files relative
            to its own folder; or a folder with a folder of pictures for each category.
        categories: the model's; a label is the name or the identifier of one.

    Raises:
        OperatorError: the set cannot be read, or the model does not know a label.
    """
    known = {entry.name: index for index, entry in enumerate(categories)}
    known |= {entry.id: index for index, entry in enumerate(categories) if entry.id}
    named: list[tuple[Path, tuple[str, ...]]]
    if path.is_dir():
        named = [
            (picture.file, (picture.file.relative_to(path).parts[0],))
            for picture in pictures_in(path)
            if picture.file.parent != path
        ]
    else:
        named = [
            (path.parent / entry.file, (entry.category_id, entry.category))
            for entry in _read_set(path).images
        ]
    found = []
    for file, labels in named:
        index = next((known[label] for label in labels if label in known), None)
        if index is None:
            shown = " or ".join(f"'{label}'" for label in labels if label)
            raise OperatorError(f"{path}: the model has no category {shown or 'without a name'}.")
        found.append(Picture(file, index))
    return found


def _read_set(path: Path) -> _LabelledSet:
    try:
        return _LabelledSet.model_validate(json.loads(path.read_bytes()))
    except OSError as error:
        raise OperatorError(f"Cannot read {path}: {error.strerror}.") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise OperatorError(f"{path} is not a labelled set: {place}: {first['msg']}.") from None
    except ValueError as error:
        raise OperatorError(f"{path} is not a labelled set: {error}.") from None


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

    @property
    def loss_points(self) -> float:
        """Percentage of the pictures by which the second is worse; negative if it is better."""
        return (self.right_before - self.right_after) / self.pictures * 100

    def __str__(self) -> str:
        after = share(self.right_after, self.pictures)
        if not self.is_labelled:
            return f"Top-1 equal to fp32 on {self.pictures} pictures without labels: {after}"
        before = share(self.right_before, self.pictures)
        return (
            f"Top-1 right on {self.pictures} labelled pictures: fp32 {before}, int8 {after}, "
            f"loss {self.loss_points:.2f} points"
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
    right_before = right_after = 0
    for start in range(0, len(pictures), BATCH_SIZE):
        part = pictures[start : start + BATCH_SIZE]
        inputs = [_input(preprocessor, picture) for picture in part]
        first = before.predict(inputs).confidences.argmax(-1)
        second = after.predict(inputs).confidences.argmax(-1)
        wanted = np.array(
            [f if p.category is None else p.category for p, f in zip(part, first, strict=True)]
        )
        right_before += int((first == wanted).sum())
        right_after += int((second == wanted).sum())
        on_step("Comparing", start + len(part), len(pictures))
    is_labelled = all(picture.category is not None for picture in pictures)
    return Comparison(len(pictures), right_before, right_after, is_labelled)


def _input(preprocessor: Preprocessor, picture: Picture) -> NDArray[np.uint8]:
    array = read_input(preprocessor, picture.file)
    if array is None:
        raise OperatorError(f"{picture.file} cannot be decoded as an image.")
    return array


def share(count: int, total: int) -> str:
    """Returns a share and its 95 % interval as text, such as `91.5 % (86.2 to 94.9)`."""
    low, high = interval_95(count, total)
    return f"{count / total:.1%} ({low * 100:.1f} to {high * 100:.1f})".replace("%", " %")


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
