"""A stream for ordinary code: one thread sends, one receives, the caller takes the results.

gRPC runs the sender, `_requests`, in a thread of its own for each call.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import grpc

from image_categorizer._streams import (
    Item,
    Ledger,
    Progress,
    Result,
    Source,
    ended_early,
    total_of,
)
from image_categorizer.errors import CategorizerError
from image_categorizer.statuses import from_rpc_error
from image_categorizer.v1 import classify_pb2

Request = classify_pb2.ClassifyStreamRequest
if TYPE_CHECKING:
    Call = grpc._CallIterator[classify_pb2.ClassifyStreamResponse]  # noqa: SLF001 - the stubs' only name for it


class SyncStream:
    """Many images on one call, and on the next where that breaks."""

    def __init__(
        self,
        open_call: "Callable[[Iterator[Request]], Call]",
        max_image_bytes: Callable[[], int],
        sources: Iterable[Source],
        ledger: Ledger,
        on_progress: Progress | None,
    ) -> None:
        self._open = open_call
        self._ask_max_image_bytes = max_image_bytes
        self._max_image_bytes = 0
        self._sources = iter(sources)
        self._total = total_of(sources)
        self._on_progress = on_progress
        self._pulling = threading.Lock()
        self._results: queue.SimpleQueue[Result | Exception | None] = queue.SimpleQueue()
        self._source_error: Exception | None = None
        # What follows is shared by the threads and guarded by the condition.
        self._changed = threading.Condition()
        self._ledger = ledger
        self._call_number = 0

    def results(self) -> Iterator[Result]:
        """Yields one result for each source, in the order in which they become ready.

        Raises:
            CategorizerError: the call cannot be made, or broke too often.
            Exception: what the sources raised, after the results of those before.
        """
        try:
            while True:
                try:
                    self._max_image_bytes = self._max_image_bytes or self._ask_max_image_bytes()
                    yield from self._one_call()
                    break
                except CategorizerError as error:
                    with self._changed:
                        wait_s = self._ledger.broken(error)
                time.sleep(wait_s)
            if self._source_error is not None:
                raise self._source_error
        finally:
            self._end_call()

    def _one_call(self) -> Iterator[Result]:
        number = self._end_call()
        call = self._open(self._requests(number))
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
        """Makes the senders of earlier calls end; returns the number of the next."""
        with self._changed:
            self._call_number += 1
            self._changed.notify_all()
            return self._call_number

    def _receive(self, call: "Call") -> None:
        """Runs in a thread for each call."""
        try:
            request_id = ""
            for response in call:
                request_id = request_id or str(
                    dict(call.initial_metadata()).get("x-request-id", "")
                )
                with self._changed:
                    if result := self._ledger.answered(response, request_id):
                        self._results.put(result)
                    self._changed.notify_all()
            self._results.put(None)
        except grpc.RpcError as error:
            self._results.put(from_rpc_error(error))

    def _requests(self, number: int) -> Iterator[Request]:
        """Runs in a thread of gRPC's, one for each call."""
        yield self._ledger.config
        while (item := self._next_item(number)) is not None:
            try:
                request = item.request(self._max_image_bytes)
            except (OSError, CategorizerError) as error:
                with self._changed:
                    if result := self._ledger.failed(item, error):
                        self._results.put(result)
                continue
            yield request

    def _next_item(self, number: int) -> Item | None:
        """Waits for something to send; returns None when the call has nothing more."""
        while True:
            with self._changed:
                if self._call_number != number or self._ledger.is_finished:
                    return None
                pause_s = self._ledger.pause_s()
                if not pause_s and (item := self._ledger.next_item()):
                    return item
                if pause_s or not self._ledger.has_room:
                    self._changed.wait(pause_s or None)
                    continue
            self._pull()

    def _pull(self) -> None:
        """Takes one source; one thread at a time, for an earlier call's may still wait for one."""
        with self._pulling:
            with self._changed:
                if not self._ledger.has_room:
                    return
            try:
                source = next(self._sources)
            except StopIteration:
                self._exhaust(None)
            except Exception as error:  # noqa: BLE001 - the caller's own, raised where it is seen
                self._exhaust(error)
            else:
                self._take(source)

    def _take(self, source: Source) -> None:
        try:
            with self._changed:
                self._ledger.take(source)
                self._changed.notify_all()
        except TypeError as error:
            self._exhaust(error)

    def _exhaust(self, error: Exception | None) -> None:
        with self._changed:
            self._source_error = error
            self._ledger.is_exhausted = True
            self._changed.notify_all()
