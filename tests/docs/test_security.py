"""The security page says what is true: tests that it names exist, and headers are those sent."""

import re

from image_categorizer_server.local.gateway import CONTENT_SECURITY_POLICY, SECURITY_HEADERS

from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text()
ROWS = [line.split(" | ") for line in PAGE.splitlines() if "`tests/" in line]


def test_every_named_test_is_a_file_with_tests():
    named = set(re.findall(r"`(tests/[^`]+)`", PAGE))
    assert len(named) > 30
    assert [name for name in named if "def test_" not in _read(name)] == []


def test_every_attack_has_a_defence_and_a_test():
    assert len(ROWS) > 20
    assert all(len(cells) == 4 and all(cells[1:]) for cells in ROWS)


def test_the_headers_of_the_page_are_those_of_the_gateway():
    for name, value in SECURITY_HEADERS.items():
        assert f"`{name}`" in PAGE
        if value != CONTENT_SECURITY_POLICY:
            assert f"`{value}`" in PAGE


def _read(name: str) -> str:
    file = ROOT / name
    return file.read_text() if file.is_file() else ""
