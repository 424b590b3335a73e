"""Reads Markdown pages: fenced blocks, headings, links."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "clients/python/README.md"),
    *("clients/js/README.md", "examples/README.md", "proto/README.md"),
    *sorted(f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md")),
)
# The others show data, output, or, as `py`, fragments of the generated reference.
COMMANDS = ("sh", "python")
LANGUAGES = (*COMMANDS, "console", "json", "text", "js", "py")
FENCE = re.compile(r"^```(\S*)$")
MARK = re.compile(r"^<!-- (not run|needs): (.+) -->$")
HEADING = re.compile(r"^#{1,6} (.+)$")
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`[^`]*`")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: str
    line: int
    section: str
    language: str
    text: str
    not_run: str
    """Why it cannot run in a test. Empty: it runs."""
    needs: str
    """The file without which it is skipped, and how to get it. Empty: none."""

    @property
    def is_command(self) -> bool:
        return self.language in COMMANDS and not self.not_run


def lines(page: str) -> list[str]:
    """Returns the lines of a page."""
    return (ROOT / page).read_text().splitlines()


def blocks(page: str) -> list[Block]:
    """Returns the fenced blocks of a page."""
    found: list[Block] = []
    section, fence, start = "", None, 0
    marks: dict[str, str] = {}
    content: list[str] = []
    for number, line in enumerate(lines(page), 1):
        if fence is not None:
            if line == "```":
                text = "\n".join(content) + "\n"
                mark = marks.get("not run", ""), marks.get("needs", "")
                found.append(Block(page, start, section, fence, text, *mark))
                fence, marks = None, {}
            else:
                content.append(line)
        elif match := FENCE.match(line):
            fence, start, content = match[1], number, []
        elif match := MARK.match(line):
            marks[match[1]] = match[2]
        elif match := HEADING.match(line):
            section = match[1]
    assert fence is None, f"{page}:{start}: the block has no end"
    return found


def prose(page: str) -> Iterator[tuple[int, str]]:
    """Yields the lines outside fenced blocks, without inline code, with their numbers."""
    is_code = False
    for number, line in enumerate(lines(page), 1):
        if line.startswith("```"):
            is_code = not is_code
        elif not is_code:
            yield number, CODE.sub("", line)


def links(page: str) -> list[tuple[int, str]]:
    """Returns the targets of all links, with their lines."""
    return [(number, target) for number, line in prose(page) for target in LINK.findall(line)]


def anchors(page: str) -> set[str]:
    """Returns the anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    is_code = False
    for line in lines(page):
        if line.startswith("```"):
            is_code = not is_code
        elif not is_code and (match := HEADING.match(line)):
            name = re.sub(r"[^\w\- ]", "", match[1].lower()).replace(" ", "-")
            repeats = sum(1 for other in found if re.fullmatch(rf"{re.escape(name)}(-\d+)?", other))
            found.add(f"{name}-{repeats}" if repeats else name)
    return found
