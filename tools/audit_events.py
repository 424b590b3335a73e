"""Writes `docs/audit-events.md`; `--check` fails if it is stale."""

import argparse
import sys
from pathlib import Path

from image_categorizer_server.domain.audit import AuditAction
from image_categorizer_server.domain.audit_kind import KINDS

ROOT = Path(__file__).resolve().parent.parent
PAGE = Path("docs/audit-events.md")
HEAD = """\
# Audit events

<!-- Generated from domain/audit_kind.py by tools/audit_events.py; do not edit. -->

What the [audit](audit.md) records. An event may lack some of its details.

| Action | Meaning | Resource | Details |
|---|---|---|---|
"""


def page() -> str:
    """Returns the page, in Markdown."""
    rows = []
    for action in sorted(AuditAction, key=lambda action: action.value):
        kind = KINDS[action]
        details = "; ".join(f"`{name}`: {text}" for name, text in kind.details.items())
        rows.append(f"| `{action.value}` | {kind.meaning} | {kind.resource} | {details} |\n")
    return HEAD + "".join(rows)


def main() -> None:
    """Writes the page, or checks it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if the page is stale"
    )
    file = ROOT / PAGE
    if not parser.parse_args().check:
        file.write_text(page())
    elif not file.exists() or file.read_text() != page():
        sys.exit(f"{PAGE} is stale, run `make proto`")


if __name__ == "__main__":
    main()
