"""bench: the performance table."""

from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.table import Table

from image_categorizer_server.cli.output import out, say
from image_categorizer_server.settings import load_settings
from image_categorizer_server.telemetry import configure_logging


def bench(
    json_file: Annotated[
        Path | None, typer.Option("--json", help="File to write the figures to, as JSON.")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="Model to measure, a Hugging Face folder. "
            "MobileNetV2 with random weights, and the packaged model, if not set."
        ),
    ] = None,
) -> None:
    """Measure this machine: serving compared with the same work in a single process.

    Starts its own installation in a temporary folder. Takes about seven minutes.
    """
    from image_categorizer_server.bench.run import Row, as_json, run

    configure_logging("WARNING", "console")
    rows = uvloop.run(run(load_settings(), model, say))
    table = Table(
        "way",
        "clients",
        "images/s",
        "of raw",
        "p50 ms",
        "p99 ms",
        "micro-batch",
        "peak MB",
        "CPU ms",
    )
    for column in table.columns[1:]:
        column.justify = "right"

    def cells(row: Row) -> list[str]:
        numbers = [row.p50_ms, row.p99_ms, row.mean_batch_size]
        shown = ["-" if number is None else f"{number:.1f}" for number in numbers]
        ratio = "-" if row.ratio_to_raw is None else f"{row.ratio_to_raw:.2f}"
        memory = "-" if row.peak_memory_mb is None else f"{row.peak_memory_mb:.0f}"
        cpu = "-" if row.cpu_ms_per_image is None else f"{row.cpu_ms_per_image:.2f}"
        speed = f"{row.images_per_s:.1f}"
        return [row.name, str(row.clients or "-"), speed, ratio, *shown, memory, cpu]

    for row in rows:
        table.add_row(*cells(row))
    out().print(table)
    if json_file:
        json_file.write_text(as_json(rows))
