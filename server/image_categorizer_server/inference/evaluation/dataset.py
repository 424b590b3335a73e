"""Labelled sets: pictures and the categories that people gave them."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.manifest import CategoryEntry

HIDDEN = "."


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """A picture of a set."""

    file: Path
    name: str
    """How the set names the file: a path relative to the set, if it is not absolute."""
    labels: tuple[str, ...]
    """Identifier or name of its category, the identifier first; empty if it has none."""

    def category(self, known: Mapping[str, int]) -> int | None:
        """Returns the index of its category; None if it is not among those known."""
        return next((known[label] for label in self.labels if label in known), None)

    @property
    def label(self) -> str:
        """The category as the set says it, for people."""
        return self.labels[-1] if self.labels else ""


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """The pictures of a file or folder."""

    path: Path
    pictures: tuple[LabelledPicture, ...]
    ignored: tuple[str, ...] = ()
    """Files that are in no category's folder, or hidden."""

    @property
    def name(self) -> str:
        """Name of the file or folder."""
        return self.path.resolve().name


class _Entry(BaseModel):
    file: str
    category: str = ""
    category_id: str = ""


class _SetFile(BaseModel):
    images: list[_Entry]


def read_labelled_set(path: Path) -> LabelledSet:
    """Returns a labelled set.

    Args:
        path: a JSON file `{"images": [{"file", "category" or "category_id"}]}`, with files relative
            to its own folder; or a folder with a folder of pictures for each category.

    Raises:
        OperatorError: the set cannot be read.
    """
    if not path.is_dir():
        entries = _read_set(path).images
        return LabelledSet(
            path,
            tuple(
                LabelledPicture(
                    path.parent / entry.file,
                    entry.file,
                    tuple(filter(None, (entry.category_id, entry.category))),
                )
                for entry in entries
            ),
        )
    pictures, ignored = [], []
    for file in _entries(path):
        parts = file.relative_to(path).parts
        name = "/".join(parts)
        if len(parts) < 2 or any(part.startswith(HIDDEN) for part in parts):
            ignored.append(name)
        else:
            pictures.append(LabelledPicture(file, name, parts[:1]))
    return LabelledSet(path, tuple(pictures), tuple(ignored))


def files_in(folder: Path) -> list[Path]:
    """Returns all files below a folder, by name, without hidden ones.

    Raises:
        OperatorError: there is no such folder, or one cannot be read.
    """
    if not folder.is_dir():
        raise OperatorError(f"{folder} is not a folder.")
    return [
        file for file in _entries(folder) if file.is_file() and not file.name.startswith(HIDDEN)
    ]


def _entries(folder: Path, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[Path]:
    """Yields everything below a folder that is no folder, by name.

    Follows links to folders, but not to one that contains the link.

    Args:
        folder: where to look.
        above: device and inode of each folder that contains it.

    Raises:
        OperatorError: a folder cannot be read.
    """
    try:
        status = folder.stat()
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise OperatorError(f"Cannot read {folder}: {error.strerror}.") from None
    own = status.st_dev, status.st_ino
    if own in above:
        return
    for entry in entries:
        if entry.is_dir():
            yield from _entries(entry, above | {own})
        else:
            yield entry


def known_labels(categories: Sequence[CategoryEntry]) -> dict[str, int]:
    """Returns the position of each category among a model's, by name and by identifier."""
    known = {entry.name: index for index, entry in enumerate(categories)}
    return known | {entry.id: index for index, entry in enumerate(categories) if entry.id}


def file_hash(file: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal; empty if it is no file that can be read."""
    try:
        if not file.is_file():  # reading a pipe would not end
            return ""
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except (OSError, ValueError):  # a name may contain NUL
        return ""


def digest_of_set(hashes: Iterable[tuple[LabelledPicture, str]]) -> str:
    """Returns `sha256:` and the hash of the labels, names and contents of all pictures.

    Args:
        hashes: each picture with the SHA-256 of its file; see `file_hash`.
    """
    lines = sorted(json.dumps([picture.labels, picture.name, sha256]) for picture, sha256 in hashes)
    joined = "\n".join(lines)
    return f"sha256:{hashlib.sha256(joined.encode()).hexdigest()}"


def _read_set(path: Path) -> _SetFile:
    try:
        return _SetFile.model_validate(json.loads(path.read_bytes()))
    except OSError as error:
        raise OperatorError(f"Cannot read {path}: {error.strerror}.") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise OperatorError(f"{path} is not a labelled set: {place}: {first['msg']}.") from None
    except (ValueError, RecursionError) as error:
        raise OperatorError(f"{path} is not a labelled set: {error}.") from None
