"""Writes `docs/audit-events.md`; `--check` fails if it is stale."""

from pathlib import Path

from generated_page import write_or_check
from image_categorizer_server.domain.audit import AuditAction
from image_categorizer_server.domain.audit_kind import KINDS

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


if __name__ == "__main__":
    write_or_check(PAGE, page(), __doc__)
