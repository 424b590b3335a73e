"""What both clients' streams share: which images are sent, answered, or to be sent again.

    source ─▶ to send ─▶ unanswered ─▶ result ─▶ the caller
                 └── the call broke, or the server was busy

Knows no network and no threads; a client tells it what happens.  The only I/O is reading files.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from image_categorizer._calls import MEBIBYTE, Classification, Options, Prediction, classification
from image_categorizer.errors import CategorizerError, ImageTooLarge, Unavailable
from image_categorizer.statuses import from_status
from image_categorizer.v1 import classify_pb2

Source = str | os.PathLike[str] | tuple[str, bytes]
"""A file's path, or a key and encoded bytes."""

Lane = Literal["INTERACTIVE", "BATCH"]
"""See `ClassifyStreamConfig.Lane` in classify.proto."""

Progress = Callable[[int, int | None], None]
"""Hears of each result: how many there are now, and of how many, where that is known."""

Broken = Callable[[Sequence[str]], None]
"""Hears which images the server had when a call broke, by their keys; what it raises is raised."""

# Twice what the server takes at once by default: the next image is on its way when there is room.
MOST_OPEN = 128
MOST_OPEN_BYTES = 64 * MEBIBYTE
FEW_BYTES = 256 * 1024
MOST_ATTEMPTS = 5
"""How often one image is sent to a server that is too busy for it."""
MOST_BREAKS = 10
"""How often in a row a call may break without an answer."""
FIRST_BACKOFF_S = 0.2
MOST_BACKOFF_S = 5.0
SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff")
)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one image of many: `classification` or `error`, never both."""

    key: str
    """The path or the key, as it was given."""
    classification: Classification | None = None
    error: CategorizerError | OSError | None = None
    """What `classify_image` would have raised."""

    @property
    def filename(self) -> str:
        """The same as `key`."""
        return self.key

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        """The most confident first; empty where the image failed."""
        return self.classification.predictions if self.classification else ()

    @property
    def category(self) -> str | None:
        """The most probable category; None where it failed, or nothing reached the threshold."""
        return self.classification.category if self.classification else None

    @property
    def confidence(self) -> float | None:
        """The confidence of `category`, in [0, 1]."""
        return self.classification.confidence if self.classification else None


@dataclass(slots=True, eq=False)
class Item:
    """One image on its way."""

    wire_key: str
    key: str
    content: bytes | None
    """None: in the file `key`, read each time it is sent."""
    size_bytes: int = 0
    attempts: int = 0
    has_result: bool = False

    @property
    def is_slow(self) -> bool:
        """Whether `request` takes longer than handing it to a thread."""
        return self.content is None or len(self.content) > FEW_BYTES

    def request(self, max_image_bytes: int) -> classify_pb2.ClassifyStreamRequest:
        """Returns the message that sends it; blocks while the file is read.

        Raises:
            OSError: the file cannot be read.
            ImageTooLarge: it has more bytes than the server takes.
        """
        content = self.content
        if content is None:
            with Path(self.key).open("rb") as file:
                content = file.read(max_image_bytes + 1)
        if len(content) > max_image_bytes:
            error = ImageTooLarge(f"the image has more than {max_image_bytes} bytes")
            error.status = "INVALID_ARGUMENT"
            raise error
        self.size_bytes = len(content)
        item = classify_pb2.ClassifyStreamItem(key=self.wire_key, image=content)
        return classify_pb2.ClassifyStreamRequest(item=item)


class Ledger:
    """The images of one stream; each gets exactly one result, however often a call breaks.

    Open are those between their source and the moment at which the caller has their result.
    """

    def __init__(
        self,
        options: Options,
        lane: Lane,
        on_break: Broken | None = None,
        tenant_id: str = "",
    ) -> None:
        self.config = classify_pb2.ClassifyStreamRequest(
            config=classify_pb2.ClassifyStreamConfig(
                options=classify_pb2.ClassifyOptions(**options),
                lane=classify_pb2.ClassifyStreamConfig.Lane.Value(lane),
                tenant_id=tenant_id,
            )
        )
        self.is_exhausted = False
        """Whether the sources have ended."""
        self._to_send: deque[Item] = deque()
        self._unanswered: dict[str, Item] = {}
        self._taken = 0
        self._given = 0
        self._resume_s = 0.0
        self._breaks = 0
        self._on_break = on_break
        self._is_accepted = False

    @property
    def has_room(self) -> bool:
        """Whether another source may be taken."""
        return (
            not self.is_exhausted
            and self._taken - self._given < MOST_OPEN
            and sum(item.size_bytes for item in self._unanswered.values()) < MOST_OPEN_BYTES
        )

    @property
    def is_finished(self) -> bool:
        """Whether every source has its result."""
        return self.is_exhausted and not self._to_send and not self._unanswered

    def take(self, source: Source) -> None:
        """Adds an image.

        Raises:
            TypeError: it is neither a path nor a key and bytes.
        """
        key: str
        content: bytes | None
        match source:
            case str() | os.PathLike():
                key, content = os.fspath(source), None
            case (str() as key, bytes() as content):
                pass
            case _:
                raise TypeError(f"a source is a path or (key, bytes), not {source!r:.100}")
        self._to_send.append(Item(str(self._taken), key, content))
        self._taken += 1

    def pause_s(self) -> float:
        """Returns for how many seconds nothing should be sent, because the server is busy."""
        return max(0.0, self._resume_s - time.monotonic()) if self._to_send else 0.0

    def next_item(self) -> Item | None:
        """Returns what is to be sent next, from now on unanswered; None where nothing is."""
        while self._to_send:
            item = self._to_send.popleft()
            if not item.has_result:
                self._unanswered[item.wire_key] = item
                return item
        return None

    def failed(self, item: Item, error: CategorizerError | OSError) -> Result | None:
        """Returns the result of an image that could not be sent; None where it has one already."""
        if item.has_result:
            return None
        self._unanswered.pop(item.wire_key, None)
        item.has_result = True
        return Result(item.key, error=error)

    def accepted(self) -> None:
        """Notes that the server has taken the call."""
        self._is_accepted = True

    def answered(
        self, response: classify_pb2.ClassifyStreamResponse, request_id: str
    ) -> Result | None:
        """Returns the result that an answer is; None where the image is to be sent again."""
        self._breaks = 0
        item = self._unanswered.pop(response.key, None)
        if item is None:
            return None
        if response.WhichOneof("outcome") == "response":
            item.has_result = True
            return Result(item.key, classification(item.key, response.response))
        error = from_status(response.status, request_id)
        item.attempts += 1
        if isinstance(error, Unavailable) and item.attempts < MOST_ATTEMPTS:
            wait_s = error.retry_after_s or backoff_s(item.attempts)
            self._resume_s = max(self._resume_s, time.monotonic() + wait_s)
            self._to_send.append(item)
            return None
        item.has_result = True
        return Result(item.key, error=error)

    def given(self) -> int:
        """Notes that the caller has one more result; returns how many."""
        self._given += 1
        return self._given

    def broken(self, error: CategorizerError) -> float:
        """Takes back all that is unanswered; returns after how many seconds to call again.

        Raises:
            CategorizerError: `error`, where calling again would not help, or has not helped.
            Exception: what `on_break` raises.
        """
        is_broken = self._is_accepted and is_cut(error)
        self._is_accepted = False
        if self._on_break and is_broken and self._unanswered:
            self._on_break([item.key for item in self._unanswered.values()])
        self._breaks += 1
        if self._breaks >= MOST_BREAKS or not is_passing(error):
            raise error
        self._to_send.extendleft(reversed(self._unanswered.values()))
        self._unanswered.clear()
        return max(error.retry_after_s or 0.0, backoff_s(self._breaks))


def is_passing(error: CategorizerError) -> bool:
    """Returns whether a call that ended so may go well the next time.

    A connection that breaks shows as INTERNAL, UNKNOWN or CANCELLED with no word of the server's;
    grpc.aio says INTERNAL also where it was sending while the server's own error arrived.
    """
    return is_cut(error) or isinstance(error, Unavailable)


def is_cut(error: CategorizerError) -> bool:
    """Returns whether the connection broke, with no word of the server's."""
    statuses = "INTERNAL", "UNKNOWN", "CANCELLED", "UNAVAILABLE"
    return error.status in statuses and not error.request_id


def backoff_s(attempt: int) -> float:
    """Returns the wait after the given attempt, counted from 1, in seconds."""
    return float(min(MOST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (attempt - 1)))


def ended_early() -> Unavailable:
    """Returns the error of a call that ended well, but with images unanswered."""
    return Unavailable("the server ended the call before everything was answered")


def total_of(sources: object) -> int | None:
    """Returns how many sources there are, where that can be known beforehand."""
    return len(sources) if isinstance(sources, Sequence | set | frozenset | dict) else None


def image_files(folder: str | os.PathLike[str], pattern: str | None, recursive: bool) -> list[str]:
    """Returns the paths of a folder's images, sorted.

    Args:
        folder: where to look.
        pattern: which names, such as `*.jpg`; None: those that end as images do.
        recursive: whether to look in folders below as well.

    Raises:
        NotADirectoryError: `folder` is none.
    """
    root = Path(folder)
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is no folder")
    found: Iterable[Path] = (root.rglob if recursive else root.glob)(pattern or "*")
    return sorted(
        str(file)
        for file in found
        if (pattern is not None or file.suffix.lower() in SUFFIXES) and file.is_file()
    )
