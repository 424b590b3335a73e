"""retention: how long data is kept, and what would go."""

import json
from typing import Annotated

import typer
from image_categorizer import RetentionRule
from rich.table import Table

from image_categorizer_server.cli.connection import Data, client_of
from image_categorizer_server.cli.output import AsJson, add_row, out
from image_categorizer_server.domain.access import Role
from image_categorizer_server.domain.retention import DataClass
from image_categorizer_server.errors import OperatorError

app = typer.Typer(help="Show and change how long data is kept.", no_args_is_help=True)
CLASSES = ", ".join(data_class.value.lower() for data_class in DataClass)
Rules = Annotated[
    list[str],
    typer.Argument(
        metavar="CLASS=DAYS...",
        help=f"Number of days by class ({CLASSES}): 0 for ever, `default` for that of the server.",
    ),
]
Tried = Annotated[
    list[str] | None, typer.Argument(metavar="[CLASS=DAYS]...", help="Other rules to try.")
]


@app.command()
def show(data: Data = None, as_json: AsJson = False) -> None:
    """Show how long data is kept."""
    with client_of(data, Role.ADMIN) as client:
        rules = client.retention.get()
    _print(rules, as_json)


@app.command("set")
def set_(rules: Rules, data: Data = None, as_json: AsJson = False) -> None:
    """Change how long data is kept: what is older goes within minutes. See `preview`."""
    with client_of(data, Role.ADMIN) as client:
        changed = client.retention.update(_days(rules))
    _print(changed, as_json)


@app.command()
def preview(rules: Tried = None, data: Data = None, as_json: AsJson = False) -> None:
    """Show what would go now, by the rules or by others. Nothing is removed."""
    with client_of(data, Role.ADMIN) as client:
        forecasts = client.retention.preview(_days(rules or []))
    if as_json:
        found = [
            {
                "data_class": forecast.rule.data_class,
                "days": forecast.rule.days,
                "count": forecast.count,
                "size_bytes": forecast.size_bytes,
                "oldest_time": forecast.oldest_time.isoformat() if forecast.oldest_time else None,
                "held_count": forecast.held_count,
            }
            for forecast in forecasts
        ]
        print(json.dumps(found, indent=1))
        return
    table = Table("class", "kept", "would go", "bytes", "oldest", "held", box=None)
    for forecast in forecasts:
        oldest = forecast.oldest_time
        add_row(
            table,
            forecast.rule.data_class.lower(),
            _kept(forecast.rule),
            str(forecast.count),
            str(forecast.size_bytes),
            f"{oldest:%Y-%m-%d %H:%M:%S}" if oldest else "-",
            str(forecast.held_count),
        )
    out().print(table)


def _print(rules: list[RetentionRule], as_json: bool) -> None:
    if as_json:
        found = [
            {"data_class": rule.data_class, "days": rule.days, "is_default": rule.is_default}
            for rule in rules
        ]
        print(json.dumps(found, indent=1))
        return
    table = Table("class", "kept", "set by", box=None)
    for rule in rules:
        add_row(
            table,
            rule.data_class.lower(),
            _kept(rule),
            "the server" if rule.is_default else "the tenant",
        )
    out().print(table)


def _kept(rule: RetentionRule) -> str:
    return f"{rule.days} days" if rule.days else "for ever"


def _days(rules: list[str]) -> dict[str, int | None]:
    days: dict[str, int | None] = {}
    for rule in rules:
        name, _, number = rule.partition("=")
        if name.upper() not in DataClass.__members__:
            raise OperatorError(f"{name} is no class: classes are {CLASSES}.")
        if number != "default" and not number.isdecimal():
            raise OperatorError(f"{rule}: write a number of days, or `default`.")
        days[name.upper()] = None if number == "default" else int(number)
    return days
