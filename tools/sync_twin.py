"""Translates the SDK's asyncio client to the client without asyncio.

clients/python/image_categorizer/_aio/*.py ─▶ _sync/*.py

The way of httpcore's scripts/unasync.py: substitutions on the text, which reach the docstrings too
(the package `unasync` leaves those as they are), then ruff for the order of imports and the layout.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path("clients/python/image_categorizer")
# Asyncio and threads differ in these, so that their twins, if any, are written by hand.
BY_HAND = frozenset(("__init__", "ending", "runtime", "stream", "tasks", "upload"))
SUBSTITUTIONS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"tasks of one event loop may share a client; .*", "threads may share a client."),
        (r"The client for asyncio", "The client without asyncio"),
        (r"[Tt]he asyncio client", "the client"),
        (r"\basync (def|for|with)\b", r"\1"),
        (r"\bawait ", ""),
        (r"\bAwaitable\[(\w+)\]", r"\1"),
        (r"\bgrpc\.aio\.", "grpc."),
        (r"\bAsync(?=[A-Z])", ""),
        (r"\b__a(iter|next|enter|exit)__\b", r"__\1__"),
        (r"\baclose\b", "close"),
        (r"\bimage_categorizer\._aio\b", "image_categorizer._sync"),
    )
]


def twins() -> list[Path]:
    """Returns the paths of the generated files, relative to the root of the repository."""
    found = (ROOT / PACKAGE / "_aio").glob("*.py")
    return sorted(PACKAGE / "_sync" / p.name for p in found if p.stem not in BY_HAND)


def generate(root: Path) -> None:
    """Writes all twins below `root`."""
    for path in twins():
        source = ROOT / PACKAGE / "_aio" / path.name
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(translated(source.read_text(), path))


def translated(text: str, path: Path) -> str:
    """Returns the twin of a module's text; `path` is where it belongs."""
    for pattern, replacement in SUBSTITUTIONS:
        text = pattern.sub(replacement, text)
    text = re.sub(r'^"""(\w)', lambda match: f'"""{match[1].upper()}', text)
    text = f"# Generated from _aio/{path.name} by tools/sync_twin.py; do not edit.\n{text}"
    text = ruff(text, path, "check", "--select=I,F401", "--fix")
    return ruff(text, path, "format")


def ruff(text: str, path: Path, *command: str) -> str:
    """Returns a text as ruff rewrites it; `path` decides by which rules."""
    arguments = *command, "--quiet", f"--stdin-filename={path}", "-"
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *arguments],
        input=text,
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return done.stdout
