"""Writes a page that is generated; with `--check`, fails if it is stale."""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def write_or_check(page: Path, text: str, description: str | None) -> None:
    """Does what the command line says.

    Args:
        page: path of the page, from the root of the repository.
        text: what it should hold.
        description: for `--help`.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if the page is stale"
    )
    file = ROOT / page
    if not parser.parse_args().check:
        file.write_text(text)
    elif not file.exists() or file.read_text() != text:
        sys.exit(f"{page} is stale, run `make proto`")
