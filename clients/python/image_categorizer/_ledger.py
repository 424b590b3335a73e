"""What a stream still owes its caller: which images are sent, answered, or to be sent again.

    source ─▶ to send ─▶ unanswered ─▶ result ─▶ the caller
                 └── the call ended early, or the server was busy

Knows neither network nor threads; a client reports what happens.  The only I/O is reading files.
"""

import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from image_categorizer import _wire
from image_categorizer._channel import MEBIBYTE
from image_categorizer._html import with_picture
from image_categorizer._inputs import file_name, named_content
from image_categorizer._retries import (
    MAX_FAILED_CALLS,
    MAX_LOSSES,
    MAX_RETRY_AFTER_S,
    Retries,
    backoff_s,
    ended_early,
    is_disconnect,
)
from image_categorizer._statuses import from_status
from image_categorizer._values import Classification, OnDisconnect, Result, Source
from image_categorizer.errors import (
    CategorizerError,
    CredentialsInvalid,
    ImageTooLarge,
    RateLimited,
    Unavailable,
)
from image_categorizer.v1 import classify_pb2

# Twice what the server accepts at once by default, so that the next image is already on its way
# when the server has capacity.
MAX_OPEN = 128
MAX_OPEN_BYTES = 64 * MEBIBYTE
SMALL_BYTES = 256 * 1024
MAX_SENDS = 5
"""How often one image is sent to a server that is too busy for it."""


def total_of(sources: object) -> int | None:
    """Returns the number of sources if it is known in advance."""
    return len(sources) if isinstance(sources, Sequence | set | frozenset | dict) else None


@dataclass(slots=True, eq=False)
class Item:
    """One image on its way."""

    wire_key: str
    key: str
    content: bytes | None
    """None: in the file `key`, which is read each time it is sent."""
    filename: str = ""
    """The name to store the image under."""
    blur: tuple[str, ...] = ()
    """What is blurred in what is stored of it."""
    size_bytes: int = 0
    attempts: int = 0
    losses: int = 0
    """On how many calls it was sent that broke before its answer."""
    has_result: bool = False

    @property
    def is_slow(self) -> bool:
        """Whether `request` may take longer than handing it to a thread."""
        return self.content is None or len(self.content) > SMALL_BYTES

    def shown(self, found: Classification) -> Classification:
        """Returns the answer, which notebooks show with the image."""
        path = self.key if self.content is None else None
        return with_picture(found, path, self.content or b"")

    def request(self, max_image_bytes: int) -> classify_pb2.ClassifyStreamRequest:
        """Returns the message that sends the image; blocks while it reads the file.

        Raises:
            OSError: the file cannot be read.
            ImageTooLarge: it has more bytes than the server accepts.
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
        item = classify_pb2.ClassifyStreamItem(
            key=self.wire_key,
            image=content,
            attempt=self.losses + 1,
            filename=self.filename,
            blur=self.blur,
        )
        return classify_pb2.ClassifyStreamRequest(item=item)


class Ledger:
    """The images of one stream; each gets exactly one result, however often a call ends early.

    An image is open from the moment its source is taken until the caller has its result.
    """

    def __init__(
        self,
        config: classify_pb2.ClassifyStreamRequest,
        on_disconnect: OnDisconnect | None = None,
        *,
        renews_credentials: bool = False,
    ) -> None:
        """Starts without images.

        Args:
            config: the first message of every call.
            on_disconnect: see `classify_stream`.
            renews_credentials: whether the next call has other credentials if those of this one
                expire.
        """
        self._renews_credentials = renews_credentials
        self.config = config
        self.source_error: Exception | None = None
        """What the sources raised; for the caller, after all results."""
        self._on_disconnect = on_disconnect
        self._is_exhausted = False
        self._to_send: deque[Item] = deque()
        self._unanswered: dict[str, Item] = {}
        self._taken = 0
        self._given = 0
        self._resume_s = 0.0
        self._retries = Retries(MAX_FAILED_CALLS)
        self._is_accepted = False
        self._given_up: list[Result] = []

    @property
    def can_take(self) -> bool:
        """Whether another source may be taken."""
        return (
            not self._is_exhausted
            and self._taken - self._given < MAX_OPEN
            and sum(item.size_bytes for item in self._unanswered.values()) < MAX_OPEN_BYTES
        )

    @property
    def is_finished(self) -> bool:
        """Whether every source has its result."""
        return self._is_exhausted and not self._to_send and not self._unanswered

    def take(self, source: Source) -> None:
        """Adds an image.

        Raises:
            TypeError: it is neither a path nor a name and bytes.
        """
        key, content, blur = (
            (os.fspath(source), None, ())
            if isinstance(source, str | os.PathLike)
            else named_content(source)
        )
        filename = file_name(key) if self.config.config.options.store else ""
        self._to_send.append(Item(str(self._taken), key, content, filename, blur))
        self._taken += 1

    def exhaust(self, error: Exception | None = None) -> None:
        """Notes that there are no more sources, because of `error` if one is given."""
        self.source_error, self._is_exhausted = error, True

    def pause_s(self) -> float:
        """Returns for how many seconds to send nothing, because the server is busy."""
        return max(0.0, self._resume_s - time.monotonic()) if self._to_send else 0.0

    def next_item(self) -> Item | None:
        """Returns the next image to send, unanswered from now on; None if there is none."""
        while self._to_send:
            item = self._to_send.popleft()
            if not item.has_result:
                self._unanswered[item.wire_key] = item
                return item
        return None

    def failed(self, item: Item, error: CategorizerError | OSError) -> Result | None:
        """Returns the result of an image that cannot be sent; None if it already has one."""
        if item.has_result:
            return None
        self._unanswered.pop(item.wire_key, None)
        item.has_result = True
        return Result(item.key, error=error)

    def accepted(self) -> None:
        """Notes that the server has accepted the call."""
        self._is_accepted = True

    def answered(
        self, response: classify_pb2.ClassifyStreamResponse, request_id: str
    ) -> Result | None:
        """Returns the result that an answer holds; None if the image is to be sent again."""
        self._retries.succeeded()
        item = self._unanswered.pop(response.key, None)
        if item is None:
            return None
        match response.WhichOneof("outcome"):
            case "response":
                item.has_result = True
                found = _wire.classification(item.key, response.response)
                return Result(item.key, item.shown(found))
            case "status":
                error = from_status(response.status, request_id)
            case _:
                error = CategorizerError("the server sent an outcome unknown to this client")
                error.request_id = request_id
        is_limited = isinstance(error, RateLimited)  # as often as it takes: others went first
        item.attempts += not is_limited
        asked_s = error.retry_after_s or 0.0
        is_soon = is_limited and asked_s <= MAX_RETRY_AFTER_S
        if is_soon or (isinstance(error, Unavailable) and item.attempts < MAX_SENDS):
            wait_s = asked_s + backoff_s(max(1, item.attempts))
            self._resume_s = max(self._resume_s, time.monotonic() + wait_s)
            self._to_send.append(item)
            return None
        item.has_result = True
        return Result(item.key, error=error)

    def given(self) -> int:
        """Notes that the caller has one more result; returns the number of results."""
        self._given += 1
        return self._given

    def ended(self, error: CategorizerError) -> float:
        """Takes back all unanswered images; returns after how many seconds to call again.

        Raises:
            CategorizerError: `error`, if another call would not help or has not helped.
            Exception: what `on_disconnect` raises.
        """
        is_lost = self._is_accepted and is_disconnect(error)
        has_expired = self._is_accepted and isinstance(error, CredentialsInvalid)
        self._is_accepted = False
        if self._on_disconnect and is_lost and self._unanswered:
            self._on_disconnect([item.key for item in self._unanswered.values()])
        try:
            wait_s = self._retries.failed(
                ended_early() if has_expired and self._renews_credentials else error
            )
        except Unavailable:
            raise error from None
        if is_lost or error.is_final:
            self._count_losses(error)
        self._to_send.extendleft(reversed(self._unanswered.values()))
        self._unanswered.clear()
        return wait_s

    def given_up(self) -> list[Result]:
        """Returns the results of the images that broke too many calls; each of them once."""
        results, self._given_up = self._given_up, []
        return results

    def _count_losses(self, error: CategorizerError) -> None:
        for item in list(self._unanswered.values()):
            item.losses += 1
            if item.losses >= MAX_LOSSES and (result := self.failed(item, error)):
                self._given_up.append(result)
