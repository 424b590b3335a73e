"""Bars on a terminal, and none elsewhere."""

import io

from image_categorizer import BatchResult, CategorizerError, Prediction
from image_categorizer_server.cli.bars import MOST, bar, counted, picture_of
from rich.console import Console


def result(category="", error=None):
    found = (Prediction(category, 0.5, "", ()),) if category else ()
    return BatchResult("0", "a.jpg", found, error=error)


def drawn(shown, encoding="utf-8"):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, force_terminal=True, width=80, color_system=None, markup=False)
    console.print(shown)
    file.seek(0)
    return file.read()


def test_a_bar_is_as_long_as_its_share():
    lengths = [drawn(bar(share)).count("\u2501") for share in (0.0, 0.25, 0.5, 1.0)]
    assert lengths == [0, 5, 10, 20]


def test_a_terminal_without_unicode_has_bars_too():
    assert drawn(bar(0.5), "ascii").count("-") == 10


def test_results_are_counted_the_most_frequent_first():
    failed = result(error=CategorizerError("no image"))
    found = counted([result("cat"), failed, result("dog"), result(), result("dog")])
    assert list(found.items()) == [("dog", 2), ("cat", 1), ("failed", 1), ("no category", 1)]


def test_rare_categories_are_summed_up():
    counts = {f"c{number}": 2 for number in range(MOST)} | {"rare": 1, "\x1b[2J": 1}
    lines = drawn(picture_of(counts)).splitlines()
    assert len(lines) == 1 + MOST + 1
    assert lines[-1].split() == ["2", "other", "categories", "\u2501\u2501", "2"]


def test_names_from_outside_do_nothing_to_the_terminal():
    text = drawn(picture_of({"[red]a\x1b[2J": 1}))
    assert "[red]a\\x1b[2J" in text


def test_a_batch_without_outcomes_has_no_bars():
    assert len(drawn(picture_of({})).splitlines()) == 1
