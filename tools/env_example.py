"""Writes `.env.example` from the settings; `--check` fails where the committed one differs."""

import argparse
import json
import sys
import textwrap
from pathlib import Path
from typing import get_args

from annotated_types import Ge, Gt, Le, Lt
from image_categorizer_server.settings import Settings, variable_names
from image_categorizer_server.settings.group import Group
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

FILE = Path(__file__).resolve().parent.parent / ".env.example"
HEAD = """\
# All settings, with their defaults and bounds. Copy this file to `.env`, or set the variables.
# `image-categorizer up` needs none of them. A misspelt name stops the start.
# Written by `make proto` from settings.py; do not edit.
"""


def bounds(field: FieldInfo) -> str:
    """Returns what a value may be, in words."""
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
    return f" [{' and '.join(found)}]" if found else ""


def entry(name: str, field: FieldInfo) -> str:
    """Returns the lines of one setting."""
    default = field.get_default(call_default_factory=True)
    value = to_jsonable_python(default)
    text = value if isinstance(value, str) else json.dumps(value)
    comment = textwrap.fill(
        f"{field.description}{bounds(field)}", 100, initial_indent="# ", subsequent_indent="#   "
    )
    return f"{comment}\n# {name}={text}\n"


def document() -> str:
    """Returns the whole file."""
    names = variable_names()
    parts = [HEAD]
    for name, field in Settings.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, Group):
            title = (group.__doc__ or "").strip().rstrip(".")
            parts.append(f"\n# --- {title} ---\n")
            fields = group.model_fields.items()
            parts += [entry(names[f"{name}.{inner}"], inner_field) for inner, inner_field in fields]
        else:
            parts.append(entry(names[name], field))
    return "\n".join(parts)


def main() -> None:
    """Writes, or checks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when stale")
    if not parser.parse_args().check:
        FILE.write_text(document())
    elif not FILE.exists() or FILE.read_text() != document():
        sys.exit(".env.example is stale, run `make proto`")


if __name__ == "__main__":
    main()
