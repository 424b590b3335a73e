"""What a server process and the model process share: memory for micro-batches, and messages.

    server process                                      model process
    inputs ─▶ slot (memfd) ────── Call ───────────────▶ forward pass
              slot        ◀────── Done ──────────────── confidences

Inputs and answers stay in the slots; messages are short, and each is one packet of a unix socket
(SOCK_SEQPACKET).  A slot belongs to one side at a time: to the server process until it sends
`Call`, then to the model process until it sends `Done`.

The memory has no name, so nothing remains of it when processes are killed.
"""

import mmap
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from image_categorizer_server.domain.model import Localization
from image_categorizer_server.inference.runtimes import Precision

MAX_MESSAGE_BYTES = 65_536
"""Of any message."""
SLOTS = 2
"""Micro-batches that a server process may hand over at a time, for each model: while one is
computed, the next one waits."""
MAX_ERROR_CHARACTERS = 2000


class Message(BaseModel):
    """A message, sent as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def packet(self) -> bytes:
        """Returns what is sent."""
        return self.model_dump_json().encode()


class Layout(Message):
    """Where things are in the memory of a slot.  Pages that are not used take no memory."""

    input_bytes: int = Field(ge=1)
    rows: int = Field(ge=1)
    """Size of the largest micro-batch."""
    categories: int = Field(ge=1)
    feature_bytes: int = Field(ge=0)

    @property
    def confidences_at(self) -> int:
        """Offset of the confidences in bytes."""
        return _whole_pages(self.input_bytes)

    @property
    def raw_at(self) -> int:
        """Offset of the confidences before the temperature."""
        return self.confidences_at + _whole_pages(4 * self.rows * self.categories)

    @property
    def features_at(self) -> int:
        """Offset of the features."""
        return self.raw_at + _whole_pages(4 * self.rows * self.categories)

    @property
    def total_bytes(self) -> int:
        """Size of the memory."""
        return self.features_at + _whole_pages(self.feature_bytes)


class Hello(Message):
    """The first message of a server process: which model it wants."""

    folder: str
    """The files of the version."""
    manifest_sha256: str
    """Of the manifest that the server process has read; see `Manifest.sha256`."""


class Offer(Message):
    """The answer to `Hello`: the model is loaded and warm.  Slots and sockets come with it."""

    name: str
    device: str
    precision: Precision
    max_size: int
    """Of a micro-batch."""
    calls_s: dict[int, float]
    """Seconds of a call by size, as the warm-up has measured them."""
    localization: Localization = Localization.NONE
    weights_shape: tuple[int, int] | None = None
    """(C, K) of the weights of the features, which come with the offer as memory."""
    cell_offset: float = 0.0
    features_bytes: int = 0
    """Size of what a detector answers for one image."""
    whole_bytes: int = 0
    """Size of an input with the whole picture; 0 if the network takes none."""
    layout: Layout


class Reply(Message):
    """An offer, or why there is none."""

    offer: Offer | None = None
    error: str = ""


class Call(Message):
    """The inputs of a micro-batch are in the slot."""

    shape: tuple[int, int, int, int]
    """(N, H, W, 3)."""
    with_features: bool


class Done(Message):
    """The answer is in the slot, or the call has failed."""

    error: str = ""
    """Class and message of the runtime's exception; empty if there is an answer."""
    has_raw: bool = False
    features_shape: tuple[int, ...] | None = None
    """(N, K, h, w), or (N, Q, 4 + C) of a detector; None if not asked for, or if there are none."""
    model_s: float = 0.0
    """Seconds of the model that fall to this call, of all that were answered together."""


@dataclass(frozen=True, slots=True)
class Block:
    """The answer of one call, in the memory of a slot."""

    confidences: NDArray[np.float32]
    """float32 (N, C)."""
    raw: NDArray[np.float32]
    """float32 (N, C)."""


class Slot:
    """The memory of one micro-batch, as one of both processes sees it."""

    def __init__(self, memory: int, layout: Layout) -> None:
        """Maps the memory.

        Args:
            memory: file descriptor; the mapping outlives it.
            layout: where things are.

        Raises:
            OSError: the memory cannot be mapped.
            ValueError: it is smaller than the layout.
        """
        self._layout = layout
        self._bytes = np.frombuffer(mmap.mmap(memory, layout.total_bytes), np.uint8)

    def inputs(self, shape: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        """Returns the place of inputs uint8 (N, H, W, 3).

        Raises:
            ValueError: there is no place for so many bytes.
        """
        size = _product(shape)
        if not (0 < shape[0] <= self._layout.rows and 0 < size <= self._layout.input_bytes):
            raise ValueError(f"a slot has no place for inputs of shape {shape}")
        return self._bytes[:size].reshape(shape)

    def answer(self, count: int) -> Block:
        """Returns the place of the answer for `count` inputs, at most `Layout.rows`."""
        shape = count, self._layout.categories
        return Block(
            self._floats(self._layout.confidences_at, shape),
            self._floats(self._layout.raw_at, shape),
        )

    def features(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Returns the place of features float32 of a shape that starts with N.

        Raises:
            ValueError: there is no place for so many bytes.
        """
        if 4 * _product(shape) > self._layout.feature_bytes:
            raise ValueError(f"a slot has no place for features of shape {shape}")
        return self._floats(self._layout.features_at, shape)

    def _floats(self, start: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        size = 4 * _product(shape)
        return self._bytes[start : start + size].view(np.float32).reshape(shape)


def new_memory(name: str, size_bytes: int) -> int:
    """Returns the file descriptor of new memory without a name in the file system.

    Raises:
        OSError: there is no memory.
    """
    memory = os.memfd_create(name)
    os.ftruncate(memory, size_bytes)
    return memory


def _product(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def _whole_pages(size_bytes: int) -> int:
    return -(-size_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
