"""Links, names and shapes of the pages."""

import re
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import pytest
from image_categorizer_server.settings import TEST_DATA, variable_names

from tests.docs import pages
from tests.docs.pages import PAGES, ROOT

MAX_README_LINES = 150
MIN_COMMANDS = 60


def leads_somewhere(page: str, target: str) -> bool:
    """Returns whether the file and the heading exist. Addresses elsewhere are only parsed."""
    parts = urlsplit(target)
    if parts.scheme:
        return parts.scheme == "https" and bool(parts.netloc)
    file = (ROOT / PurePosixPath(page).parent / parts.path).resolve() if parts.path else ROOT / page
    if not file.exists() or not file.is_relative_to(ROOT):
        return False
    name = str(file.relative_to(ROOT))
    return not parts.fragment or parts.fragment in pages.anchors(name)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    links = pages.links(page)
    assert [f"{number}: {to}" for number, to in links if not leads_somewhere(page, to)] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_block_names_its_language(page):
    unknown = [
        f"{page}:{block.line}: {block.language!r}"
        for block in pages.blocks(page)
        if block.language not in pages.LANGUAGES
    ]
    assert unknown == []


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_that_is_named_exists(page):
    known = {*variable_names().values(), TEST_DATA}
    named = set(re.findall(r"CATEGORIZER_[A-Z0-9_]*[A-Z0-9]", (ROOT / page).read_text()))
    prefixes = {name for name in named if any(other.startswith(f"{name}__") for other in known)}
    assert named - known - prefixes == set()


def test_the_index_names_every_page_of_the_folder():
    targets = {target for _, target in pages.links("docs/README.md")}
    names = {file.name for file in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert names <= targets


def test_the_readme_is_short():
    assert len(pages.lines("README.md")) <= MAX_README_LINES


def test_most_commands_of_the_pages_run():
    commands = [block for page in PAGES for block in pages.blocks(page) if block.is_command]
    assert len(commands) >= MIN_COMMANDS


def test_the_node_example_of_the_page_is_the_file():
    examples = [block for block in pages.blocks("docs/clients.md") if block.language == "js"]
    (block,) = [block for block in examples if block.section == "Node.js"]
    assert block.text == (ROOT / "examples" / "classify.cjs").read_text()


def test_the_performance_page_follows_its_template():
    template = (ROOT / "tests" / "bench" / "performance.md.in").read_text().splitlines()
    fixed = [line for line in template if line and "{" not in line]
    page = pages.lines("docs/performance.md")
    assert [line for line in fixed if line not in page] == []
