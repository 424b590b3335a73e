"""Runs a model on a labelled set, with the preprocessing and the runtime that serve it."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import BoundedSemaphore

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.domain.classification import ModelRef
from image_categorizer_server.errors import ImageTooLarge, InvalidRequest, OperatorError
from image_categorizer_server.inference.evaluation.dataset import (
    LabelledPicture,
    LabelledSet,
    digest_of_set,
    file_hash,
    known_labels,
)
from image_categorizer_server.inference.images.decode import Decoder
from image_categorizer_server.inference.images.preprocess import Preprocessor, sample_inputs
from image_categorizer_server.inference.models.loader import Loader
from image_categorizer_server.inference.models.manifest import Manifest, damage, groups_of
from image_categorizer_server.inference.models.repository import Found, manifest_of
from image_categorizer_server.inference.runtimes import Runtime
from image_categorizer_server.settings.inference import InferenceSettings
from image_categorizer_server.settings.model import ModelSettings

BATCH_SIZE = 8
TOP = 5
OnStep = Callable[[str, int, int], None]
"""Receives the name of the step, the amount done and the total."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What a model says about one picture."""

    picture: LabelledPicture
    category: int | None
    """Index of the right category; None if the model does not have it."""
    top: tuple[int, ...]
    """Indices of the most confident categories, at most `TOP`."""
    confidences: tuple[float, ...]
    """Of these."""
    rank: int | None
    """How many categories are more confident than the right one; None if the model lacks it."""
    row: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)
    """float32 (C), the confidences of all categories; None unless requested."""

    @property
    def is_right(self) -> bool:
        """Whether the most confident category is the right one."""
        return self.rank == 0


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A picture that the model cannot be asked about."""

    picture: LabelledPicture
    reason: str


@dataclass(frozen=True, slots=True)
class Answers:
    """What one version of a model says about a set."""

    ref: ModelRef
    categories: tuple[str, ...]
    dataset: LabelledSet
    dataset_digest: str
    """See `digest_of_set`."""
    known: tuple[Answered, ...]
    """Pictures whose category the model has, in the order of the set."""
    unknown: tuple[Answered, ...]
    """Pictures of other categories."""
    unreadable: tuple[Unreadable, ...]
    images_per_s: float
    temperatures: Mapping[str, float] = field(default_factory=dict)
    """Of each group of categories, by its name; see `Manifest`."""
    groups: tuple[str, ...] = ()
    """For each category the name of its group, empty for none."""

    @property
    def by_picture(self) -> dict[LabelledPicture, Answered]:
        """All answers."""
        return {each.picture: each for each in (*self.known, *self.unknown)}


@dataclass(frozen=True, slots=True)
class Read:
    """A picture, the SHA-256 of its file, and what the model says."""

    picture: LabelledPicture
    sha256: str
    answer: Answered | Unreadable


class Evaluator:
    """Asks models about labelled sets; its methods block for seconds to minutes."""

    def __init__(
        self,
        decoder: Decoder,
        max_image_bytes: int,
        inference: InferenceSettings,
        models: ModelSettings,
        on_step: OnStep,
    ) -> None:
        """Configures the evaluator.

        Args:
            decoder: that of the server.
            max_image_bytes: larger files are unreadable.
            inference: device, threads and concurrent calls.
            models: where exports are kept.
            on_step: receives the progress.
        """
        self._decoder = decoder
        self._max_image_bytes = max_image_bytes
        self._inference = inference
        self._loader = Loader(decoder, inference.without_single_images(), models)
        self._on_step = on_step

    def ask(self, found: Found, dataset: LabelledSet, *, keep_all: bool = False) -> Answers:
        """Returns what a version says about a set.

        Args:
            found: the version.
            dataset: the set.
            keep_all: whether to keep the confidences of all categories.

        Raises:
            OperatorError: the version cannot be used, or the set has no pictures.
        """
        manifest = manifest_of(found)
        if manifest.format == "fake":
            raise OperatorError(f"{manifest.name} has no network; evaluate another model.")
        if not dataset.pictures:
            raise OperatorError(
                f"{dataset.path} has no labelled pictures. A folder needs a folder of pictures for "
                "each category."
            )
        if wrong := damage(found.folder, manifest):
            raise OperatorError(f"{manifest.name} version {manifest.version} is damaged: {wrong}.")
        step = f"{manifest.name} {manifest.version}"
        self._on_step(step, 0, len(dataset.pictures))
        runtime, _ = asyncio.run(self._loader.open_runtime(found.folder, manifest))
        runtime.predict(sample_inputs(manifest.input)[:1])
        read, elapsed_s = self._read_all(step, runtime, manifest, dataset.pictures, keep_all)
        answered = [each.answer for each in read if isinstance(each.answer, Answered)]
        return Answers(
            ModelRef(manifest.name, manifest.version, manifest.digest),
            tuple(entry.name for entry in manifest.categories),
            dataset,
            digest_of_set((each.picture, each.sha256) for each in read),
            tuple(each for each in answered if each.category is not None),
            tuple(each for each in answered if each.category is None),
            tuple(each.answer for each in read if isinstance(each.answer, Unreadable)),
            len(answered) / elapsed_s,
            manifest.temperatures,
            groups_of(manifest.categories, manifest.temperatures),
        )

    def _read_all(
        self,
        step: str,
        runtime: Runtime,
        manifest: Manifest,
        pictures: Sequence[LabelledPicture],
        keep_all: bool,
    ) -> tuple[list[Read], float]:
        """Returns what is read of each picture, in order, and the seconds that took.

        As in the server, a thread decodes the pictures of its own model call.
        """
        part = Part(
            Preprocessor(self._decoder, manifest.input),
            runtime,
            known_labels(manifest.categories),
            self._max_image_bytes,
            BoundedSemaphore(runtime.runners),
            keep_all,
        )
        parts = [pictures[i : i + BATCH_SIZE] for i in range(0, len(pictures), BATCH_SIZE)]
        threads = max(runtime.runners, self._inference.decoders(runtime.device))
        read: list[Read] = []
        pool = ThreadPoolExecutor(threads)
        start_s = time.perf_counter()
        try:
            for some in pool.map(part.read, parts):
                read += some
                self._on_step(step, len(read), len(pictures))
        finally:
            pool.shutdown(cancel_futures=True)
        return read, time.perf_counter() - start_s


@dataclass(frozen=True, slots=True)
class Part:
    """Asks a model about a few pictures in one call; thread-safe."""

    preprocessor: Preprocessor
    runtime: Runtime
    known: dict[str, int]
    max_image_bytes: int
    calls: BoundedSemaphore
    keeps_all: bool = False
    """Whether answers hold the confidences of all categories."""

    def read(self, pictures: Sequence[LabelledPicture]) -> list[Read]:
        """Returns what is read of each picture, in order."""
        inputs: list[NDArray[np.uint8]] = []
        found: list[tuple[LabelledPicture, str, str]] = []
        for picture in pictures:
            sha256, reason = "", ""
            try:
                sha256, content = _content(picture.file, self.max_image_bytes)
                inputs.append(self.preprocessor.prepare(content).array)
            except InvalidRequest as error:
                reason = error.message
                sha256 = sha256 or file_hash(picture.file)
            except OSError as error:
                reason = error.strerror or str(error)
            except ValueError:  # a NUL in a name
                reason = "not a file's name"
            found.append((picture, sha256, reason))
        with self.calls:
            rows = iter(self._predict(inputs))
        return [
            Read(
                picture,
                sha256,
                Unreadable(picture, reason) if reason else self._answer(picture, next(rows)),
            )
            for picture, sha256, reason in found
        ]

    def _predict(self, inputs: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32] | None]:
        """Returns the confidences for each input; None if the model fails on it."""
        if not inputs:
            return []
        try:
            return list(self.runtime.predict(inputs).confidences)
        except Exception:  # noqa: BLE001 - the errors of runtimes have no common class
            if len(inputs) == 1:
                return [None]
            return [row for one in inputs for row in self._predict([one])]

    def _answer(
        self, picture: LabelledPicture, row: NDArray[np.float32] | None
    ) -> Answered | Unreadable:
        if row is None:
            return Unreadable(picture, "the model fails on it")
        if not np.isfinite(row).all():
            return Unreadable(picture, "the model's answer is not a number")
        top = np.argsort(-row, kind="stable")[:TOP]
        category = picture.category(self.known)
        rank = None
        if category is not None:
            before = int((row > row[category]).sum())
            rank = before + int((row[:category] == row[category]).sum())
        return Answered(
            picture,
            category,
            tuple(int(index) for index in top),
            tuple(float(row[index]) for index in top),
            rank,
            row if self.keeps_all else None,
        )


def _content(file: Path, max_bytes: int) -> tuple[str, bytes]:
    """Returns the SHA-256 of a file and its bytes.

    Raises:
        OSError: it cannot be read, or is no ordinary file.
        ImageTooLarge: it is larger than an image may be.
    """
    if file.exists() and not file.is_file():
        raise OSError(0, "Not a file")
    with file.open("rb") as opened:
        content = opened.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ImageTooLarge.over(max_bytes)
    return hashlib.sha256(content).hexdigest(), content
