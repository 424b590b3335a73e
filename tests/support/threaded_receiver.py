"""A host for tests without asyncio: it keeps the webhooks that come, and serves files."""

import mimetypes
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver(ThreadingHTTPServer):
    """Takes what is posted to its URL, and answers GET.

    Each receiver has a path of its own: a message of an earlier test may still come to the port.
    """

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.address = f"http://127.0.0.1:{port}"
        self.path = f"/{uuid.uuid4()}"
        self.url = self.address + self.path
        self.messages: list[tuple[dict[str, str], bytes]] = []
        self.came = threading.Condition()
        self.files: dict[str, bytes] = {}
        """What GET answers, by path."""
        self.is_silent = threading.Event()
        """While it is set, a GET of another path gets no answer."""

    def wait_for(self, count: int) -> list[tuple[dict[str, str], bytes]]:
        """Returns headers and body of each message, once there are `count` of them."""
        with self.came:
            assert self.came.wait_for(lambda: len(self.messages) >= count, 30), "nothing came"
        return self.messages


class Handler(BaseHTTPRequestHandler):
    """Serves one request."""

    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        is_own = self.path == self.server.path
        if is_own:
            with self.server.came:
                self.server.messages.append((dict(self.headers), body))
                self.server.came.notify_all()
        self.send_response(204 if is_own else 404)
        self.end_headers()

    def do_GET(self) -> None:
        content = self.server.files.get(self.path)
        if content is None and self.server.is_silent.is_set():
            self.connection.recv(1)  # until the client has gone
            return
        self.send_response(404 if content is None else 200)
        kind, _ = mimetypes.guess_type(self.path)
        self.send_header("content-type", kind or "application/octet-stream")
        self.send_header("content-length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def receiving(port: int) -> Iterator[Receiver]:
    """Yields a receiver that listens."""
    with Receiver(port) as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        yield receiver
        receiver.shutdown()
