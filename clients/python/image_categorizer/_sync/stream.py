"""A stream by threads: one takes the sources, one sends, one receives, the caller has the results.

gRPC runs the sender, `_requests`, in a thread of its own for each call.  The sources have theirs:
while they wait, perhaps for a result, images are sent again.  Its twin in `_aio` is written by
hand.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import grpc

from image_categorizer._ledger import Item, Ledger, total_of
from image_categorizer._retries import ended_early
from image_categorizer._statuses import from_rpc_error
from image_categorizer._sync.connection import Connection
from image_categorizer._values import Progress, Result, Source
from image_categorizer.errors import CategorizerError
from image_categorizer.v1 import classify_pb2

Request = classify_pb2.ClassifyStreamRequest
if TYPE_CHECKING:
    Call = grpc._CallIterator[classify_pb2.ClassifyStreamResponse]  # noqa: SLF001 - the stubs' only name for it


class Stream:
    """Many images on one call, and on the next one if that call ends early."""

    def __init__(
        self,
        connection: Connection,
        max_image_bytes: Callable[[], int],
        sources: Iterable[Source],
        ledger: Ledger,
        on_progress: Progress | None,
    ) -> None:
        self._connection = connection
        self._ask_max_image_bytes = max_image_bytes
        self._max_image_bytes = 0
        self._sources = iter(sources)
        self._total = total_of(sources)
        self._on_progress = on_progress
        # None: the call ended without an error.  An exception ends the call or the stream.
        self._results: queue.SimpleQueue[Result | Exception | None] = queue.SimpleQueue()
        # The threads share what follows; the condition guards it.
        self._changed = threading.Condition()
        self._ledger = ledger
        self._call_number = 0
        self._is_source_wanted = False
        self._is_over = False

    def results(self) -> Iterator[Result]:
        """Yields one result for each source, in the order in which they become ready.

        Raises:
            CategorizerError: the call cannot be made, or ended early too often.
            Exception: what the sources raised, after the results of those before.
        """
        threading.Thread(target=self._pull, daemon=True).start()
        try:
            while True:
                try:
                    self._max_image_bytes = self._max_image_bytes or self._ask_max_image_bytes()
                    yield from self._one_call()
                    break
                except CategorizerError as error:
                    with self._changed:
                        wait_s = self._ledger.ended(error)
                        for lost in self._ledger.given_up():
                            self._results.put(lost)
                time.sleep(wait_s)
            if self._ledger.source_error is not None:
                raise self._ledger.source_error
        finally:
            with self._changed:
                self._is_over = True
            self._end_call()

    def _one_call(self) -> Iterator[Result]:
        number = self._end_call()
        call = self._connection.stubs.classify.ClassifyStream(
            self._requests(number), metadata=self._connection.headers()
        )
        threading.Thread(target=self._receive, args=[call], daemon=True).start()
        try:
            while (result := self._results.get()) is not None:
                if isinstance(result, Exception):
                    raise result
                with self._changed:
                    done = self._ledger.given()
                    self._changed.notify_all()
                if self._on_progress is not None:
                    self._on_progress(done, self._total)
                yield result
            if not self._ledger.is_finished:
                raise ended_early()
        finally:
            self._end_call()
            call.cancel()

    def _end_call(self) -> int:
        """Makes the senders of earlier calls end; returns the number of the next call."""
        with self._changed:
            self._call_number += 1
            self._changed.notify_all()
            return self._call_number

    def _receive(self, call: "Call") -> None:
        """Runs in a thread of each call."""
        try:
            headers = dict(call.initial_metadata() or ())
            request_id = str(headers.get("x-request-id", ""))
            if request_id:
                with self._changed:
                    self._ledger.accepted()
            for response in call:
                with self._changed:
                    if result := self._ledger.answered(response, request_id):
                        self._results.put(result)
                    self._changed.notify_all()
            self._results.put(None)
        except grpc.RpcError as error:
            self._results.put(from_rpc_error(error))
        except Exception as error:  # noqa: BLE001 - the caller waits and must hear of it
            self._results.put(error)

    def _requests(self, number: int) -> Iterator[Request]:
        """Runs in a thread of gRPC, one for each call."""
        yield self._ledger.config
        try:
            while (item := self._next_item(number)) is not None:
                try:
                    request = item.request(self._max_image_bytes)
                except (OSError, CategorizerError) as error:
                    with self._changed:
                        if result := self._ledger.failed(item, error):
                            self._results.put(result)
                    continue
                yield request
        except Exception as error:  # noqa: BLE001 - the caller waits and must hear of it
            self._results.put(error)

    def _next_item(self, number: int) -> Item | None:
        """Waits for something to send; returns None when the call has nothing more."""
        with self._changed:
            while self._call_number == number and not self._ledger.is_finished:
                pause_s = self._ledger.pause_s()
                if not pause_s:
                    if item := self._ledger.next_item():
                        return item
                    self._is_source_wanted = True
                    self._changed.notify_all()
                self._changed.wait(pause_s or None)
        return None

    def _pull(self) -> None:
        """Takes the sources, each when the sender has nothing else to send."""
        while self._waits_for_source():
            try:
                source = next(self._sources)
                with self._changed:
                    self._ledger.take(source)
                    self._changed.notify_all()
            except StopIteration:
                self._exhaust(None)
                return
            except Exception as error:  # noqa: BLE001 - the caller's own; raised after the results
                self._exhaust(error)
                return

    def _waits_for_source(self) -> bool:
        """Waits until another source is wanted; returns False if the stream is over."""
        with self._changed:
            while not self._is_over and not (self._is_source_wanted and self._ledger.can_take):
                self._changed.wait()
            self._is_source_wanted = False
            return not self._is_over

    def _exhaust(self, error: Exception | None) -> None:
        with self._changed:
            self._ledger.exhaust(error)
            self._changed.notify_all()
