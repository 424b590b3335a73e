"""The files of the documentation: what is listed is served, and nothing else."""

import hashlib

import pytest
from image_categorizer_server.errors import PageNotFound
from image_categorizer_server.services.page import Pages


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "site"
    (folder / "_static").mkdir(parents=True)
    (folder / "index.html").write_text("<h1>Größe</h1>")
    (folder / "_static" / "main.js").write_text("go()")
    (folder / "_static" / "NOTICE").write_bytes(b"\0")
    (tmp_path / "secret.html").write_text("secret")
    return folder


async def test_a_file_has_its_type_and_the_digest_of_its_content(site):
    pages = Pages(site)
    page = await pages.get("index.html")
    assert page.content == "<h1>Größe</h1>".encode()
    assert (page.content_type, page.is_html) == ("text/html; charset=utf-8", True)
    assert page.digest == hashlib.sha256(page.content).hexdigest()
    script = await pages.get("_static/main.js")
    assert "javascript" in script.content_type
    assert not script.is_html
    unknown = await pages.get("_static/NOTICE")
    assert unknown.content_type == "application/octet-stream"


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "../secret.html",
        "_static/../../secret.html",
        "_static",
        "/index.html",
        "INDEX.html",
    ],
)
async def test_no_other_path_is_served(site, path):
    with pytest.raises(PageNotFound, match="no such page"):
        await Pages(site).get(path)


async def test_an_absolute_path_is_not_served(site):
    with pytest.raises(PageNotFound):
        await Pages(site).get(str(site.parent / "secret.html"))


async def test_a_site_that_is_not_built_says_so_until_it_is(site, tmp_path):
    pages = Pages(tmp_path / "later")
    with pytest.raises(PageNotFound, match="make docs"):
        await pages.get("index.html")
    site.rename(tmp_path / "later")
    assert (await pages.get("index.html")).is_html
