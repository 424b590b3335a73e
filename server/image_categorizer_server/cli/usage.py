"""usage: what the tenant has used."""

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import typer
from image_categorizer import UsageRow
from rich.table import Table

from image_categorizer_server.cli.connection import Data, client_of
from image_categorizer_server.cli.output import AsJson, add_row, out
from image_categorizer_server.domain.access import Role

MEGABYTE = 1e6


def usage(
    days: Annotated[
        int, typer.Option(min=1, max=3650, help="Number of days, in UTC, today included.")
    ] = 30,
    by: Annotated[Literal["day", "key", "model"], typer.Option(help="What to sum up by.")] = "day",
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show what the tenant has used: images, bytes and milliseconds of the model."""
    first = datetime.now(UTC).date() - timedelta(days=days - 1)
    with client_of(data, Role.OPERATOR) as client:
        found = client.usage(start_date=first, group_by=by)
    if as_json:
        print(json.dumps(asdict(found), default=str))
        return
    table = Table(by, "images", "cached", "failed", "MB", "model s", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in found.rows:
        name = str(row.day) if by == "day" else row.key_id if by == "key" else row.model
        add_row(table, name or "-", *_figures(row))
    add_row(table, "total", *_figures(found.total))
    out().print(table)


def _figures(row: UsageRow) -> tuple[str, ...]:
    return (
        str(row.images),
        str(row.cached_images),
        str(row.failed_images),
        f"{row.bytes / MEGABYTE:.1f}",
        f"{row.model_ms / 1000:.1f}",
    )
