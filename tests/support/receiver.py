"""A receiver of webhooks on a port of this machine, with answers that a test chooses."""

import asyncio
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

OK = "204"


@dataclass
class Message:
    """One POST."""

    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    at_s: float
    """When it arrived, on the clock of `time.monotonic`."""


@dataclass
class Receiver:
    """Answers each POST with the next of `answers`, then with `otherwise`.

    An answer is a status line's rest with headers, such as `429 x|Retry-After: 7`; `reset`, which
    resets the connection; or `silence`, which never answers.
    """

    port: int
    answers: Iterator[str] = field(default_factory=lambda: iter(()))
    otherwise: str = OK
    messages: list[Message] = field(default_factory=list)
    came: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def wait_for(self, count: int, within_s: float = 20.0) -> list[Message]:
        """Returns the messages once there are `count` of them."""
        async with asyncio.timeout(within_s), self.came:
            await self.came.wait_for(lambda: len(self.messages) >= count)
        return self.messages

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes POSTs of one connection until it ends."""
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                lines = head.split("\r\n")[1:-2]
                headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
                body = await reader.readexactly(int(headers["content-length"]))
                self.messages.append(Message(headers, body, time.monotonic()))
                async with self.came:
                    self.came.notify_all()
                await self._answer(next(self.answers, self.otherwise), reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, answer, reader, writer):
        if answer == "silence":
            await reader.read()  # until the sender gives up
        elif answer == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        else:
            status, *headers = answer.split("|")
            lines = [f"HTTP/1.1 {status if ' ' in status else status + ' x'}", *headers]
            if not status.startswith("204"):
                lines.append("Content-Length: 0")
            writer.write("\r\n".join([*lines, "", ""]).encode())
            await writer.drain()


@asynccontextmanager
async def receiving(*answers: str, otherwise: str = OK):
    """Yields a receiver that listens."""
    listening = socket.create_server(("127.0.0.1", 0))
    receiver = Receiver(listening.getsockname()[1], iter(answers), otherwise)
    server = await asyncio.start_server(receiver.serve, sock=listening)
    try:
        yield receiver
    finally:
        server.close()
        server.close_clients() if hasattr(server, "close_clients") else None
