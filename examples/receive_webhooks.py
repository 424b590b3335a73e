"""Receives webhooks: verifies each message, ignores repetitions, fetches the results of its batch.

    API_KEY=ic_... WEBHOOK_SECRET=whsec_... python examples/receive_webhooks.py --port 9000

`client.webhooks.create(url)` returns the secret of a webhook. In production, put a proxy with TLS
in front, and keep the messages in your database instead of in memory.
"""

import argparse
import os
import queue
import threading
from collections import OrderedDict
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from image_categorizer import (
    CategorizerError,
    ImageCategorizationClient,
    WebhookInvalid,
    verify_webhook,
)

MAX_BYTES = 2**20
MAX_WAITING = 1000
MAX_REMEMBERED = 10_000
READ_S = 10


class Inbox:
    """The messages that wait for work, and those that came already."""

    def __init__(self) -> None:
        self.waiting: queue.Queue[dict[str, Any]] = queue.Queue(MAX_WAITING)
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, message_id: str, message: dict[str, Any]) -> None:
        """Takes a message once; delivery is at least once.

        Raises:
            queue.Full: too many wait; the sender shall try again.
        """
        with self._lock:
            if message_id in self._seen:
                return
            self.waiting.put_nowait(message)
            self._seen[message_id] = None
            if len(self._seen) > MAX_REMEMBERED:
                self._seen.popitem(last=False)


class Receiver(ThreadingHTTPServer):
    """Answers at once: the sender waits 15 s at most. The work is done afterwards."""

    daemon_threads = True

    def __init__(self, port: int, secret: str, inbox: Inbox) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.secret = secret
        self.inbox = inbox


class Handler(BaseHTTPRequestHandler):
    """Takes one message."""

    server: Receiver
    timeout = READ_S

    def do_POST(self) -> None:
        """Answers 204 if the message is genuine, 400 if it is not, 503 if there is no space."""
        self.send_response(self._taken())
        self.send_header("content-length", "0")
        self.end_headers()

    def _taken(self) -> int:
        length = self.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > MAX_BYTES:
            return 413
        body = self.rfile.read(int(length))
        try:
            message = verify_webhook(self.server.secret, dict(self.headers), body)
            self.server.inbox.put(self.headers["webhook-id"], message)
        except WebhookInvalid:
            return 400
        except queue.Full:
            return 503
        return 204


def work(client: ImageCategorizationClient, message: dict[str, Any]) -> None:
    """Does what a message asks for: prints the results of the batch that has ended."""
    data = message["data"]
    print(f"{message['type']} {data.get('batch_id', '')}", flush=True)
    if message["type"] == "batch.completed":
        for result in client.batches.results(data["batch_id"]):
            print(f"{result.filename!r}: {result.category or result.error}", flush=True)


def main() -> None:
    """Receives messages until the program is stopped."""
    parser = argparse.ArgumentParser(description="Receive the webhooks of Image Categorizer.")
    parser.add_argument("--port", type=int, default=9000)
    inbox = Inbox()
    receiver = Receiver(parser.parse_args().port, os.environ["WEBHOOK_SECRET"], inbox)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    base_url = os.environ.get("BASE_URL", "localhost:8080")
    with ImageCategorizationClient(os.environ["API_KEY"], base_url) as client:
        while True:
            message = inbox.waiting.get()
            try:
                work(client, message)
            except CategorizerError as error:
                print(f"The results cannot be read: {error}", flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
