"""What comes from outside is printed as it is, and does nothing to the terminal."""

import pytest
from image_categorizer_server.cli.output import add_row, out, printable, say
from rich.table import Table

MARKUP = ["[wedding] 001.jpg", "[/x]", "[bold red]a[/]", ":smile:", "[link=http://x]a", "\\[a]"]


@pytest.mark.parametrize("name", MARKUP)
def test_nothing_from_outside_is_markup(capsys, name):
    say(f"{name}: the bytes are not an image")
    table = Table("file", box=None)
    add_row(table, name)
    out().print(table)
    printed = capsys.readouterr()
    assert printed.err == f"{name}: the bytes are not an image\n"
    assert name in printed.out


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("caf\u00e9 \u732b \U0001f408.jpg", "caf\u00e9 \u732b \U0001f408.jpg"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x9b31m", "\\x9b31m"),  # the same command in one character
        ("a\nb\rc\td\x00\x07\x7f", "a\\x0ab\\x0dc\\x09d\\x00\\x07\\x7f"),
        ("photo\u202egpj.exe", "photo\\u202egpj.exe"),  # reads "photoexe.jpg" if printed
        ("caf\udce9.jpg", "caf\\xe9.jpg"),  # Latin-1, by os.fsdecode
        ("\ud800", "\\ud800"),
    ],
)
def test_what_would_act_on_the_terminal_is_shown_instead(text, shown):
    assert printable(text) == shown


def test_the_lines_of_a_sentence_are_kept(capsys):
    say("postgres ended.\n  From its log: \x1b[2J")
    assert capsys.readouterr().err == "postgres ended.\n  From its log: \\x1b[2J\n"
