"""The model `fake`, for tests of everything around a model: ten categories and no network.

The answer is a function of the SHA-256 of the decoded pixels.  `CATEGORIZER_TEST__FAKE_MODEL` sets
the time of a model call.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.inference.images.decode import Decoder
from image_categorizer_server.inference.images.preprocess import Input
from image_categorizer_server.inference.runtimes import Answer, Precision

FAKE_MODELS = Path(__file__).resolve().parent.parent / "data" / "fake_models"
CATEGORIES = 10
SHAPE = 1, 11, 3
RAW = "raw"


@dataclass(frozen=True, slots=True)
class FakeTimes:
    """The times of a fake model call."""

    call_ms: float
    image_ms: float
    raw: bool
    """Whether the encoded image is hashed, without decoding."""

    @classmethod
    def parse(cls, text: str) -> "FakeTimes":
        """Parses `<ms per micro-batch>,<ms per item>`, with `,raw` to skip decoding.

        Raises:
            ValueError: the text is malformed.
        """
        words = text.split(",")
        raw = words[2:] == [RAW]
        if len(words) != 2 + raw:
            raise ValueError("must be '<ms per micro-batch>,<ms per item>', optionally with ',raw'")
        call_ms, image_ms = map(float, words[:2])
        if not (0 <= call_ms <= 1e6 and 0 <= image_ms <= 1e6):
            raise ValueError("must have milliseconds from 0 to 1000000")
        return cls(call_ms, image_ms, raw)

    def seconds(self, images: int) -> float:
        """Returns the seconds of a call with this number of images."""
        return (self.call_ms + self.image_ms * images) / 1000

    def call_times_s(self, max_size: int) -> dict[int, float]:
        """Returns the seconds of a call by micro-batch size, as a warm-up measures them."""
        return {size: max(self.seconds(size), 1e-5) for size in (1, max_size)}


class FakePreprocessor:
    """Uses the digest of an image's pixels as the input; see `Preprocessor`."""

    def __init__(self, decoder: Decoder, *, raw: bool) -> None:
        self._decoder = decoder
        self._raw = raw

    def prepare(
        self,
        content: bytes,
        *,
        with_picture: bool = False,
        with_whole: bool = False,
        with_stored: bool = False,
    ) -> Input:
        """Returns the input for one encoded image, never a picture; see `Preprocessor`."""
        del with_picture, with_whole, with_stored
        start_s = time.perf_counter()
        decoded = None if self._raw else self._decoder.decode(content)
        pixels = None if decoded is None else decoded.array()
        digest = hashlib.sha256(content if pixels is None else pixels.tobytes()).digest()
        array = np.zeros(SHAPE, np.uint8)
        array.flat[: len(digest)] = np.frombuffer(digest, np.uint8)
        height_px, width_px = SHAPE[:2] if pixels is None else pixels.shape[:2]
        decode_ms = (time.perf_counter() - start_s) * 1000
        return Input(array, decode_ms, width_px, height_px, decoded.warnings if decoded else ())


class FakeRuntime:
    """Computes the answer from the digest, after a pause; see `Runtime`."""

    name = "fake"
    device = "cpu"
    precision: Precision = "fp32"
    runners = 1
    for_single = None

    def __init__(self, times: FakeTimes) -> None:
        self._times = times

    def predict(
        self, inputs: Sequence[NDArray[np.uint8]], *, with_features: bool = False
    ) -> Answer:
        """Returns the answer, without features; see `Runtime.predict`."""
        del with_features
        if seconds := self._times.seconds(len(inputs)):
            time.sleep(seconds)
        weights = np.stack([array.reshape(-1)[:CATEGORIES] for array in inputs]) + np.float32(1)
        best = np.array([int(array.flat[CATEGORIES]) % CATEGORIES for array in inputs])
        weights[np.arange(len(inputs)), best] += 1024
        confidences = weights / weights.sum(axis=1, keepdims=True)
        return Answer(confidences.astype(np.float32))
