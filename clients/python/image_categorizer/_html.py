"""How notebooks show values: HTML with bars, and with the picture that the caller gave.

Names, categories and messages come from outside: they are text, never markup. A picture is shown
only as a `data:` URI of an image that this program has sent: showing a value calls no address.
"""

import base64
import io
import os
import sys
import warnings
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import TypeVar

from image_categorizer._channel import MEBIBYTE

MAX_FILE_BYTES = 64 * MEBIBYTE
MAX_SIDE_PX = 160
# Without Pillow an image is shown as it is, if it is no larger.
MAX_PLAIN_BYTES = 128 * 1024
# How the formats that browsers show begin.
BEGINNINGS = {b"\xff\xd8\xff": "jpeg", b"\x89PNG\r\n\x1a\n": "png", b"GIF8": "gif"}

Picture = bytes | str
"""Encoded bytes, or the path of a file."""

Kept = TypeVar("Kept", bound="Pictured")


class Pictured:
    """A value that may know which picture it is about. The picture is no part of the value."""

    __slots__ = ("_picture",)

    _picture: Picture | None


def with_picture(value: Kept, image: object, content: bytes) -> Kept:
    """Returns the value, which now knows its picture.

    A file is read when the value is shown. Bytes are kept only in a notebook, as they need memory.

    Args:
        value: the answer.
        image: what the caller has classified.
        content: its encoded bytes.
    """
    if isinstance(image, str | os.PathLike):
        object.__setattr__(value, "_picture", str(Path(image).absolute()))
    elif "IPython" in sys.modules:
        object.__setattr__(value, "_picture", content)
    return value


def answer(
    value: Pictured, title: str, predictions: Iterable[tuple[str, float]], failure: object = None
) -> str:
    """Returns an answer as HTML: its picture, its title, and a bar for each category.

    Args:
        value: whose picture is shown.
        title: the name of the image; may be empty.
        predictions: categories and their confidences, in [0, 1].
        failure: the error, instead of predictions.
    """
    bars = "".join(_bar(name, share, f"{share:.1%}") for name, share in predictions)
    if failure is not None:
        bars = _row(f'<td style="color:#b3261e;text-align:left">{_text(str(failure))}</td>')
    elif not bars:
        bars = _row('<td style="text-align:left">no category</td>')
    return _card(title, thumbnail(getattr(value, "_picture", None)), bars)


def counts(title: str, parts: Iterable[tuple[str, int]], total: int) -> str:
    """Returns numbers of a whole as HTML, with a bar for each."""
    bars = "".join(_bar(name, part / total if total else 0.0, f"{part:,}") for name, part in parts)
    return _card(title, "", bars)


def thumbnail(picture: Picture | None) -> str:
    """Returns a picture as an `img` element, at most 160 pixels a side, without metadata.

    Empty if there is none, or if it can be shown no more: its file is gone, or is too large.
    """
    content = _read(picture) if isinstance(picture, str) else picture
    if not content:
        return ""
    try:
        shown, kind = _small(content), "jpeg"
    except ImportError:
        shown, kind = _plain(content)
    if not shown:
        return ""
    uri = f"data:image/{kind};base64,{base64.b64encode(shown).decode()}"
    style = f"max-width:{MAX_SIDE_PX}px;max-height:{MAX_SIDE_PX}px"
    return f'<img alt="" src="{uri}" style="{style}">'


def _read(path: str) -> bytes:
    try:
        file = Path(path)
        if not file.is_file() or file.stat().st_size > MAX_FILE_BYTES:
            return b""
        return file.read_bytes()
    except OSError:
        return b""


def _small(content: bytes) -> bytes:
    """Returns a small JPEG of an image, or nothing if Pillow cannot read it.

    Raises:
        ImportError: Pillow is not installed.
    """
    import PIL.Image
    import PIL.ImageOps

    unreadable = (
        *(OSError, ValueError, SyntaxError, EOFError),
        *(PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning),
    )
    encoded = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
            with PIL.Image.open(io.BytesIO(content)) as image:
                image.draft("RGB", (2 * MAX_SIDE_PX, 2 * MAX_SIDE_PX))
                small = PIL.ImageOps.exif_transpose(image).convert("RGB")
        small.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX))
        small.info.clear()
        small.save(encoded, "JPEG", quality=80)
    except unreadable:
        return b""
    return encoded.getvalue()


def _plain(content: bytes) -> tuple[bytes, str]:
    """Returns an image as it is with its format, or nothing if browsers might not show it."""
    for beginning, kind in BEGINNINGS.items():
        if content.startswith(beginning) and len(content) <= MAX_PLAIN_BYTES:
            return content, kind
    return b"", ""


def _card(title: str, image: str, rows: str) -> str:
    heading = f"<div><b>{_text(title)}</b></div>" if title else ""
    table = f'<table style="border-collapse:collapse">{rows}</table>'
    style = "display:flex;gap:12px;align-items:flex-start"
    return f'<div style="{style}">{image}<div>{heading}{table}</div></div>'


def _bar(name: str, share: float, shown: str) -> str:
    percent = 100 * min(1.0, max(0.0, share))
    track = "width:160px;height:10px;background:#8884"
    return _row(
        f'<td style="text-align:left;padding-right:8px">{_text(name)}</td>'
        f'<td><div style="{track}"><div style="width:{percent:.1f}%;height:10px;'
        'background:#3d7ab8"></div></div></td>'
        f'<td style="text-align:right;padding-left:8px">{escape(shown)}</td>'
    )


def _row(cells: str) -> str:
    return f"<tr>{cells}</tr>"


def _text(text: str) -> str:
    """Returns text from outside; what is in it reorders nothing around it."""
    return f"<bdi>{escape(text)}</bdi>"
