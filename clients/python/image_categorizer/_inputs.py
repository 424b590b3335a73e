"""Reads images: one of any kind, or many from files and folders."""

import io
import os
import struct
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, BinaryIO, TypeVar, overload

from image_categorizer._channel import MEBIBYTE
from image_categorizer._values import AsyncSources, AsyncStreamSources, Image, Source, Sources
from image_categorizer.v1 import batch_pb2

if TYPE_CHECKING:
    import numpy
    import PIL.Image
    from numpy.typing import NDArray

Many = TypeVar("Many")
CHUNK_BYTES = MEBIBYTE
SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff")
)
PNG_MODES = frozenset(("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"))
EXIF_ORIENTATION = 0x0112
Bytes = bytes | bytearray | memoryview


def in_memory(image: Image) -> tuple[str, bytes] | None:
    """Returns the name and the bytes of an image that needs no reading, otherwise None."""
    return ("", bytes(image)) if isinstance(image, Bytes) else None


def read(image: Image) -> tuple[str, bytes]:
    """Returns the name and the encoded bytes of an image; blocks while it reads or encodes.

    Raises:
        OSError: the file cannot be read.
        TypeError: it is not an image of a known kind.
        ValueError: the array has the wrong shape.
    """
    if isinstance(image, Bytes):
        return "", bytes(image)
    if isinstance(image, str | os.PathLike):
        return os.fspath(image), Path(image).read_bytes()
    # Only a program that has imported Pillow or NumPy can hold one of their images.
    pillow, numpy = sys.modules.get("PIL.Image"), sys.modules.get("numpy")
    if pillow is not None and isinstance(image, pillow.Image):
        return "", _png_of_pillow(image)
    if numpy is not None and isinstance(image, numpy.ndarray):
        return "", _png_of_array(image)
    if callable(getattr(image, "read", None)):
        return _read_file(image)  # type: ignore[arg-type]  # whatever has a `read`
    raise TypeError(
        "an image is a path, bytes, a binary file, a Pillow image or an array,"
        f" not {type(image).__name__}"
    )


def _read_file(file: BinaryIO | io.TextIOBase) -> tuple[str, bytes]:
    if isinstance(file, io.TextIOBase):
        raise TypeError("the file is open in text mode; open it in binary mode: open(path, 'rb')")
    seekable = getattr(file, "seekable", None)
    if seekable is not None and seekable():
        file.seek(0)
    content: object = file.read()
    if not isinstance(content, Bytes):
        raise TypeError(f"the file's read() must return bytes, not {type(content).__name__}")
    name = getattr(file, "name", "")
    return name if isinstance(name, str) else "", bytes(content)


def _png_of_pillow(image: "PIL.Image.Image") -> bytes:
    import PIL.Image

    exif = PIL.Image.Exif()
    if orientation := image.getexif().get(EXIF_ORIENTATION):
        # Pillow does not rotate the pixels of a file that it opens; the server does.
        exif[EXIF_ORIENTATION] = orientation
    encoded = io.BytesIO()
    drawable = image if image.mode in PNG_MODES else image.convert("RGB")
    drawable.save(encoded, "PNG", exif=exif, compress_level=1)
    return encoded.getvalue()


def _png_of_array(pixels: "NDArray[numpy.uint8]") -> bytes:
    """Returns a PNG file (ISO/IEC 15948); each row holds the differences from the row above."""
    if pixels.dtype != "uint8":
        raise TypeError(f"an array of pixels must have the dtype uint8, not {pixels.dtype}")
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ValueError(
            f"an array of pixels must have the shape (height, width, 3), not {pixels.shape}"
        )
    height, width, _ = pixels.shape
    differences = pixels.copy()
    differences[1:] -= pixels[:-1]
    rows = b"".join(b"\2" + row.tobytes() for row in differences)  # 2: the filter Up
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(kind, data) for kind, data in chunks)


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def many(sources: Many, method: str) -> Many:
    """Returns `sources` unless it is a single image or a single text.

    Raises:
        TypeError: it is; the message names the method and the remedy.
    """
    if isinstance(sources, str | Bytes | os.PathLike) or _is_named_content(sources):
        shown = f"{sources!r:.80}"
        raise TypeError(f"{method} takes many; put a single one into a list: [{shown}]")
    return sources


def _is_named_content(sources: object) -> bool:
    return isinstance(sources, tuple) and len(sources) in (2, 3) and isinstance(sources[1], Bytes)


@overload
def of_batch(sources: Sources, method: str) -> Iterable[Source]: ...
@overload
def of_batch(sources: AsyncSources, method: str) -> AsyncStreamSources: ...
def of_batch(sources: AsyncSources, method: str) -> AsyncStreamSources:
    """Returns the images of a folder if a folder's path is given, otherwise what is given.

    Raises:
        TypeError: a single image is given.
    """
    if isinstance(sources, str | os.PathLike) and Path(sources).is_dir():
        return image_files(sources, None, recursive=True)
    return many(sources, method)  # type: ignore[return-value]  # a path raises


def file_name(path: str) -> str:
    """Returns the name of a file without folders; what is not UTF-8 in it becomes `?`."""
    return PurePath(path).name.encode("utf-8", "replace").decode()


def named_content(source: tuple[object, ...]) -> tuple[str, bytes, tuple[str, ...]]:
    """Returns name, bytes, and rectangles to blur, of a source that is not a path.

    Raises:
        TypeError: it is not a name and bytes, nor these and rectangles.
    """
    match source:
        case (str() as name, bytes() | bytearray() | memoryview() as content, *more):
            match more:
                case []:
                    return name, bytes(content), ()
                case [list() | tuple() as blur] if all(isinstance(one, str) for one in blur):
                    return name, bytes(content), tuple(map(str, blur))
    raise TypeError(
        f"a source is a path, (name, bytes) or (name, bytes, blur), not {source!r:.100}"
    )


def upload_messages(source: Source) -> Iterator[batch_pb2.UploadBatchRequest]:
    """Yields the messages that upload one image; blocks while it reads a file.

    Raises:
        OSError: the file cannot be read.
        TypeError: it is neither a path nor a name and bytes.
    """
    if isinstance(source, str | os.PathLike):
        with Path(source).open("rb") as file:
            yield _first_message(os.fspath(source), file.read(CHUNK_BYTES), ())
            while chunk := file.read(CHUNK_BYTES):
                yield batch_pb2.UploadBatchRequest(chunk=chunk)
        return
    name, content, blur = named_content(source)
    yield _first_message(name, content[:CHUNK_BYTES], blur)
    for start in range(CHUNK_BYTES, len(content), CHUNK_BYTES):
        yield batch_pb2.UploadBatchRequest(chunk=content[start : start + CHUNK_BYTES])


def _first_message(name: str, chunk: bytes, blur: tuple[str, ...]) -> batch_pb2.UploadBatchRequest:
    file = batch_pb2.UploadBatchFile(filename=name, chunk=chunk, blur=blur)
    return batch_pb2.UploadBatchRequest(file=file)


def image_files(
    folder: str | os.PathLike[str], pattern: str | None = None, recursive: bool = True
) -> list[str]:
    """Returns the paths of a folder's images, sorted.

    Args:
        folder: where to look.
        pattern: which file names, such as `*.jpg`. None: those with the suffix of an image format.
        recursive: whether to look in subfolders too.

    Raises:
        NotADirectoryError: `folder` is not a folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is not a folder")
    found: Iterable[Path] = (root.rglob if recursive else root.glob)(pattern or "*")
    return sorted(
        str(file)
        for file in found
        if (pattern is not None or file.suffix.lower() in SUFFIXES) and file.is_file()
    )
