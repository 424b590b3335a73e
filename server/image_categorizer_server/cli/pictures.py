"""What arguments stand for: files, images in folders and zip files, addresses, standard input."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from image_categorizer import Source, UndecodableImage

from image_categorizer_server.cli.output import printable, say
from image_categorizer_server.errors import CategorizerError, OperatorError
from image_categorizer_server.stores.zip_directory import UnreadableZip, ZipEntry
from image_categorizer_server.stores.zip_file import ZipFile, is_of_a_system, is_zip_name

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


@dataclass(frozen=True, slots=True)
class Address:
    """An image that the server fetches."""

    uri: str


@dataclass(frozen=True, slots=True)
class Zip:
    """A zip file of images."""

    path: str


@dataclass(slots=True)
class Pictures:
    """The images that arguments stand for, in their order."""

    suffixes: frozenset[str]
    """Those of images."""
    sources: list[Source | Address | Zip] = field(default_factory=list)
    """Files are paths; standard input is a name and bytes."""
    passed_over: Counter[str] = field(default_factory=Counter)
    """How many files in folders and zip files are not images, by suffix."""
    unreadable: dict[str, OSError | UndecodableImage] = field(default_factory=dict)
    """Why a zip file cannot be read, by path."""

    def is_image(self, name: str) -> bool:
        """Returns whether a file in a folder is an image, by its name; counts it if it is not."""
        kind = self._other_kind(name)
        if kind:
            self.passed_over[kind] += 1
        return not kind

    def images_in(self, packed: ZipFile) -> Iterator[ZipEntry]:
        """Yields the images in a zip file.

        Raises:
            UnreadableZip: the zip file is damaged or encrypted, or a name in it points outside.
        """
        return (entry for entry in packed.files() if not self._other_kind(entry.name))

    def _other_kind(self, name: str) -> str:
        """Returns what a file is that is not an image; empty if it is one."""
        suffix = Path(name).suffix.lower()
        if is_of_a_system(name):
            return "of operating systems"
        return "" if suffix in self.suffixes else suffix or "without a suffix"


@dataclass(frozen=True, slots=True)
class Picture:
    """One image to classify."""

    name: str
    read: Callable[[int], bytes] | None
    """Returns the encoded image. Reads little more than as many bytes as its argument says.

    Raises OSError, or UndecodableImage. None: the server fetches the image, whose name is its
    address.
    """


def is_uri(argument: str) -> bool:
    """Returns whether an argument is the address of an image, not a file's path."""
    try:
        return "://" in argument and urlsplit(argument).scheme in URI_SCHEMES
    except ValueError:
        return False


def find_pictures(arguments: Iterable[str], formats: Iterable[str]) -> Pictures:
    """Returns what arguments stand for, with each folder replaced by the images in it.

    Args:
        arguments: paths of files, zip files and folders; addresses; and `-`.
        formats: the image formats that the server supports, such as JPEG.

    Raises:
        OperatorError: a folder cannot be read, or an address cannot be sent.
    """
    suffixes = (s for name in formats for s in SUFFIXES.get(name, (f".{name.lower()}",)))
    found = Pictures(frozenset(suffixes))
    for argument in arguments:
        if argument == STANDARD_INPUT:
            found.sources.append(("stdin", sys.stdin.buffer.read()))
        elif is_uri(argument):
            if sendable(argument) != argument:
                raise OperatorError(f"{printable(argument)}: write the address in UTF-8.")
            found.sources.append(Address(argument))
        elif Path(argument).is_dir():
            _add_folder(Path(argument), found)
        else:
            found.sources.append(Zip(argument) if is_zip_name(argument) else argument)
    return found


def report_found(found: Pictures, count: int) -> None:
    """Says how many files are passed over.

    Raises:
        OperatorError: `count`, the number of images, is 0.
    """
    if found.passed_over:
        say(_sentence_of(found.passed_over))
    if not count:
        raise OperatorError("No images found in these folders and zip files.")


def count_of(found: Pictures) -> int:
    """Returns the number of images, those in zip files included; notes what is passed over in them.

    A zip file that cannot be read counts as one image, and will fail.
    """
    count = 0
    for source in found.sources:
        if not isinstance(source, Zip):
            count += 1
            continue
        try:
            with _opened(source.path) as packed:
                count += sum(found.is_image(entry.name) for entry in packed.files())
        except OSError as error:
            found.unreadable[source.path] = error
            count += 1
        except UnreadableZip as error:
            found.unreadable[source.path] = _unreadable(error)
            count += 1
    return count


def each_of(found: Pictures) -> Iterator[Picture]:
    """Yields the images, those in zip files included. Each is to be read before the next is taken.

    A zip file that cannot be read stands in the place of its images, and fails when it is read.
    """
    for source in found.sources:
        match source:
            case Address(uri):
                yield Picture(uri, None)
            case Zip(path):
                yield from _each_in(path, found)
            case (name, content, *_):
                yield Picture(name, _reads_bytes(bytes(content)))
            case _:
                yield Picture(os.fspath(source), _reads_file(Path(source)))


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


def _add_folder(folder: Path, found: Pictures) -> None:
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
            path = Path(parent, name)
            if not found.is_image(path.relative_to(folder).as_posix()):
                continue
            if path.is_file():
                files.append(str(path))
            else:  # a pipe, or a link to nowhere
                found.passed_over[path.suffix.lower()] += 1
    found.sources += sorted(files)


@contextmanager
def _opened(path: str) -> Iterator[ZipFile]:
    with Path(path).open("rb") as file:
        yield ZipFile(file.fileno(), os.fstat(file.fileno()).st_size)


def _each_in(path: str, found: Pictures) -> Iterator[Picture]:
    if path in found.unreadable:
        yield Picture(path, _fails(found.unreadable[path]))
        return
    try:
        with _opened(path) as packed:
            for entry in found.images_in(packed):
                yield Picture(f"{path}/{entry.name}", _reads_entry(packed, entry))
    except OSError as error:  # somebody has changed it since it was counted
        yield Picture(path, _fails(error))
    except UnreadableZip as error:
        yield Picture(path, _fails(_unreadable(error)))


def _reads_bytes(content: bytes) -> Callable[[int], bytes]:
    return lambda _: content


def _reads_file(path: Path) -> Callable[[int], bytes]:
    def read(most: int) -> bytes:
        with path.open("rb") as file:
            return file.read(most + 1)

    return read


def _reads_entry(packed: ZipFile, entry: ZipEntry) -> Callable[[int], bytes]:
    def read(most: int) -> bytes:
        content, file = bytearray(), packed.open(entry)
        try:
            while len(content) <= most and (piece := file.read()):
                content += piece
        except CategorizerError as error:
            raise UndecodableImage(error.message) from None
        return bytes(content)

    return read


def _fails(error: OSError | UndecodableImage) -> Callable[[int], bytes]:
    def read(_: int) -> bytes:
        raise error

    return read


def _unreadable(error: UnreadableZip) -> UndecodableImage:
    return UndecodableImage(f"the zip file {printable(str(error))}")


def _sentence_of(passed_over: Counter[str]) -> str:
    count = passed_over.total()
    kinds = [
        f"{number} {suffix:.20}" for suffix, number in passed_over.most_common(MAX_KINDS_SHOWN)
    ]
    if len(passed_over) > MAX_KINDS_SHOWN:
        kinds.append("others")
    return f"{count} {'file' if count == 1 else 'files'} passed over: {', '.join(kinds)}."
