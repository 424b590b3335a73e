"""The dashboard, a page for browsers, which `make dashboard` builds."""

import hashlib
from pathlib import Path

from image_categorizer_server.errors import PageNotFound
from image_categorizer_server.services.page import FIRST, PACKAGE_FOLDER, Page, Pages
from image_categorizer_server.version import VERSION

ASSETS = "assets/"
"""Files whose names have a digest of their content: they never change."""
NOT_BUILT = "the dashboard is not built; `make dashboard` builds it"
NOT_SHOWN = "the dashboard is not shown: CATEGORIZER_GATEWAY__DASHBOARD is false"


class Dashboard:
    """Serves one page for all screens, and the files that it loads."""

    def __init__(self, *, is_shown: bool, can_sign_in: bool, folder: Path | None = None) -> None:
        """Prepares to read; nothing is read yet, and the folder need not exist.

        Args:
            is_shown: whether there is anything to see.
            can_sign_in: whether people sign in at an identity provider; the page offers it.
            folder: with the built dashboard; by default that of the package or the source tree.
        """
        self._is_shown = is_shown
        self._pages = Pages(folder or dashboard_folder(), NOT_BUILT)
        self._said = {"@sign_in@": "provider" if can_sign_in else "key", "@version@": VERSION}

    async def get(self, path: str) -> Page:
        """Returns a file, or for the path of a screen the page.

        Raises:
            PageNotFound: there is no such file, or the dashboard is not built, or not shown.
        """
        if not self._is_shown:
            raise PageNotFound(NOT_SHOWN)
        if path != FIRST and await self._pages.has(path):
            return await self._pages.get(path)
        page = await self._pages.get(FIRST)
        # The page in place of a script that is missing would hide what is wrong.
        if path.startswith(ASSETS):
            raise PageNotFound("there is no such file; / is the dashboard")
        text = page.content.decode()
        for name, value in self._said.items():
            text = text.replace(name, value)
        content = text.encode()
        return Page(content, page.content_type, hashlib.sha256(content).hexdigest())


def dashboard_folder() -> Path:
    """Returns the folder of the built dashboard: in the package, or beside the source."""
    packaged = PACKAGE_FOLDER / "_dashboard"
    return packaged if packaged.is_dir() else PACKAGE_FOLDER.parents[1] / ".build" / "dashboard"


def is_built() -> bool:
    """Returns whether there is a dashboard to serve."""
    return (dashboard_folder() / FIRST).is_file()
