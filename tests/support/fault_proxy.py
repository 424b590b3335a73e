"""Stands between two processes, and makes the connections between them fail."""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

PIECE_BYTES = 65_536


class Mode(Enum):
    """What happens to what is sent."""

    PASS = auto()
    DOWN = auto()
    """Every connection is reset, and none is taken."""


@dataclass
class FaultProxy:
    """A proxy on a unix socket; the attributes may be changed at any time."""

    upstream: str
    """`unix:/path` or `host:port`."""
    mode: Mode = Mode.PASS
    lost: bytes = b""
    """The next answer that holds this does not arrive: the connection is reset."""
    cut_share: float = 0.0
    """Of the pieces that clients send: the connection is reset instead of carrying them."""
    seed: int = 0
    cuts: int = 0
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    @contextlib.asynccontextmanager
    async def running(self, path: Path | None = None) -> AsyncIterator[str]:
        """Listens until the block ends; yields where: on a unix socket, or else a free port."""
        if path is None:
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        else:
            server = await asyncio.start_unix_server(self._serve, path)
            path.chmod(0o777)  # noqa: ASYNC240 - a few microseconds
            address = f"unix:{path}"
        try:
            yield address
        finally:
            server.close()
            self.reset_all()

    def set_mode(self, mode: Mode) -> None:
        """Changes what happens; connections that are to be down are reset at once."""
        self.mode = mode
        if mode is Mode.DOWN:
            self.reset_all()

    def reset_all(self) -> None:
        for writer in list(self._open):
            reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode is Mode.DOWN:
            reset(writer)
            return
        try:
            up_reader, up_writer = await self._connect()
        except OSError:
            reset(writer)
            return
        self._open |= {writer, up_writer}
        pumps = {
            asyncio.create_task(self._pump(reader, up_writer, is_request=True)),
            asyncio.create_task(self._pump(up_reader, writer, is_request=False)),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
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
        while piece := await reader.read(PIECE_BYTES):
            if is_request and self._random.random() < self.cut_share:
                self.cuts += 1
                return
            if not is_request and self.lost and self.lost in piece:
                self.lost = b""
                self.cuts += 1
                return
            writer.write(piece)
            await writer.drain()


def reset(writer: asyncio.StreamWriter) -> None:
    """Ends a connection so that the other side sees an error, not an end."""
    found = writer.get_extra_info("socket")
    if found is not None and found.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
