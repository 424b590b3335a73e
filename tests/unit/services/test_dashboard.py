"""The dashboard: one page for all screens, and the files that it loads."""

import hashlib

import pytest
from image_categorizer_server.errors import PageNotFound
from image_categorizer_server.services.dashboard import Dashboard
from image_categorizer_server.version import VERSION

PAGE = '<meta name="sign-in" content="@sign_in@"><meta name="version" content="@version@">'


@pytest.fixture
def site(tmp_path):
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text(PAGE)
    (tmp_path / "icon.svg").write_text("<svg/>")
    (tmp_path / "assets" / "index-a1.js").write_text("go('@version@')")
    return tmp_path


def dashboard(site, **changes):
    return Dashboard(**{"is_shown": True, "can_sign_in": False, "folder": site, **changes})


@pytest.mark.parametrize("path", ["index.html", "classify", "models/resnet.v2", "batches/b-1"])
async def test_every_screen_is_the_same_page_with_the_version(site, path):
    page = await dashboard(site).get(path)
    assert page.is_html
    assert page.content.decode() == PAGE.replace("@sign_in@", "key").replace("@version@", VERSION)
    assert page.digest == hashlib.sha256(page.content).hexdigest()


async def test_the_page_says_whether_people_can_sign_in(site):
    page = await dashboard(site, can_sign_in=True).get("index.html")
    assert 'content="provider"' in page.content.decode()


async def test_files_are_served_as_they_are(site):
    script = await dashboard(site).get("assets/index-a1.js")
    assert script.content == b"go('@version@')"
    assert "javascript" in script.content_type
    assert (await dashboard(site).get("icon.svg")).content_type == "image/svg+xml"


async def test_no_page_stands_in_for_a_missing_script(site):
    with pytest.raises(PageNotFound, match="no such file"):
        await dashboard(site).get("assets/index-b2.js")


async def test_what_is_not_built_or_not_shown_says_so(site, tmp_path):
    for path in ("index.html", "classify", "assets/index-a1.js"):
        with pytest.raises(PageNotFound, match="make dashboard"):
            await dashboard(tmp_path / "nothing").get(path)
        with pytest.raises(PageNotFound, match="CATEGORIZER_GATEWAY__DASHBOARD"):
            await dashboard(site, is_shown=False).get(path)
