"""The models of the model process: loads them for server processes, and unloads them again.

A model is loaded once, for the first server process that asks for it, and unloaded when the last
one has closed its connection.  The process ends, for its supervisor to start it again, when nothing
else helps: after an error from which a GPU does not recover, and when a call hangs, because threads
cannot be ended.  The server processes then find their connections closed, and ask again.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from image_categorizer_server.domain.model import Localization
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.engine.guard import is_sticky
from image_categorizer_server.inference.images.localize import Localizer
from image_categorizer_server.inference.images.preprocess import (
    largest_whole_bytes,
    sample_inputs,
)
from image_categorizer_server.inference.model_process.merging import Merger
from image_categorizer_server.inference.models.loader import Loader, Warm
from image_categorizer_server.inference.models.manifest import Manifest, read_manifest
from image_categorizer_server.inference.runtimes.heap import trim_heap
from image_categorizer_server.inference.runtimes.remote import BROKEN, Place
from image_categorizer_server.inference.runtimes.slots import (
    MAX_MESSAGE_BYTES,
    SLOTS,
    Hello,
    Layout,
    Offer,
    Reply,
    Slot,
    new_memory,
)
from image_categorizer_server.tasks import TaskOwner, run_until
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
BACKLOG = 1024
HELLO_WITHIN_S = 5.0
STOP_WITHIN_S = 2.0
"""How long a call may still take when its model is unloaded: nobody waits for it."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that is warm, and the thread that calls it."""

    merger: Merger
    offer: Offer
    weights: NDArray[np.float32] | None
    """float32 (C, K): the weight of each feature for each category; None if there are none."""


@dataclass(slots=True, eq=False)
class Shared:
    """A model, and how many server processes use it."""

    loading: asyncio.Task[Loaded | OperatorError]
    users: int = 0
    is_broken: bool = False
    """Whether it fails on every image: who asks next gets it loaded afresh."""


class ModelHost:
    """Serves models to the server processes of this machine."""

    def __init__(self, loader: Loader, max_loads: int, stuck_s: float) -> None:
        """Starts without models.

        Args:
            loader: loads models into this process.
            max_loads: number of models that load at a time.
            stuck_s: maximum seconds of one call.
        """
        self._loader = loader
        self._loads = asyncio.Semaphore(max_loads)
        self._stuck_s = stuck_s
        self._models: dict[Hello, Shared] = {}
        self._mergers: set[Merger] = set()
        self._tasks = TaskOwner()
        self._is_lost = asyncio.Event()
        self._why = ""

    async def serve(self, address: str, stop: asyncio.Event) -> None:
        """Serves until `stop` is set.

        Args:
            address: path of the socket to listen on.
            stop: ends it.

        Raises:
            OperatorError: it cannot listen, or it has to be started again; the message says why.
        """
        with _listener(address) as listener:
            log.info("listening", address=address, pid=os.getpid())
            async with self._tasks:
                self._tasks.start(self._watch_calls(), "watcher of calls")
                self._tasks.start(_stop_if(self._is_lost, stop), "watcher of the runtime")
                await run_until(stop, self._accept(listener))
            await asyncio.to_thread(self._stop_all)
        if self._why:
            raise OperatorError(self._why)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            link, _ = await loop.sock_accept(listener)
            link.setblocking(False)
            self._tasks.start(self._serve_one(link), "connection of a server process")

    async def _watch_calls(self) -> None:
        while True:
            await asyncio.sleep(self._stuck_s / 4)
            if any(merger.busy_s() > self._stuck_s for merger in self._mergers):
                self._lose("A model call does not end.")

    def _stop_all(self) -> None:
        for merger in self._mergers:
            merger.stop(STOP_WITHIN_S)

    def _lose(self, why: str) -> None:
        self._why = self._why or why
        self._is_lost.set()

    # A server process that uses a model.

    async def _serve_one(self, link: socket.socket) -> None:
        """Loads what a server process asks for, and keeps it until the connection is closed."""
        with link, suppress(ConnectionError):
            loop = asyncio.get_running_loop()
            try:
                async with asyncio.timeout(HELLO_WITHIN_S):
                    packet = await loop.sock_recv(link, MAX_MESSAGE_BYTES)
                hello = Hello.model_validate_json(packet)
            except (TimeoutError, ValidationError):
                return  # no server process: a probe, for instance
            try:
                async with self._used(hello) as (shared, loaded):
                    _send_offer(link, loaded)
                    while await loop.sock_recv(link, MAX_MESSAGE_BYTES) == BROKEN:
                        log.warning("a model fails on every image", folder=hello.folder)
                        shared.is_broken = True
            except OperatorError as error:
                link.send(Reply(error=str(error)).packet())

    @asynccontextmanager
    async def _used(self, hello: Hello) -> AsyncIterator[tuple[Shared, Loaded]]:
        """Yields the model, loaded; unloads it when its last user has gone.

        Raises:
            OperatorError: it cannot be loaded.
        """
        shared = self._models.get(hello)
        if shared is None or shared.is_broken:
            loading = self._tasks.start(self._load(hello), f"load of {hello.folder}")
            shared = self._models[hello] = Shared(loading)
        shared.users += 1
        try:
            loaded = await asyncio.shield(shared.loading)
            if isinstance(loaded, OperatorError):
                raise loaded
            yield shared, loaded
        finally:
            shared.users -= 1
            if not shared.users:
                if self._models.get(hello) is shared:
                    del self._models[hello]
                self._tasks.start(self._unload(shared), f"end of {hello.folder}")

    async def _load(self, hello: Hello) -> Loaded | OperatorError:
        """Returns the model, or why it cannot be loaded."""
        try:
            async with self._loads:
                return await self._loaded(Path(hello.folder), hello.manifest_sha256)
        except OperatorError as error:
            log.warning("a model cannot be loaded", folder=hello.folder, reason=str(error))
            return error
        except Exception as error:
            log.exception("a bug while a model was loaded", folder=hello.folder)
            if is_sticky(error):
                self._lose(f"A model failed while it was loaded: {error}")
            return OperatorError("The log of the model process says why.")

    async def _loaded(self, folder: Path, manifest_sha256: str) -> Loaded:
        manifest = await asyncio.to_thread(read_manifest, folder)
        if manifest.sha256() != manifest_sha256:
            raise OperatorError("Its manifest has changed meanwhile.")
        warm = await self._loader.warm(folder, manifest)
        offer = await asyncio.to_thread(offer_of, warm, manifest)
        loop = asyncio.get_running_loop()

        def lost(error: Exception) -> None:
            loop.call_soon_threadsafe(self._lose, f"The runtime is lost: {error}")

        merger = Merger(warm.runtime, warm.max_size, lost)
        self._mergers.add(merger)
        log.info("a model is ready", folder=str(folder), device=offer.device)
        return Loaded(merger, offer, weights_of(warm))

    async def _unload(self, shared: Shared) -> None:
        """Stops a model that nobody uses any more."""
        loaded = await shared.loading
        if isinstance(loaded, OperatorError):
            return
        if await asyncio.to_thread(loaded.merger.stop, STOP_WITHIN_S):
            self._mergers.discard(loaded.merger)
        del loaded, shared
        await asyncio.to_thread(trim_heap)


def offer_of(warm: Warm, manifest: Manifest) -> Offer:
    """Returns what server processes learn of a model; calls it once; blocks."""
    runtime, localizer = warm.runtime, warm.localizer
    sample = sample_inputs(manifest.input)[0]
    largest_bytes = largest_whole_bytes(manifest.input) if warm.whole_bytes else 0
    feature_bytes = 0
    if localizer:
        features = runtime.predict([sample], with_features=True).features
        assert features is not None
        # A whole picture has as many times more cells as it is larger.
        rows = max(warm.max_size, -(-largest_bytes // sample.nbytes))
        feature_bytes = rows * features.nbytes
    weights = weights_of(warm)
    return Offer(
        name=runtime.name,
        device=runtime.device,
        precision=runtime.precision,
        max_size=warm.max_size,
        calls_s=warm.table.measured_s,
        localization=localizer.localization if localizer else Localization.NONE,
        weights_shape=None if weights is None else (weights.shape[0], weights.shape[1]),
        cell_offset=localizer.grid.offset if isinstance(localizer, Localizer) else 0.0,
        features_bytes=warm.features_bytes,
        whole_bytes=warm.whole_bytes,
        layout=Layout(
            input_bytes=max(warm.max_size * sample.nbytes, largest_bytes),
            rows=warm.max_size,
            categories=len(manifest.categories),
            feature_bytes=feature_bytes,
        ),
    )


def weights_of(warm: Warm) -> NDArray[np.float32] | None:
    """Returns the weights that make maps of the features: float32 (C, K); None without any."""
    return warm.localizer.category_weights if isinstance(warm.localizer, Localizer) else None


def _send_offer(link: socket.socket, loaded: Loaded) -> None:
    """Gives a server process its slots.

    Raises:
        ConnectionError: it is gone.
    """
    layout = loaded.offer.layout
    with ExitStack() as sent, ExitStack() as kept:
        memories, theirs, places = [], [], []
        for _ in range(SLOTS):
            memory = new_memory("image-categorizer-slot", layout.total_bytes)
            sent.callback(os.close, memory)
            our_end, their_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            kept.enter_context(our_end)
            sent.enter_context(their_end)
            memories.append(memory)
            theirs.append(their_end.fileno())
            places.append(Place(Slot(memory, layout), our_end))
        if loaded.weights is not None:
            content = np.ascontiguousarray(loaded.weights, np.float32).tobytes()
            memory = new_memory("image-categorizer-weights", len(content))
            sent.callback(os.close, memory)
            os.pwrite(memory, content, 0)
            theirs.append(memory)
        socket.send_fds(link, [Reply(offer=loaded.offer).packet()], [*memories, *theirs])
        kept.pop_all()  # the thread of the model closes them
    loaded.merger.add(places)


async def _stop_if(event: asyncio.Event, stop: asyncio.Event) -> None:
    await event.wait()
    stop.set()


@contextmanager
def _listener(address: str) -> Iterator[socket.socket]:
    """Yields a socket that listens, for our user only.

    Raises:
        OperatorError: it cannot listen.
    """
    path = Path(address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        try:
            path.unlink(missing_ok=True)  # of a process that was killed
            before = os.umask(0o177)
            try:
                listener.bind(address)
            finally:
                os.umask(before)
            listener.listen(BACKLOG)
        except OSError as error:
            raise OperatorError(f"Cannot listen on {address}: {error.strerror or error}.") from None
        listener.setblocking(False)
        yield listener
