"""One thread for one model: merges the micro-batches of several server processes into one call.

The sockets are the queue: while a call runs, the packets of the next micro-batches wait in them.
Then all that wait are merged, oldest first, up to the size of the largest micro-batch.  A
micro-batch is never divided, so a call is at most what one server process may ask for by itself.

A merged call that fails is repeated for each micro-batch, so that the images of one server process
do not fail those of another.  What fails by itself goes back, and the server process isolates the
image (see `guard`).
"""

import os
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from image_categorizer_server.inference.engine.guard import is_out_of_memory, is_sticky
from image_categorizer_server.inference.runtimes import Runtime
from image_categorizer_server.inference.runtimes.remote import Place
from image_categorizer_server.inference.runtimes.slots import (
    MAX_ERROR_CHARACTERS,
    MAX_MESSAGE_BYTES,
    Call,
    Done,
)
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A micro-batch that a server process has handed over."""

    place: Place
    call: Call

    @property
    def kind(self) -> tuple[tuple[int, ...], bool]:
        """What merged micro-batches have in common: the shape of an input, and features or not."""
        return self.call.shape[1:], self.call.with_features


class Merger:
    """Calls one model for all server processes."""

    def __init__(
        self, runtime: Runtime, max_size: int, on_lost: Callable[[Exception], None]
    ) -> None:
        """Starts the thread.

        Args:
            runtime: answers.
            max_size: of a merged micro-batch.
            on_lost: is called in the thread when no later call of this process can succeed.
        """
        self._runtime = runtime
        self._max_size = max_size
        self._on_lost = on_lost
        self._waiting: deque[Waiting] = deque()
        self._added: deque[Place] = deque()
        self._is_stopped = False
        self._busy_since_s: float | None = None
        self._selector = selectors.DefaultSelector()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._work, name="merger", daemon=True)
        self._thread.start()

    def add(self, places: Sequence[Place]) -> None:
        """Serves the slots of one more server process until it closes their sockets."""
        for place in places:
            place.line.setblocking(False)  # one packet at a time always has space
        self._added.extend(places)
        os.eventfd_write(self._wake, 1)

    def busy_s(self) -> float:
        """Returns for how many seconds the current call has been running."""
        since_s = self._busy_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    def stop(self, within_s: float) -> bool:
        """Ends the thread; blocks; idempotent.

        Args:
            within_s: how long a call may still take, in seconds.

        Returns:
            Whether it has ended.  If not, it is left.
        """
        if not self._is_stopped:
            self._is_stopped = True
            os.eventfd_write(self._wake, 1)
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        try:
            self._serve()
        except Exception as error:
            log.exception("a bug in the thread of a model")
            self._on_lost(error)

    def _serve(self) -> None:
        while not self._is_stopped:
            for key, _ in self._selector.select(0 if self._waiting else None):
                if key.data is None:
                    os.eventfd_read(self._wake)
                else:
                    self._receive(key.data)
            while self._added:
                place = self._added.popleft()
                self._selector.register(place.line, selectors.EVENT_READ, place)
            if self._waiting:
                group = self._next_group()
                self._busy_since_s = time.monotonic()
                self._run(group)
                self._busy_since_s = None
        for key in list(self._selector.get_map().values()):
            if key.data is not None:
                self._forget(key.data)
        self._selector.close()
        os.close(self._wake)

    def _receive(self, place: Place) -> None:
        """Notes a micro-batch, or the end of a server process, which may come at once."""
        try:
            while packet := place.line.recv(MAX_MESSAGE_BYTES):
                call = Call.model_validate_json(packet)
                place.slot.inputs(call.shape)  # raises if it does not fit
                self._waiting.append(Waiting(place, call))
        except BlockingIOError:
            return
        except OSError:
            pass  # killed
        except ValueError as error:  # also pydantic's
            log.warning("a server process asks for what it cannot", error=str(error))
        self._forget(place)

    def _forget(self, place: Place) -> None:
        self._selector.unregister(place.line)
        place.line.close()
        self._waiting = deque(other for other in self._waiting if other.place is not place)

    def _next_group(self) -> list[Waiting]:
        """Removes and returns the oldest micro-batch, and others that fit into the same call."""
        group: list[Waiting] = []
        rest: deque[Waiting] = deque()
        count = 0
        for waiting in self._waiting:
            size = waiting.call.shape[0]
            fits = not group or (waiting.kind == group[0].kind and count + size <= self._max_size)
            if fits:
                group.append(waiting)
                count += size
            else:
                rest.append(waiting)
        self._waiting = rest
        return group

    def _run(self, group: Sequence[Waiting]) -> None:
        """Calls the model for a group, and answers."""
        try:
            done = self._called(group)
        except Exception as error:  # noqa: BLE001 - a runtime may raise anything
            if len(group) > 1 and not is_sticky(error):
                self._shrink_if_needed(error, group)
                for waiting in group:
                    self._run([waiting])
                return
            text = f"{type(error).__name__}: {error}"
            log.warning("a call of the model fails", error=text)
            done = [Done(error=text[:MAX_ERROR_CHARACTERS]) for _ in group]
            if is_sticky(error):
                self._on_lost(error)
        for waiting, answer in zip(group, done, strict=True):
            with suppress(OSError):  # the server process is gone, which the selector reports
                waiting.place.line.send(answer.packet())

    def _called(self, group: Sequence[Waiting]) -> list[Done]:
        blocks = [waiting.place.slot.inputs(waiting.call.shape) for waiting in group]
        inputs = [array for block in blocks for array in block]
        start_s = time.monotonic()
        answer = self._runtime.predict(inputs, with_features=group[0].call.with_features)
        row_s = (time.monotonic() - start_s) / len(inputs)
        if len(answer.confidences) != len(inputs):
            raise ValueError(f"{len(answer.confidences)} rows for {len(inputs)} inputs")
        done, start = [], 0
        for waiting in group:
            slot, rows = waiting.place.slot, slice(start, start + waiting.call.shape[0])
            start = rows.stop
            block = slot.answer(waiting.call.shape[0])
            block.confidences[:] = answer.confidences[rows]
            if answer.raw_confidences is not None:
                block.raw[:] = answer.raw_confidences[rows]
            shape = None
            if answer.features is not None:
                given = answer.features[rows]
                shape = given.shape
                slot.features(shape)[:] = given
            has_raw = answer.raw_confidences is not None
            model_s = row_s * waiting.call.shape[0]
            done.append(Done(has_raw=has_raw, features_shape=shape, model_s=model_s))
        return done

    def _shrink_if_needed(self, error: Exception, group: Sequence[Waiting]) -> None:
        """Merges less from now on, if memory has run out."""
        if is_out_of_memory(error):
            sizes = [waiting.call.shape[0] for waiting in group]
            self._max_size = max(*sizes, sum(sizes) // 2)
            log.warning("out of memory", size=sum(sizes), max_size=self._max_size)
