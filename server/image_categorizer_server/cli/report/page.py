"""The frame of a report: style, policy, pictures. Everything from outside passes `text`."""

import base64
import hashlib
import html
import os
from collections.abc import Iterable
from pathlib import Path

from image_categorizer_server import clock
from image_categorizer_server.cli.output import printable
from image_categorizer_server.errors import InvalidRequest, OperatorError
from image_categorizer_server.inference.evaluation.dataset import LabelledPicture
from image_categorizer_server.inference.images.decode import Decoder
from image_categorizer_server.inference.images.encode import encode_jpeg
from image_categorizer_server.version import VERSION

THUMBNAIL_PX = 192
THUMBNAIL_QUALITY = 75
MAX_THUMBNAILS = 400  # 8 KB each
STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")


def text(value: str | os.PathLike[str]) -> str:
    """Returns text from outside as HTML, for an element or an attribute in double quotes."""
    return html.escape(printable(value))


def name(value: str | os.PathLike[str]) -> str:
    """Returns a name as an element of its own, so that its direction affects no other text."""
    return f"<bdi>{text(value)}</bdi>"


def percent(share: float, digits: int = 1) -> str:
    """Returns a share in [0, 1] such as `88.4 %`."""
    return f"{share * 100:.{digits}f}\N{NO-BREAK SPACE}%"


def bar(share: float, kind: str = "fill") -> str:
    """Returns a horizontal bar for a share in [0, 1]."""
    return (
        '<svg class="bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" width="100" height="6"/>'
        f'<rect class="{kind}" width="{share * 100:.1f}" height="6"/></svg>'
    )


def card(title: str, value: str, note: str, graphic: str = "") -> str:
    """Returns a figure with its title; all arguments are HTML."""
    return (
        f'<div class="card"><h3>{title}</h3><p class="value">{value}</p>{graphic}'
        f'<p class="note">{note}</p></div>'
    )


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Returns a table; all arguments are HTML."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    whole = f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll">{whole}</div>'


def section(title: str, lead: str, body: str) -> str:
    """Returns a section; all arguments are HTML."""
    return f'<section><h2>{title}</h2><p class="lead">{lead}</p>{body}</section>'


class Thumbnails:
    """Small copies of pictures, inside the page. They are encoded anew, without metadata."""

    def __init__(self, decoder: Decoder, max_bytes: int) -> None:
        self._decoder = decoder
        self._max_bytes = max_bytes
        self._made: dict[Path, str] = {}

    def of(self, picture: LabelledPicture) -> str:
        """Returns the picture as an element; an empty box if there are too many, or it is gone."""
        if picture.file not in self._made:
            if len(self._made) >= MAX_THUMBNAILS:
                return '<span class="nothing"></span>'
            self._made[picture.file] = self._element(picture)
        return self._made[picture.file]

    def _element(self, picture: LabelledPicture) -> str:
        try:
            with picture.file.open("rb") as file:
                content = file.read(self._max_bytes + 1)
            pixels = self._decoder.decode(content, (2 * THUMBNAIL_PX, 2 * THUMBNAIL_PX))
        except (OSError, InvalidRequest):
            return '<span class="nothing"></span>'
        small = encode_jpeg(pixels.fitted(THUMBNAIL_PX), THUMBNAIL_QUALITY)
        encoded = base64.b64encode(small).decode()
        return f'<img src="data:image/jpeg;base64,{encoded}" alt="{text(picture.name)}">'


def write_page(file: Path, title: str, body: str) -> None:
    """Writes a report.

    The page's policy forbids scripts, and everything that the page does not contain itself.

    Args:
        file: where to write it.
        title: text.
        body: HTML.

    Raises:
        OperatorError: it cannot be written.
    """
    style_hash = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style_hash}'; "
        "base-uri 'none'; form-action 'none'"
    )
    made = f"{clock.now():%Y-%m-%d %H:%M} UTC"
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"{body}\n</main>\n"
        f"<footer>Image Categorizer {text(VERSION)}, {made}</footer>\n</body>\n</html>\n"
    )
    try:
        file.write_text(page, encoding="utf-8")
    except OSError as error:
        raise OperatorError(f"Cannot write {file}: {error.strerror}.") from None
