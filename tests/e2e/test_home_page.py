"""The page at `/`, where people land who sign in or open the printed address."""

import re

import httpx
from image_categorizer_server.version import VERSION

ELSEWHERE = {"/docs", "/auth/login"}  # another page's tests; a redirect to the provider


def test_the_home_page_says_what_is_true_and_nothing_of_it_can_run(hasty):
    answer = httpx.get(hasty.url, headers={"accept": "text/html"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert f"version {VERSION}" in answer.text
    assert "@" not in re.sub("<style>.*</style>", "", answer.text, flags=re.DOTALL)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert answer.headers["x-frame-options"] == "DENY"
    assert "<script" not in answer.text
    links = set(re.findall('href="([^"]+)"', answer.text))
    assert {"/openapi.yaml", "/healthz", "/readyz"} <= links
    for link in links - ELSEWHERE:
        assert httpx.get(hasty.url + link).status_code == 200, link


def test_the_home_page_is_answered_to_head_and_with_a_query(hasty):
    head, got = httpx.head(hasty.url), httpx.get(hasty.url + "/?a=b")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == got.headers["content-type"]


def test_no_part_of_the_dashboard_is_shown(hasty):
    for path in ("/ui", "/ui/classify", "/ui/icon.svg"):
        answer = httpx.get(hasty.url + path)
        assert (answer.status_code, answer.json()["details"][0]["reason"]) == (
            404,
            "PAGE_NOT_FOUND",
        )
        assert "CATEGORIZER_GATEWAY__DASHBOARD" in answer.json()["message"]
