r"""Names of the files in a form, as clients of all kinds write them.

    filename="Größe.jpg"                    browsers, in UTF-8; a quote is %22 (WHATWG)
    filename="Gr\xf6\xdfe.jpg"                old clients, in Latin-1
    filename="a \"b\".jpg"                    curl before 7.81, Java: a quoted-string (RFC 9110)
    filename*=utf-8''Gr%C3%B6%C3%9Fe.jpg    RFC 5987; it wins
    filename="=?utf-8?B?R3LDtsOfZS5qcGc=?=" .NET: RFC 2047

The parser of forms knows the first way only.  It decodes headers as Latin-1 here, which keeps each
byte, so that this file can read them again.
"""

import codecs
import re
from email.errors import HeaderParseError
from email.header import decode_header
from urllib.parse import unquote_to_bytes

from multipart import MultipartSegment

HEADER_CHARSET = "latin-1"
# A name of 1,024 characters in UTF-8, and once more percent-encoded.
MAX_HEADER_BYTES = 20 * 1024
# Matches each parameter, so that what stands between quotes is never taken for one.
PARAMETER = re.compile(
    r""";\s*([^\s=;"]+)\s*=\s*("(?:\\.|[^\\"])*"(?=\s*(?:;|$))|"[^"]*"|[^;]*)""",
    re.ASCII | re.DOTALL,
)
EXTENDED = re.compile(r"([A-Za-z0-9_-]{1,20})'[A-Za-z0-9-]*'(.*)", re.ASCII | re.DOTALL)
ENCODED_WORDS = re.compile(r"(?:=\?[\w-]{1,20}\?[BbQq]\?[^?\s]*\?=\s*)+", re.ASCII)
ESCAPED = re.compile(r'\\(["\\])')
WHATWG = (("%0D", "\r"), ("%0A", "\n"), ("%22", '"'))
WINDOWS_FOLDER = re.compile(r"\A(?:[A-Za-z]:[\\/]|\\\\).*[\\/]", re.DOTALL)
CHARSETS = {"ascii", "utf-8", "iso8859-1", "iso8859-15", "cp1252", "shift_jis", "gb18030", "big5"}


def text_of(header: str) -> str:
    """Returns a header, or a part of it, in UTF-8; in Latin-1 if it is not UTF-8."""
    content = header.encode(HEADER_CHARSET)
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def has_file_name(segment: MultipartSegment) -> bool:
    """Returns whether a field of a form is a file: it then has a name, which may be empty."""
    return not _parameters(segment).keys().isdisjoint(("filename", "filename*"))


def file_name(segment: MultipartSegment) -> str:
    """Returns the name of a file as its sender meant it; empty if it has none.

    A folder of Windows is removed, as old browsers send it.  Relative folders are kept.
    """
    found = _parameters(segment)
    name = _extended(found.get("filename*", ""))
    if not name:
        name = _encoded_words(text_of(_unquoted(found.get("filename", ""))))
    return WINDOWS_FOLDER.sub("", name, count=1)


def _parameters(segment: MultipartSegment) -> dict[str, str]:
    header = segment.header("Content-Disposition") or ""
    return {name.lower(): value.strip() for name, value in PARAMETER.findall(header)}


def _extended(value: str) -> str:
    """Returns the text of an extended value (RFC 5987); empty if it is malformed."""
    match = EXTENDED.fullmatch(value.strip('"'))
    return _decoded(unquote_to_bytes(match[2].encode(HEADER_CHARSET)), match[1]) if match else ""


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = value[1:-1]
        if '\\"' in value or ("\\\\" in value and not value.startswith("\\\\")):
            return ESCAPED.sub(r"\1", value)
    for escape, character in WHATWG:
        value = value.replace(escape, character)
    return value


def _encoded_words(name: str) -> str:
    """Returns a name without the encoding of RFC 2047; as it is if it has none, or a broken one."""
    if not ENCODED_WORDS.fullmatch(name):
        return name
    try:
        words = decode_header(name)
    except HeaderParseError:
        return name
    parts = [_decoded(content, charset or "ascii") for content, charset in words]
    return "".join(parts) if all(parts) else name


def _decoded(content: bytes, charset: str) -> str:
    """Returns text; empty if the charset is unknown, or does not fit."""
    try:
        return content.decode(charset) if codecs.lookup(charset).name in CHARSETS else ""
    except (LookupError, UnicodeDecodeError):
        return ""
