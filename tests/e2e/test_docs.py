"""The documentation through the gateway, as a browser loads it."""

import re
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import httpx
import pytest

from tests.support.site import built_site

ADDRESS = re.compile(r'\s(?:href|src)="([^"]*)"')
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'"


@pytest.fixture(scope="module")
def browser(up):
    """Calls without credentials."""
    built_site()
    with httpx.Client(base_url=up.url, timeout=30) as client:
        yield client


def reason(answer):
    return answer.status_code, answer.json()["details"][0]["reason"]


def test_pages_and_what_they_load_have_their_types_caches_and_a_strict_policy(browser):
    for address in ("/docs", "/docs/"):
        answer = browser.get(address)
        assert (answer.status_code, answer.headers["location"]) == (302, "/docs/index.html")
    page = browser.get("/docs/batches.html?q=any&utm=1")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.headers["content-security-policy"].startswith(POLICY)
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-cache"
    assert "<h1>Batches" in page.text
    (style,) = re.findall(r'href="(_static/styles/furo.css[^"]*)"', page.text)
    asset = browser.get(urljoin("/docs/batches.html", style))
    assert (asset.status_code, asset.headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert asset.headers["cache-control"] == "public, max-age=300"
    for address, answer in (("/docs/batches.html", page), (f"/docs/{style}", asset)):
        again = browser.get(address, headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == answer.headers["etag"]
        head = browser.head(address)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["etag"] == answer.headers["etag"]
    image = browser.get("/docs/_images/performance.png")
    assert image.headers["content-type"] == "image/png"


def test_the_reference_shows_the_document_that_the_gateway_serves(browser):
    page = browser.get("/docs/api.html").text
    scripts = re.findall(r'<script src="([^"]*)"', page)
    texts = {script: browser.get(urljoin("/docs/api.html", script)) for script in scripts}
    assert {answer.status_code for answer in texts.values()} == {200}
    assert "SwaggerUIBundle" in texts["_static/swagger-ui/swagger-ui-bundle.js"].text
    (document,) = re.findall(r'url: "([^"]+)"', texts["_static/api.js"].text)
    assert urljoin("/docs/api.html", document) == "/openapi.yaml"
    assert browser.get("/openapi.yaml").text.startswith("# Generated")


@pytest.mark.parametrize(
    "path",
    ["nothing.html", "_static", "..%2f..%2fsettings.md", "%2e%2e/pyproject.toml", "/etc/passwd"],
)
def test_no_path_leads_out_of_the_site(browser, path):
    answer = browser.get(f"/docs/{path}")
    assert answer.status_code in (400, 404)
    assert answer.json()["details"][0]["domain"] == "image-categorizer"
    if path == "nothing.html":
        assert reason(answer) == (404, "PAGE_NOT_FOUND")


def test_pages_are_only_read(browser):
    for address in ("/docs", "/docs/batches.html"):
        answer = browser.post(address)
        assert reason(answer) == (405, "METHOD_NOT_ALLOWED")
        assert answer.headers["allow"] == "GET, HEAD"


def test_all_links_within_the_site_are_valid():
    site = built_site()
    pages = {file: file.read_text() for file in (site / "docs").glob("*.html")}
    names = {file: set(re.findall(r'\sid="([^"]+)"', text)) for file, text in pages.items()}
    broken = []
    for file, text in pages.items():
        for address in ADDRESS.findall(text):
            target, fragment = urldefrag(address)
            parts = urlsplit(target)
            if parts.scheme:
                continue
            path = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            is_there = path.is_file() and path.is_relative_to(site)
            if not is_there or (fragment and fragment not in names.get(path, {fragment})):
                broken.append(f"{file.name}: {address}")
    assert broken == []
    assert len(pages) > 30
