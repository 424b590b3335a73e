"""Writes `.env.example` and `docs/settings.md`; `--check` fails if one is stale."""

import argparse
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, get_args

from annotated_types import Ge, Gt, Le, Lt
from image_categorizer_server.settings import Settings, variable_names
from image_categorizer_server.settings.group import Group
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = Path(".env.example")
PAGE = Path("docs/settings.md")
EXAMPLE_HEAD = """\
# All settings with their defaults and bounds. Copy this file to `.env`, or set the variables.
# `image-categorizer up` needs none of them. A misspelt name stops the start.
# Generated from the settings by `make proto`; do not edit.
"""
PAGE_HEAD = """\
# Settings

<!-- Generated from the settings by tools/settings.py; do not edit. -->

Every setting is an environment variable. A file `.env` in the working directory may set variables,
too; the environment takes precedence over it. [`.env.example`](../.env.example) is such a file with
all settings. `image-categorizer up` needs none of them.

- A misspelt name stops the start, and the message suggests the right one. So does any other name
  in one of the groups below.
- Other names that begin with `CATEGORIZER_` have no effect, and a warning lists them. Kubernetes
  sets some beside a Service called `categorizer`.
- A value out of bounds stops the start. The message lists all such values.
- Settings are read once, at the start. Restart the process to change one.
- Lists are written as JSON: `CATEGORIZER_GATEWAY__CORS_ORIGINS='["https://app.example"]'`.
- Names end in their unit: `_s` seconds, `_ms` milliseconds, `_bytes` bytes, `_px` pixels.
"""


class Setting(NamedTuple):
    """One setting, as text."""

    variable: str
    default: str
    bounds: str
    description: str


class Section(NamedTuple):
    """Settings that belong together."""

    title: str
    text: str
    settings: list[Setting]


def sections() -> Iterator[Section]:
    """Yields the settings without a group, then each group."""
    names = variable_names()
    general: list[Setting] = []
    groups: list[Section] = []
    for name, field in Settings.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, Group):
            settings = [
                setting(names[f"{name}.{inner}"], inner_field)
                for inner, inner_field in group.model_fields.items()
            ]
            groups.append(Section(name.capitalize(), inspect.getdoc(group) or "", settings))
        else:
            general.append(setting(names[name], field))
    yield Section("General", "", general)
    yield from groups


def setting(variable: str, field: FieldInfo) -> Setting:
    """Returns one setting."""
    value = to_jsonable_python(field.get_default(call_default_factory=True))
    default = value if isinstance(value, str) else json.dumps(value)
    return Setting(variable, default, bounds(field), field.description or "")


def bounds(field: FieldInfo) -> str:
    """Returns which values are valid, empty if the type alone decides."""
    kinds = ((Ge, "ge", ">="), (Gt, "gt", ">"), (Le, "le", "<="), (Lt, "lt", "<"))
    found = [
        f"{sign} {getattr(item, attribute)}"
        for item in field.metadata
        for kind, attribute, sign in kinds
        if isinstance(item, kind)
    ]
    choices = get_args(field.annotation)
    if choices and all(isinstance(choice, str) for choice in choices):
        found.append(f"one of {', '.join(choices)}")
    return " and ".join(found)


def example() -> str:
    """Returns `.env.example`."""
    parts = [EXAMPLE_HEAD]
    for section in sections():
        if section.text:
            parts.append(f"\n# --- {section.text.splitlines()[0].rstrip('.')} ---\n")
        for entry in section.settings:
            allowed = f" [{entry.bounds}]" if entry.bounds else ""
            comment = textwrap.fill(
                f"{entry.description}{allowed}",
                100,
                initial_indent="# ",
                subsequent_indent="#   ",
            )
            parts.append(f"{comment}\n# {entry.variable}={entry.default}\n")
    return "\n".join(parts)


def page() -> str:
    """Returns `docs/settings.md`."""
    found = list(sections())
    contents = " · ".join(f"[{s.title}](#{s.title.lower()})" for s in found)
    parts = [PAGE_HEAD, contents]
    for section in found:
        parts.append(f"\n## {section.title}\n")
        if section.text:
            parts.append(f"{section.text}\n")
        parts += ["| Variable | Default | Allowed | Description |", "|---|---|---|---|"]
        parts += [row(entry) for entry in section.settings]
    return "\n".join(parts) + "\n"


def row(entry: Setting) -> str:
    """Returns one row of a table in Markdown."""
    default = f"`{entry.default}`" if entry.default else ""
    cells = (f"`{entry.variable}`", default, entry.bounds, entry.description)
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Writes the files, or checks them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if one is stale"
    )
    is_check = parser.parse_args().check
    for path, text in ((EXAMPLE, example()), (PAGE, page())):
        file = ROOT / path
        if not is_check:
            file.write_text(text)
        elif not file.exists() or file.read_text() != text:
            sys.exit(f"{path} is stale, run `make proto`")


if __name__ == "__main__":
    main()
