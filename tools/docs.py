"""Builds the documentation as a web site: `python tools/docs.py .build/site`.

docs/*.md, README.md, …      ─▶ docs/*.html            by Sphinx, MyST and the theme Furo
gateway/openapi.yaml         ─▶ openapi.yaml, which docs/api.html shows by Swagger UI
licences of what is copied   ─▶ docs/_static/licences/

The pages load nothing from elsewhere, and hold no script and no style sheet of their own: they work
without internet, and under the gateway's content security policy.  A link that leads nowhere, or to
a heading that is not there, ends the build.
"""

import argparse
import hashlib
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from urllib.parse import urlsplit

from sphinx.cmd.build import build_main

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "tools" / "site"
OPENAPI = ROOT / "gateway" / "openapi.yaml"
# Pages from other folders, and their names here.
OTHER_PAGES = {
    "README.md": "quick-start.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "report-a-vulnerability.md",
    "proto/README.md": "contract.md",
    "clients/js/README.md": "javascript.md",
    "examples/README.md": "examples.md",
    "gateway/openapi.yaml": "api.md",
}
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
HEADING = re.compile(r"\*\*(.+)\*\*")
INLINE = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)
# Of Furo's icons: the policy forbids style attributes, but not those of SVG.
ATTRIBUTES = {'style="display: none;"': 'display="none"', 'style="opacity: 50%"': 'opacity="0.5"'}
COPIED = ("furo", "sphinx", "pygments", "flask-swagger-ui")
INTERFACE = Path(str(distribution("flask-swagger-ui").locate_file("flask_swagger_ui/dist")))


def pages() -> dict[str, str]:
    """Returns the name of each page in the site, by its path in the repository."""
    own = {f"docs/{page.name}": page.name for page in sorted((ROOT / "docs").glob("*.md"))}
    return own | {"docs/README.md": "index.md"} | OTHER_PAGES


def write_sources(folder: Path) -> None:
    """Writes what Sphinx reads: the pages, with links as they are in the site."""
    names = pages()
    for page, name in names.items():
        if page.endswith(".md"):
            (folder / name).write_text(moved(page, names, folder))
    shutil.copy(SITE / "api.md", folder)
    for picture in (ROOT / "docs").glob("*.png"):
        shutil.copy(picture, folder)
    static = folder / "_static"
    for name in ("swagger-ui.css", "swagger-ui-bundle.js"):
        (static / "swagger-ui").mkdir(parents=True, exist_ok=True)
        shutil.copy(INTERFACE / name, static / "swagger-ui")
    for name in ("site.css", "api.js"):
        shutil.copy(SITE / name, static)
    write_licences(static / "licences")


def moved(page: str, names: dict[str, str], folder: Path) -> str:
    """Returns the text of a page, with its links as they are in the site.

    Args:
        page: its path in the repository.
        names: the name of each page in the site.
        folder: receives the other files that the page links to.

    Raises:
        SystemExit: a link leads to no file.
    """

    def target(link: re.Match[str]) -> str:
        parts = urlsplit(link[2])
        if parts.scheme or not parts.path:
            return link[0]
        file = (ROOT / page).parent.joinpath(parts.path).resolve()
        if not file.is_file() or not file.is_relative_to(ROOT):
            sys.exit(f"{page}: {link[2]} leads to no file")
        path = file.relative_to(ROOT).as_posix()
        name = names.get(path, file.name if file.suffix == ".png" else f"files/{path}")
        if name.startswith("files/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder / name)
        fragment = f"#{parts.fragment}" if parts.fragment else ""
        return f"{link[1]}{name}{fragment}{link[3]}"

    lines: list[str] = []
    is_code = False
    for line in (ROOT / page).read_text().splitlines():
        is_code ^= line.lstrip().startswith("```")
        lines.append(line if is_code else LINK.sub(target, line))
    text = "\n".join(lines) + "\n"
    return text + contents(text) if page == "docs/README.md" else text


def contents(index: str) -> str:
    """Returns the table of contents, as the lists of the index have it."""
    groups = {"Start": ["Quick start <quick-start>"]}
    group = ""
    for line in index.splitlines():
        if heading := HEADING.match(line):
            group = heading[1]
        elif line.startswith("- ") and (link := LINK.search(line)):
            groups.setdefault(group, []).append(link[2].removesuffix(".md"))
    groups["Project"] = ["changelog", "contributing", "report-a-vulnerability", "contract"]
    return "".join(
        "\n".join(("", "```{toctree}", ":hidden:", f":caption: {name}", "", *entries, "```", ""))
        for name, entries in groups.items()
    )


def write_licences(folder: Path) -> None:
    """Writes the licences of what the site copies.

    Raises:
        ValueError: a package has none.
    """
    folder.mkdir(parents=True)
    notice = (INTERFACE / "LICENSE").read_text()
    apache = (SITE / "apache-2.0.txt").read_text()
    (folder / "swagger-ui.txt").write_text(notice + apache)
    for name in COPIED:
        files = distribution(name).files or []
        texts = [file for file in files if file.stem.upper().startswith(("LICENSE", "LICENCE"))]
        if not texts:
            raise ValueError(f"{name} has no licence")
        (folder / f"{name}.txt").write_text("\n\n".join(map(_text, texts)))


def _text(file: object) -> str:
    return Path(str(file.locate())).read_text()  # type: ignore[attr-defined]


def externalize(folder: Path) -> None:
    """Moves scripts and style sheets out of the pages, into files that the policy permits.

    Raises:
        ValueError: a page still has what the policy forbids.
    """
    static = folder / "_static"

    def loaded(inline: re.Match[str]) -> str:
        kind, text = inline.groups()
        suffix = "css" if kind == "style" else "js"
        name = f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.{suffix}"
        (static / name).write_text(text)
        if kind == "style":
            return f'<link rel="stylesheet" href="_static/{name}">'
        return f'<script src="_static/{name}"></script>'

    for page in folder.glob("*.html"):
        text = INLINE.sub(loaded, page.read_text())
        for before, after in ATTRIBUTES.items():
            text = text.replace(before, after)
        if forbidden := list(_forbidden(text)):
            raise ValueError(f"{page.name} has {forbidden[0]}")
        page.write_text(text)


def _forbidden(text: str) -> Iterator[str]:
    for tag in re.findall(r"<[a-zA-Z][^>]*>", text):
        if re.search(r"""\s(?:style|on\w+)=["']""", tag) or tag in ("<script>", "<style>"):
            yield tag
        if re.match(r"<(?:script|link|img)\b[^>]*\s(?:src|href)=[\"'](?:https?:)?//", tag):
            yield tag


def build(site: Path) -> None:
    """Builds the site in place of an earlier one.

    Raises:
        SystemExit: Sphinx has found an error, or a link leads nowhere.
    """
    site.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=site.parent) as temporary:
        sources, built = Path(temporary, "sources"), Path(temporary, "site")
        sources.mkdir()
        write_sources(sources)
        options = ["--quiet", "--fail-on-warning", "--keep-going", "--builder", "html"]
        options += ["--define", f"html_static_path={sources / '_static'}"]
        folders = ["--conf-dir", str(SITE), "--doctree-dir", str(Path(temporary, "doctrees"))]
        if build_main([*options, *folders, str(sources), str(built / "docs")]):
            sys.exit("the documentation is not built")
        (built / "docs" / ".buildinfo").unlink(missing_ok=True)
        externalize(built / "docs")
        shutil.copy(OPENAPI, built)
        shutil.rmtree(site, ignore_errors=True)
        built.rename(site)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Builds the documentation as a web site.")
    parser.add_argument("site", type=Path, help="the folder that receives it")
    build(parser.parse_args().site.resolve())
