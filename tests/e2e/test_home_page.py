"""The page at `/`, where people land who sign in or open the printed address."""

import re

import httpx
from image_categorizer_server.version import VERSION

ELSEWHERE = {"/docs", "/auth/login"}  # another page's tests; a redirect to the provider


def test_the_home_page_says_what_is_true_and_nothing_of_it_can_run(up):
    answer = httpx.get(up.url, headers={"accept": "text/html"})
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
        assert httpx.get(up.url + link).status_code == 200, link


def test_the_home_page_is_answered_to_head_and_with_a_query(up):
    head, got = httpx.head(up.url), httpx.get(up.url + "/?a=b")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
