"""The files of a site: the documentation, which `make docs` builds."""

import asyncio
import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path

from image_categorizer_server.errors import PageNotFound

PACKAGE_FOLDER = Path(__file__).resolve().parent.parent
FIRST = "index.html"
NOT_BUILT = "the documentation is not built; `make docs` builds it"


@dataclass(frozen=True)
class Page:
    """One file of the site."""

    content: bytes
    content_type: str
    digest: str
    """Of the content: 64 hexadecimal digits."""

    @property
    def is_html(self) -> bool:
        """Whether it is a page, and not something that pages load."""
        return self.content_type.startswith("text/html")


class Pages:
    """Reads the files of one folder.  It serves what it has listed: a path leads nowhere else."""

    def __init__(self, folder: Path | None = None, not_built: str = NOT_BUILT) -> None:
        """Prepares to read; nothing is read yet, and the folder need not exist.

        Args:
            folder: with the built site; by default that of the documentation, in the package or in
                the source tree.
            not_built: what callers are told while the folder is empty.
        """
        self._folder = folder or site_folder()
        self._not_built = not_built
        self._files: dict[str, Path] = {}
        self._pages: dict[str, Page] = {}

    async def get(self, path: str) -> Page:
        """Returns a file, of which later calls find a copy in memory.

        Raises:
            PageNotFound: there is no such file.
        """
        if page := self._pages.get(path):
            return page
        if not self._files:
            self._files = await asyncio.to_thread(self._listed)
        if not self._files:
            raise PageNotFound(self._not_built)
        file = self._files.get(path)
        if file is None:
            raise PageNotFound("there is no such page; /docs has the list")
        page = await asyncio.to_thread(_read, file)
        return self._pages.setdefault(path, page)

    async def has(self, path: str) -> bool:
        """Returns whether there is such a file."""
        if not self._files:
            self._files = await asyncio.to_thread(self._listed)
        return path in self._files

    def _listed(self) -> dict[str, Path]:
        files = (path for path in self._folder.rglob("*") if path.is_file())
        return {path.relative_to(self._folder).as_posix(): path for path in files}


def site_folder() -> Path:
    """Returns the folder of the built site: in the installed package, or beside the source."""
    packaged = PACKAGE_FOLDER / "_docs"
    return packaged if packaged.is_dir() else PACKAGE_FOLDER.parents[1] / ".build" / "site" / "docs"


def _read(file: Path) -> Page:
    content = file.read_bytes()
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    if kind.startswith("text/"):
        kind += "; charset=utf-8"
    return Page(content, kind, hashlib.sha256(content).hexdigest())
