"""models drift: whether what a model predicts has changed."""

import json
from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer
from image_categorizer import Drift, DriftBucket, DriftState
from rich.table import Table

from image_categorizer_server.cli.connection import Data, client_of
from image_categorizer_server.cli.output import AsJson, add_row, out
from image_categorizer_server.domain.access import Role

DRIFTED = 3
SHOWN = 10


def drift(
    model: Annotated[str, typer.Argument(metavar="NAME", help="Name of the model.")],
    version: Annotated[
        str, typer.Option(help="Number or alias. Default: what answers requests without one.")
    ] = "",
    until: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Last day of the window, in UTC. Default: today."),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=7, help="Days of the window.")] = 1,
    fail_above: Annotated[
        float, typer.Option(min=0, help="Exit with 3 if an index is at least this. 0: never.")
    ] = 0.0,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show whether what a model predicts has changed: the last day beside the weeks before.

    The population stability index is 0 for equal distributions; 0.1 is a moderate shift, 0.25 a
    large one.
    """
    with client_of(data, Role.VIEWER) as client:
        end = until.date() if until else None
        found = client.models.drift(model, version, end_date=end, window_days=days)
    if as_json:
        print(json.dumps(asdict(found), default=str))
    else:
        _show(found)
    index = max(found.category_index, found.confidence_index)
    if 0 < fail_above <= index:
        raise typer.Exit(DRIFTED)


def _show(found: Drift) -> None:
    print(f"{found.model} version {found.version}: {found.state.value}")
    for name, period in (("window", found.window), ("reference", found.reference)):
        print(f"{name}: {period.start_date} to {period.end_date}, {period.images} images")
    if found.state is DriftState.NOT_ENOUGH_IMAGES:
        print("The window needs 100 images, and the reference 500.")
        return
    _table("category", found.category_index, found.categories)
    _table("confidence", found.confidence_index, found.confidences)


def _table(kind: str, index: float, buckets: tuple[DriftBucket, ...]) -> None:
    table = Table(kind, "window", "reference", "part of the index", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for bucket in sorted(buckets, key=lambda bucket: -bucket.contribution)[:SHOWN]:
        shares = (f"{share:.1%}" for share in (bucket.window_share, bucket.reference_share))
        add_row(table, bucket.name or "none", *shares, f"{bucket.contribution:.3f}")
    add_row(table, "index", "", "", f"{index:.3f}")
    out().print(table)
