"""webhooks: who is told when a batch ends, by the command line."""

import json
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

import typer
from image_categorizer import Webhook, WebhookDelivery
from rich.table import Table

from image_categorizer_server.cli import listen
from image_categorizer_server.cli.classify import client_of
from image_categorizer_server.cli.options import AsJson, Data, note, out
from image_categorizer_server.domain.access import Role

app = typer.Typer(help="Say who is told when a batch ends.", no_args_is_help=True)
listen.register(app)
WebhookId = Annotated[
    str, typer.Argument(help="The webhook, as `webhooks create` printed it, or `default`.")
]


@app.command()
def create(
    url: Annotated[str, typer.Argument(help="The https address that is told of every batch.")],
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Register an address, and print its name and its secret, which is shown only now."""
    with client_of(data, Role.OPERATOR) as client:
        _show_secret(client.create_webhook(url), as_json)


@app.command("list")
def list_all(data: Data = None, as_json: AsJson = False) -> None:
    """List the webhooks, without their secrets."""
    table = Table("webhook", "state", "address", box=None)
    with client_of(data, Role.OPERATOR) as client:
        for webhook in client.list_webhooks():
            if as_json:
                print(json.dumps(_fields(webhook)))
            else:
                url = webhook.url or "- (signs what goes to the webhook_url of requests)"
                table.add_row(webhook.webhook_id, webhook.state, url)
    if not as_json:
        out().print(table)


@app.command()
def delete(webhook_id: WebhookId, data: Data = None) -> None:
    """Remove a webhook and the record of its deliveries."""
    with client_of(data, Role.OPERATOR) as client:
        client.delete_webhook(webhook_id)
    note().print(f"{webhook_id} is removed", markup=False)


@app.command()
def rotate(webhook_id: WebhookId, data: Data = None, as_json: AsJson = False) -> None:
    """Make a new secret, and print it; for a day messages carry both signatures."""
    with client_of(data, Role.OPERATOR) as client:
        _show_secret(client.rotate_webhook_secret(webhook_id), as_json)


@app.command()
def deliveries(
    webhook_id: WebhookId,
    batch: Annotated[str, typer.Option(help="Only what is about this batch.")] = "",
    state: Annotated[
        Literal["PENDING", "DELIVERED", "FAILED"] | None,
        typer.Option(help="Only what is in this state."),
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="Show no more.")] = 20,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show what was sent, or is to be sent, the newest first."""
    table = Table("delivery", "event", "batch", "state", "attempts", "last answer", box=None)
    with client_of(data, Role.OPERATOR) as client:
        found = client.webhook_deliveries(webhook_id, batch_id=batch, state=state)
        for _, delivery in zip(range(most), found, strict=False):
            if as_json:
                print(json.dumps(_fields(delivery)))
            else:
                table.add_row(*_row(delivery))
    if not as_json:
        out().print(table)


@app.command()
def redeliver(
    webhook_id: WebhookId,
    delivery_id: Annotated[
        str, typer.Argument(help="The delivery, as `webhooks deliveries` has it.")
    ],
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Send a message again, now."""
    with client_of(data, Role.OPERATOR) as client:
        delivery = client.redeliver_webhook(webhook_id, delivery_id)
    if as_json:
        print(json.dumps(_fields(delivery)))
    else:
        note().print(f"{delivery_id} is {delivery.state}", markup=False)


def _show_secret(webhook: Webhook, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_fields(webhook)))
    else:
        print(f"{webhook.webhook_id} {webhook.secret}")


def _row(delivery: WebhookDelivery) -> tuple[str, ...]:
    last = delivery.attempts[0] if delivery.attempts else None
    answer = f"{last.status_code or 'none'}, {last.duration_ms:.0f} ms" if last else "-"
    count = str(delivery.attempt_count)
    what = delivery.delivery_id, delivery.event_type, delivery.batch_id or "-", delivery.state
    return (*what, count, answer)


def _fields(value: Webhook | WebhookDelivery) -> dict[str, Any]:
    return {name: _plain(field) for name, field in asdict(value).items()}


def _plain(field: object) -> object:
    """Returns a field as JSON can hold it."""
    if isinstance(field, datetime):
        return field.isoformat()
    if isinstance(field, tuple):
        return [{name: _plain(value) for name, value in entry.items()} for entry in field]
    return field
