"""A runtime in another process: hands over micro-batches to the model process of this machine.

One connection stands for the use of one model: the model process keeps the model loaded until the
connection is closed, also by the kernel when this process is killed.  The end of the model process
closes it too: calls fail at once with `RuntimeLost`, and the registry loads the model again.
"""

import asyncio
import os
import queue
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from image_categorizer_server.clock import Backoff
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.runtimes import Answer, Precision, RuntimeLost
from image_categorizer_server.inference.runtimes.slots import (
    MAX_MESSAGE_BYTES,
    SLOTS,
    Call,
    Done,
    Hello,
    Offer,
    Reply,
    Slot,
)
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
FIRST_RETRY_S, MAX_RETRY_S = 0.05, 1.0
MAX_ENDS = 3
"""A model during whose load the model process ends so often is not loaded."""
BROKEN = b"broken"
"""Sent when the model fails on every image: who asks for it next gets it loaded afresh."""


class RemoteError(Exception):
    """The runtime in the model process has raised an exception: its class and its message."""


@dataclass(frozen=True, slots=True)
class Place:
    """A slot, and the socket whose packets say whose turn it is."""

    slot: Slot
    line: socket.socket


class RemoteRuntime:
    """Calls a model in the model process; see `Runtime`."""

    runners = SLOTS
    for_single = None

    def __init__(
        self, link: socket.socket, offer: Offer, places: Sequence[Place], timeout_s: float
    ) -> None:
        """Takes over the sockets; see `open_remote`.

        Args:
            link: stands for the use of the model.
            offer: of the model process.
            places: `SLOTS` of them.
            timeout_s: maximum seconds of one call; afterwards the runtime is lost.
        """
        self.name: str = offer.name
        self.device: str = offer.device
        self.precision: Precision = offer.precision
        self._link = link
        self._timeout_s = timeout_s
        self._places = list(places)
        self._free: queue.SimpleQueue[Place] = queue.SimpleQueue()
        for place in places:
            place.line.settimeout(timeout_s)
            self._free.put(place)

    def predict(
        self, inputs: Sequence[NDArray[np.uint8]], *, with_features: bool = False
    ) -> Answer:
        """Returns the answer; see `Runtime.predict`.

        Raises:
            RemoteError: the model has failed on these inputs.
            RuntimeLost: the model process has ended, or does not answer in time.
        """
        place = self._free.get(timeout=self._timeout_s)
        try:
            return self._called(place, inputs, with_features)
        except OSError as error:  # also TimeoutError
            # The model process may still write to the slot, so no slot is used any more.
            self._end_lines()
            raise RuntimeLost(f"the model process does not answer: {error}") from error
        finally:
            self._free.put(place)

    def _called(
        self, place: Place, inputs: Sequence[NDArray[np.uint8]], with_features: bool
    ) -> Answer:
        height, width, channels = inputs[0].shape
        shape = len(inputs), height, width, channels
        np.stack(inputs, out=place.slot.inputs(shape))
        place.line.send(Call(shape=shape, with_features=with_features).packet())
        packet = place.line.recv(MAX_MESSAGE_BYTES)
        if not packet:
            raise ConnectionResetError("it has ended")
        done = Done.model_validate_json(packet)
        if done.error:
            raise RemoteError(done.error)
        # Copies: the slot is used again while the caller still reads.
        block = place.slot.answer(len(inputs))
        found = done.features_shape
        return Answer(
            block.confidences.copy(),
            None if found is None else place.slot.features(found).copy(),
            block.raw.copy() if done.has_raw else None,
            model_s=done.model_s,  # the call also waits for those of other server processes
        )

    def _end_lines(self) -> None:
        for place in self._places:
            with suppress(OSError):  # the other side has closed it already
                place.line.shutdown(socket.SHUT_RDWR)

    def watch(self, on_lost: Callable[[], None]) -> None:
        """Calls `on_lost` once the model process is gone; call it on the event loop."""
        loop = asyncio.get_running_loop()

        def readable() -> None:  # the model process never sends more: this is its end
            loop.remove_reader(self._link.fileno())
            log.warning("the model process is gone", model_runtime=self.name)
            self._end_lines()
            on_lost()

        loop.add_reader(self._link.fileno(), readable)

    def report_broken(self) -> None:
        """Tells the model process that the model fails on every image; thread-safe."""
        with suppress(OSError):  # it is gone, and the model with it
            self._link.send(BROKEN)

    def close(self) -> None:
        """Ends the use of the model; call it on the event loop, when no call runs."""
        with suppress(RuntimeError, ValueError):
            asyncio.get_running_loop().remove_reader(self._link.fileno())
        self._link.close()
        for place in self._places:
            place.line.close()


@dataclass(frozen=True, slots=True)
class Opened:
    """A model that the model process has loaded for us."""

    runtime: RemoteRuntime
    offer: Offer
    weights: NDArray[np.float32] | None
    """float32 (C, K): the weight of each feature for each category; None if there are none."""


async def open_remote(address: str, hello: Hello, load_s: float, call_s: float) -> Opened:
    """Returns a model once the model process has loaded it; waits for a process that restarts.

    Args:
        address: path of the model process's socket.
        hello: which model.
        load_s: maximum seconds of all that.
        call_s: maximum seconds of one call of the model.

    Raises:
        OperatorError: the model cannot be loaded, or there is no model process in time.
    """
    backoff, ends = Backoff(FIRST_RETRY_S, MAX_RETRY_S), 0
    try:
        async with asyncio.timeout(load_s):
            while True:
                try:
                    return await _asked(address, hello, call_s)
                except (ConnectionRefusedError, FileNotFoundError):
                    pass  # it restarts
                except ConnectionError:
                    ends += 1
                    if ends == MAX_ENDS:
                        raise OperatorError(
                            f"The model process ended {ends} times while it loaded it."
                        ) from None
                await asyncio.sleep(backoff.next_s())
    except TimeoutError:
        raise OperatorError(f"The model process did not load it within {load_s:g} s.") from None


async def _asked(address: str, hello: Hello, call_s: float) -> Opened:
    """Asks once.

    Raises:
        ConnectionError, FileNotFoundError: there is no model process, or it has ended.
        OperatorError: it cannot load the model.
    """
    loop = asyncio.get_running_loop()
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        link.setblocking(False)
        await loop.sock_connect(link, address)
        await loop.sock_sendall(link, hello.packet())
        packet, handles = await _received(link)
        return _taken(link, packet, handles, call_s)
    except BaseException:
        link.close()
        raise


async def _received(link: socket.socket) -> tuple[bytes, list[int]]:
    """Returns the reply, and the file descriptors that come with it."""
    loop = asyncio.get_running_loop()
    is_readable = asyncio.Event()
    loop.add_reader(link.fileno(), is_readable.set)
    try:
        await is_readable.wait()
    finally:
        loop.remove_reader(link.fileno())
    packet, handles, _, _ = socket.recv_fds(link, MAX_MESSAGE_BYTES, 2 * SLOTS + 1)
    if not packet:
        raise ConnectionResetError("the model process has ended")
    return packet, handles


def _read_offer(packet: bytes) -> Offer:
    try:
        reply = Reply.model_validate_json(packet)
    except ValidationError:
        raise OperatorError("The model process is of another version.") from None
    if reply.offer is None:
        raise OperatorError(reply.error)
    return reply.offer


def _taken(link: socket.socket, packet: bytes, handles: list[int], call_s: float) -> Opened:
    """Makes a runtime from what the model process has sent.

    The handles are the memory of each slot, its socket, and the memory of the weights, if any.
    """
    lines: list[socket.socket] = []
    memories = list(handles)
    try:
        offer = _read_offer(packet)
        for handle in handles[SLOTS : 2 * SLOTS]:
            lines.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=handle))
            memories.remove(handle)
        slots = [Slot(memory, offer.layout) for memory in handles[:SLOTS]]
        places = [Place(*pair) for pair in zip(slots, lines, strict=True)]
        weights = None
        if offer.weights_shape is not None:
            with open(handles[2 * SLOTS], "rb", closefd=False) as file:
                weights = np.frombuffer(file.read(), np.float32).reshape(offer.weights_shape)
        return Opened(RemoteRuntime(link, offer, places, call_s), offer, weights)
    except BaseException:
        for line in lines:
            line.close()
        raise
    finally:
        for memory in memories:
            os.close(memory)
