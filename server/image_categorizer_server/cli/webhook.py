"""webhooks: who is notified when a batch ends, and a receiver to try it out."""

import json
import os
from dataclasses import asdict
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Annotated, Literal

import typer
from image_categorizer import Webhook, WebhookDelivery, WebhookInvalid, verify_webhook
from rich.table import Table

from image_categorizer_server.cli.connection import Data, client_of
from image_categorizer_server.cli.output import AsJson, add_row, out, say
from image_categorizer_server.domain.access import Role
from image_categorizer_server.errors import OperatorError

app = typer.Typer(help="Manage webhooks: notifications when a batch ends.", no_args_is_help=True)
WebhookId = Annotated[
    str,
    typer.Argument(help="ID of the webhook, as printed by `webhooks create`, or `default`."),
]
MAX_BODY_BYTES = 2**20
# How long `listen` waits for a request to arrive in full.
READ_TIMEOUT_S = 10.0


@app.command()
def create(
    url: Annotated[str, typer.Argument(help="HTTPS URL to notify of every batch.")],
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Create a webhook and print its ID and its secret. The secret is shown only once."""
    with client_of(data, Role.OPERATOR) as client:
        _print_secret(client.webhooks.create(url), as_json)


@app.command("list")
def list_all(data: Data = None, as_json: AsJson = False) -> None:
    """List the webhooks, without their secrets."""
    table = Table("webhook", "state", "address", box=None)
    with client_of(data, Role.OPERATOR) as client:
        for webhook in client.webhooks.list():
            if as_json:
                print(json.dumps(_fields(webhook)))
            else:
                url = webhook.url or "- (signs messages to the webhook_url of a request)"
                add_row(table, webhook.webhook_id, webhook.state, url)
    if not as_json:
        out().print(table)


@app.command()
def delete(webhook_id: WebhookId, data: Data = None) -> None:
    """Delete a webhook and the record of its deliveries."""
    with client_of(data, Role.OPERATOR) as client:
        client.webhooks.delete(webhook_id)
    say(f"{webhook_id} is deleted")


@app.command()
def rotate(webhook_id: WebhookId, data: Data = None, as_json: AsJson = False) -> None:
    """Create a new secret and print it. Messages carry both signatures for a day."""
    with client_of(data, Role.OPERATOR) as client:
        _print_secret(client.webhooks.rotate_secret(webhook_id), as_json)


@app.command()
def deliveries(
    webhook_id: WebhookId,
    batch: Annotated[str, typer.Option(help="Show only deliveries for this batch.")] = "",
    state: Annotated[
        Literal["PENDING", "DELIVERED", "FAILED"] | None,
        typer.Option(help="Show only deliveries in this state."),
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="Maximum number of deliveries.")] = 20,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """List deliveries, sent and pending, newest first."""
    table = Table("delivery", "event", "batch", "state", "attempts", "last answer", box=None)
    with client_of(data, Role.OPERATOR) as client:
        found = client.webhooks.deliveries(webhook_id, batch_id=batch, state=state)
        for _, delivery in zip(range(most), found, strict=False):
            if as_json:
                print(json.dumps(_fields(delivery)))
            else:
                add_row(table, *_row(delivery))
    if not as_json:
        out().print(table)


@app.command()
def redeliver(
    webhook_id: WebhookId,
    delivery_id: Annotated[
        str, typer.Argument(help="ID of the delivery, as shown by `webhooks deliveries`.")
    ],
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Send a message again now."""
    with client_of(data, Role.OPERATOR) as client:
        delivery = client.webhooks.redeliver(webhook_id, delivery_id)
    if as_json:
        print(json.dumps(_fields(delivery)))
    else:
        say(f"{delivery_id} is {delivery.state}")


@app.command()
def listen(
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port to listen on.")] = 9000,
    secret: Annotated[
        str,
        typer.Option(
            envvar="WEBHOOK_SECRET",
            help="Secret to verify messages with. Without it, messages are not verified.",
        ),
    ] = "",
    count: Annotated[
        int, typer.Option(min=0, help="Exit after this many messages. 0 for no limit.")
    ] = 0,
) -> None:
    """Print the messages sent to http://127.0.0.1:9000/, as one line of JSON each.

    By default, servers do not send webhooks to this machine. docs/webhooks.md shows the settings
    that allow it.
    """
    try:
        receiver = Receiver(port, secret)
    except OSError as error:
        raise OperatorError(
            f"Cannot listen on port {port}: {os.strerror(error.errno or 0)}."
        ) from None
    say(f"listening on http://127.0.0.1:{port}/")
    with receiver:
        try:
            while not count or receiver.taken_count < count:
                receiver.handle_request()
        except KeyboardInterrupt:
            pass


class Receiver(HTTPServer):
    """Prints the messages it receives, one request at a time."""

    def __init__(self, port: int, secret: str) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.secret = secret
        self.taken_count = 0


class _Handler(BaseHTTPRequestHandler):
    server: Receiver
    timeout = READ_TIMEOUT_S

    def do_POST(self) -> None:
        """Verifies and prints a message. Answers 204, or 400 if it is not genuine."""
        length = self.headers.get("content-length", "")
        if not length.isascii() or not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            self._answer(400)
            return
        body = self.rfile.read(int(length))
        try:
            content = self._content(body)
        except (WebhookInvalid, ValueError) as error:
            say(f"refused: {error}")
            self._answer(400)
            return
        verified = {"verified": bool(self.server.secret)}
        print(
            json.dumps({"webhook_id": self.headers["webhook-id"]} | verified | content), flush=True
        )
        self.server.taken_count += 1
        self._answer(204)

    def _content(self, body: bytes) -> dict[str, object]:
        """Returns the message.

        Raises:
            WebhookInvalid, ValueError: the body is not a message, or the signature is wrong.
        """
        if self.server.secret:
            content = verify_webhook(self.server.secret, dict(self.headers), body)
        else:
            content = json.loads(body)
        if not isinstance(content, dict):
            raise WebhookInvalid("the message is not a JSON object")
        return content

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Logs nothing: only messages are printed."""


def _print_secret(webhook: Webhook, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_fields(webhook)))
    else:
        print(f"{webhook.webhook_id} {webhook.secret}")


def _row(delivery: WebhookDelivery) -> tuple[str, ...]:
    last = delivery.attempts[0] if delivery.attempts else None
    answer = f"{last.status_code or 'none'}, {last.duration_ms:.0f} ms" if last else "-"
    return (
        delivery.delivery_id,
        delivery.event_type,
        delivery.batch_id or "-",
        delivery.state,
        str(delivery.attempt_count),
        answer,
    )


def _fields(value: Webhook | WebhookDelivery) -> dict[str, object]:
    return {name: _as_json(field) for name, field in asdict(value).items()}


def _as_json(field: object) -> object:
    if isinstance(field, datetime):
        return field.isoformat()
    if isinstance(field, tuple):
        return [{name: _as_json(value) for name, value in entry.items()} for entry in field]
    return field
