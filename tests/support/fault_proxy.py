"""A proxy between two processes that makes their connections fail."""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from image_categorizer_server.tasks import TaskOwner

from tests.support.polling import elapsed

CHUNK_BYTES = 65_536


@dataclass
class FaultProxy:
    """A proxy on a unix socket or a port."""

    upstream: str
    """`unix:/path` or `host:port`."""
    lost: bytes = b""
    """The first answer that contains this is dropped, and its connection is reset."""
    cut_share: float = 0.0
    """Share of the chunks from clients that are dropped, with a reset of the connection."""
    delay_s: float = 0.0
    """How late each chunk of an answer arrives; chunks that come together are late together."""
    is_black_hole: bool = False
    """Whether nothing arrives any more, in either direction, though connections are accepted."""
    seed: int = 0
    answers: int = 0
    """Chunks that came from upstream: about the number of round trips."""
    cuts: int = 0
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def slow_down(self, delay_s: float) -> None:
        """Delays each answer from now on, and counts them from 0."""
        self.delay_s, self.answers = delay_s, 0

    def swallow(self) -> None:
        """Passes nothing on from now on."""
        self.is_black_hole = True

    @contextlib.asynccontextmanager
    async def running(self, path: Path | None = None) -> AsyncIterator[str]:
        """Listens during the block. Yields the address: a unix socket, or a free port."""
        if path is None:
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        else:
            server = await asyncio.start_unix_server(self._serve, path)
            path.chmod(0o777)  # noqa: ASYNC240 - takes microseconds
            address = f"unix:{path}"
        try:
            yield address
        finally:
            server.close()
            for writer in list(self._open):
                reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await self._connect()
        except OSError:
            reset(writer)
            return
        self._open |= {writer, up_writer}
        one_ended = asyncio.Event()

        async def pump(
            source: asyncio.StreamReader, target: asyncio.StreamWriter, *, is_request: bool
        ) -> None:
            with contextlib.suppress(OSError):
                await self._pump(source, target, is_request=is_request)
            one_ended.set()

        try:
            async with TaskOwner() as pumps:
                pumps.start(pump(reader, up_writer, is_request=True), "requests")
                pumps.start(pump(up_reader, writer, is_request=False), "answers")
                await one_ended.wait()
        finally:
            for end in (writer, up_writer):
                self._open.discard(end)
                reset(end)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.upstream.startswith("unix:"):
            return await asyncio.open_unix_connection(self.upstream.removeprefix("unix:"))
        host, _, port = self.upstream.rpartition(":")
        return await asyncio.open_connection(host, int(port))

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_request: bool
    ) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            if is_request and self._random.random() < self.cut_share:
                self.cuts += 1
                return
            if not is_request and self.lost and self.lost in chunk:
                self.lost = b""
                self.cuts += 1
                return
            if not is_request:
                self.answers += 1
                if self.delay_s:
                    await elapsed(self.delay_s)
            if self.is_black_hole:
                continue
            writer.write(chunk)
            await writer.drain()


def reset(writer: asyncio.StreamWriter) -> None:
    """Closes a connection so that the other side sees an error instead of the end."""
    found = writer.get_extra_info("socket")
    if found is not None and found.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
