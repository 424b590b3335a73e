"""Runs the commands of each page from top to bottom, as a reader copies them."""

import os
from dataclasses import replace

import pytest

from tests.docs import pages
from tests.docs.pages import PAGES, Block

# Each takes half a minute; other tests use what they describe.
LONG = {
    "docs/access.md",
    "docs/api-keys.md",
    "docs/audit.md",
    "docs/batches.md",
    "docs/categories.md",
    "docs/corrections.md",
    "docs/encryption.md",
    "docs/evaluate.md",
    "docs/images.md",
    "docs/limits.md",
    "docs/models.md",
    "docs/own-categories.md",
    "docs/privacy.md",
    "docs/receipts.md",
    "docs/tenants.md",
    "docs/tokens.md",
    "docs/webhooks.md",
}
WITH_COMMANDS = [
    pytest.param(page, marks=[pytest.mark.slow] if page in LONG else [])
    for page in PAGES
    if any(block.is_command for block in pages.blocks(page))
]


def is_possible(block: Block, terminal) -> bool:
    """Returns whether what the block needs is there."""
    return not block.needs or (terminal.folder / block.needs.split(" ", 1)[0]).exists()


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_the_commands_of_the_page_run(page, reader, monkeypatch):
    terminal = replace(reader)
    monkeypatch.chdir(terminal.folder)
    names: dict[str, object] = {"__name__": "__main__"}
    missing = []
    for block in pages.blocks(page):
        if not block.is_command:
            continue
        if not is_possible(block, terminal):
            missing.append(f"{page}:{block.line} needs {block.needs}")
        elif block.language == "sh":
            terminal.run(block)
        else:
            for name, value in terminal.variables.items():
                if os.environ.get(name) != value:
                    monkeypatch.setenv(name, value)
            where = f"{pages.ROOT / page}:{block.line}"
            exec(compile(terminal.here(block.text), where, "exec"), names)
    if missing:
        pytest.skip("; ".join(missing))
