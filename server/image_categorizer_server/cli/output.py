r"""Where commands print: results on standard output, notes on standard error.

File names, categories and messages come from outside. They are never markup, and characters that
would act on the terminal, or that cannot be printed, are shown as `\x1b`.
"""

import functools
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

PIPE_COLUMNS = 1000
# Control characters, among them the escape that begins a terminal's commands; marks that reorder
# text; and the halves of surrogate pairs, which stand for bytes that are not UTF-8.
UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
# os.fsdecode() turns the byte 0xff into U+DCFF.
UNDECODED = 0xDC00

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON only, to standard output.")]


def out() -> Console:
    """Returns the console for results. In a pipe, tables are as wide as they need to be."""
    console = Console(markup=False, emoji=False, highlight=False)
    if console.is_terminal:
        return console
    return Console(markup=False, emoji=False, highlight=False, width=PIPE_COLUMNS)


@functools.cache
def note() -> Console:
    """Returns the console for everything that is not a result: standard error."""
    return Console(stderr=True, markup=False, emoji=False, highlight=False)


def printable(text: str | os.PathLike[str]) -> str:
    """Returns text from outside in a form that can be printed in one line."""
    return UNPRINTABLE.sub(_escaped, os.fspath(text))


def say(sentence: str) -> None:
    """Prints a sentence to standard error. Its lines are kept."""
    lines = "\n".join(map(printable, sentence.split("\n")))
    note().print(lines, soft_wrap=True)


@contextmanager
def progress_of_steps() -> Iterator[Callable[[str, int, int], None]]:
    """Shows a bar for each step on a terminal's standard error, until the block ends.

    Yields:
        A function that takes the name of the step, the amount done and the total.
    """
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()
    is_disabled = not sys.stderr.isatty()
    with Progress(*columns, console=note(), transient=True, disable=is_disabled) as progress:
        tasks: dict[str, TaskID] = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = progress.add_task(step)
            progress.update(tasks[step], completed=done, total=total)

        yield show


def reason_of(error: Exception | None) -> str:
    """Returns what an error says, without the number and the path of an `OSError`."""
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def add_row(table: Table, *cells: str) -> None:
    """Adds a row of texts from outside to a table."""
    table.add_row(*map(printable, cells))


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    if UNDECODED + 0x80 <= code <= UNDECODED + 0xFF:
        return f"\\x{code - UNDECODED:02x}"
    return f"\\u{code:04x}"
