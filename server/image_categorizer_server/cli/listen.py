"""webhooks listen: shows the messages that come to this machine, to try webhooks out."""

import json
import os
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Annotated, Any

import typer
from image_categorizer import WebhookInvalid, verify_webhook

from image_categorizer_server.cli.options import note
from image_categorizer_server.errors import OperatorError

MOST_BODY_BYTES = 2**20
SILENCE_S = 10.0


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(listen)


def listen(
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port of this machine.")] = 9000,
    secret: Annotated[
        str,
        typer.Option(
            envvar="WEBHOOK_SECRET", help="Verifies the messages; without it they are only shown."
        ),
    ] = "",
    count: Annotated[int, typer.Option(min=0, help="End after so many messages; 0: never.")] = 0,
) -> None:
    """Print the messages that come to http://127.0.0.1:9000/, a line of JSON for each.

    A server sends to this machine only where its settings allow it: see the README, Images by URI.
    """
    try:
        receiver = Receiver(port, secret)
    except OSError as error:
        raise OperatorError(
            f"Port {port} cannot be had: {os.strerror(error.errno or 0)}."
        ) from None
    note().print(f"listening on http://127.0.0.1:{port}/", markup=False)
    with receiver:
        try:
            while not count or receiver.taken_count < count:
                receiver.handle_request()
        except KeyboardInterrupt:
            pass


class Receiver(HTTPServer):
    """Prints what it is told, one message after the other."""

    def __init__(self, port: int, secret: str) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.secret = secret
        self.taken_count = 0


class Handler(BaseHTTPRequestHandler):
    """One message."""

    server: Receiver
    timeout = SILENCE_S

    def do_POST(self) -> None:
        """Verifies the message and prints it; answers with 204, or 400 where it is not genuine."""
        length = self.headers.get("content-length", "")
        if not length.isascii() or not length.isdecimal() or int(length) > MOST_BODY_BYTES:
            self._answer(400)
            return
        body = self.rfile.read(int(length))
        try:
            content = self._content(body)
        except (WebhookInvalid, ValueError) as error:
            note().print(f"refused: {error}", markup=False)
            self._answer(400)
            return
        verified = {"verified": bool(self.server.secret)}
        print(
            json.dumps({"webhook_id": self.headers["webhook-id"]} | verified | content), flush=True
        )
        self.server.taken_count += 1
        self._answer(204)

    def _content(self, body: bytes) -> dict[str, Any]:
        """Returns the message.

        Raises:
            WebhookInvalid, ValueError: it is none, or not genuine.
        """
        if self.server.secret:
            content = verify_webhook(self.server.secret, dict(self.headers), body)
        else:
            content = json.loads(body)
        if not isinstance(content, dict):
            raise WebhookInvalid("the message is no JSON object")
        return content

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing beside the messages."""
