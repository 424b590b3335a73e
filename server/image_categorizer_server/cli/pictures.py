"""What the arguments of a command stand for: files, the images in folders, standard input, URLs."""

import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from image_categorizer import Source

from image_categorizer_server.cli.output import printable, say
from image_categorizer_server.errors import OperatorError

STANDARD_INPUT = "-"
# The suffixes of a format, where they are not its name in small letters.
SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "HEIF": (".heif", ".heic"),
    "HEIC": (".heif", ".heic"),
    "JPEG2000": (".jp2",),
}
URI_SCHEMES = ("https", "http", "s3", "gs", "az")
MAX_KINDS_SHOWN = 5


@dataclass(slots=True)
class Pictures:
    """The images that arguments stand for, in their order."""

    files: list[Source] = field(default_factory=list)
    """Paths; and a name and bytes for standard input."""
    passed_over: Counter[str] = field(default_factory=Counter)
    """How many files in folders are not images, by suffix."""


def uris_of(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments if they are addresses of images; nothing if they are files.

    Raises:
        OperatorError: some are addresses and some are files.
    """
    uris = [argument for argument in arguments if is_uri(argument)]
    if uris and len(uris) < len(arguments):
        raise OperatorError("Give either files or addresses, not both at once.")
    return uris


def is_uri(argument: str) -> bool:
    """Returns whether an argument is the address of an image, not a file's path."""
    try:
        return "://" in argument and urlsplit(argument).scheme in URI_SCHEMES
    except ValueError:
        return False


def find_pictures(arguments: Iterable[str], formats: Iterable[str]) -> Pictures:
    """Returns the files, with each folder replaced by the images in it.

    Args:
        arguments: paths of files and folders, and `-`.
        formats: the image formats that the server supports, such as JPEG.

    Raises:
        OperatorError: the folders hold no images, or cannot be read.
    """
    suffixes = {s for name in formats for s in SUFFIXES.get(name, (f".{name.lower()}",))}
    found = Pictures()
    for argument in arguments:
        if argument == STANDARD_INPUT:
            found.files.append(("stdin", sys.stdin.buffer.read()))
        elif Path(argument).is_dir():
            _add_folder(Path(argument), suffixes, found)
        else:
            found.files.append(argument)
    if found.passed_over:
        say(_sentence_of(found.passed_over))
    if not found.files:
        raise OperatorError("No images found in these folders.")
    return found


def key_of(source: Source) -> str:
    """Returns the name of a source, which its result carries."""
    return source[0] if isinstance(source, tuple) else os.fspath(source)


def sendable(name: str) -> str:
    r"""Returns a file's name in UTF-8: as it is, or with the bytes that are not as `\xe9`."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return printable(name)
    return name


def uploadable(source: Source) -> Source:
    """Returns a source with a name that can be sent.

    Raises:
        OSError: the file cannot be read.
    """
    if isinstance(source, tuple):
        return source
    path = os.fspath(source)
    name = sendable(path)
    return path if name == path else (name, Path(path).read_bytes())


def _add_folder(folder: Path, suffixes: set[str], found: Pictures) -> None:
    """Adds a folder's images, sorted by path. Follows links, but enters no folder twice."""
    entered: set[tuple[int, int]] = set()
    files: list[str] = []

    def unreadable(error: OSError) -> None:
        raise OperatorError(f"Cannot read {error.filename}: {error.strerror}.")

    for parent, folders, names in os.walk(folder, followlinks=True, onerror=unreadable):
        status = Path(parent).stat()
        if (status.st_dev, status.st_ino) in entered:
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        folders.sort()
        for name in names:
            suffix = Path(name).suffix.lower()
            path = Path(parent, name)
            if suffix in suffixes and path.is_file():  # not a pipe, nor a link to nowhere
                files.append(str(path))
            else:
                found.passed_over[suffix or "without a suffix"] += 1
    found.files += sorted(files)


def _sentence_of(passed_over: Counter[str]) -> str:
    count = passed_over.total()
    kinds = [
        f"{number} {suffix:.20}" for suffix, number in passed_over.most_common(MAX_KINDS_SHOWN)
    ]
    if len(passed_over) > MAX_KINDS_SHOWN:
        kinds.append("others")
    return f"{count} {'file' if count == 1 else 'files'} passed over: {', '.join(kinds)}."
