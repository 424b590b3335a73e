"""Small pictures of shares, for terminals."""

from collections.abc import Iterable, Mapping

from image_categorizer import BatchResult
from rich.progress_bar import ProgressBar
from rich.table import Table

from image_categorizer_server.cli.output import printable

WIDTH_CHARACTERS = 20
# How many categories a picture shows; the others are summed up.
MOST = 8
NO_CATEGORY = "no category"
FAILED = "failed"
OTHERS = "other categories"


def bar(share: float) -> ProgressBar:
    """Returns a bar for a share in [0, 1]; terminals without Unicode get one of dashes."""
    return ProgressBar(
        total=1.0,
        completed=share,
        width=WIDTH_CHARACTERS,
        complete_style="cyan",
        finished_style="cyan",
    )


def counted(results: Iterable[BatchResult]) -> dict[str, int]:
    """Returns how many results have which category, the most frequent first."""
    found: dict[str, int] = {}
    for result in results:
        name = FAILED if result.error else result.category or NO_CATEGORY
        found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items(), key=lambda entry: -entry[1]))


def picture_of(counts: Mapping[str, int]) -> Table:
    """Returns a bar for each of the most frequent categories, and one for all others."""
    entries = list(counts.items())
    shown, rest = entries[:MOST], entries[MOST:]
    if rest:
        shown.append((f"{len(rest)} {OTHERS}", sum(count for _, count in rest)))
    total = sum(counts.values())
    table = Table("category", "", "images", box=None)
    table.columns[2].justify = "right"
    for name, count in shown:
        table.add_row(printable(name), bar(count / total), str(count))
    return table
