"""Zip files at the edge: what is in them, what is refused, what fails alone."""

import io
import os
import resource
import struct
import subprocess
import sys
import zipfile
import zlib
from contextlib import suppress

import pytest
from image_categorizer_server.errors import (
    BatchTooLarge,
    DependencyDown,
    InvalidRequest,
    UndecodableImage,
)
from image_categorizer_server.rpc.batch.archive import ArchiveLimits, unpacked
from image_categorizer_server.services.upload import IgnoredFile

from tests.support.forms import ARCHIVES, archive, stream, taken

CENTRAL, LOCAL = b"PK\x01\x02", b"PK\x03\x04"


def limits_of(**limits):
    fields = {name: getattr(ARCHIVES, name) for name in ARCHIVES.__slots__}
    return ArchiveLimits(**{**fields, **limits})


async def unzip(content, **limits):
    return await taken(unpacked("images[]", stream(content), limits_of(**limits)))


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_bytes": 100}, "more than 100 bytes"),
        ({"max_entries": 2}, "more than 2 files"),
        ({"max_unpacked_bytes": 1000}, "would unpack to more bytes"),
    ],
)
async def test_a_zip_file_that_is_or_becomes_too_large_is_refused(limits, words):
    packed = archive(a=b"a" * 900, b=b"b" * 900, c=b"c" * 900)
    with pytest.raises(BatchTooLarge, match=words):
        await unzip(packed, **limits)


async def test_a_full_disk_is_a_dependency_that_is_down():
    packed = archive(a=os.urandom(2**17))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))
    try:
        with pytest.raises(DependencyDown, match="cannot store"):
            await unzip(packed)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(await unzip(packed)) == 1


async def test_a_zip_bomb_is_refused_before_it_is_unpacked(monkeypatch):
    monkeypatch.setattr("image_categorizer_server.rpc.batch.archive.ANY_RATIO_BYTES", 1000)
    bomb = archive(a=b"\0" * 2**18)
    with pytest.raises(BatchTooLarge, match="would unpack to more bytes"):
        await unzip(bomb)


@pytest.mark.parametrize("name", ["../a.jpg", "/a.jpg", "a/../../b.jpg", "C:a.jpg", "..\\a.jpg"])
async def test_names_that_point_outside_are_refused(name):
    with pytest.raises(InvalidRequest, match="points outside"):
        await unzip(archive(**{name: b"a"}))


async def test_an_encrypted_zip_file_is_refused():
    packed = bytearray(archive(a=b"a" * 50))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        packed[packed.index(mark) + offset] |= 1
    with pytest.raises(InvalidRequest, match="encrypted"):
        await unzip(bytes(packed))


@pytest.mark.parametrize("cut", [0, 1, 10, 30, 60])
async def test_a_zip_file_without_a_whole_directory_is_refused(cut):
    packed = archive(a=bytes(range(256)))
    with pytest.raises(InvalidRequest, match="a zip file is damaged"):
        await unzip(packed[: len(packed) - cut] if cut else b"no zip file")


async def test_every_flipped_byte_of_a_zip_file_is_survived():
    packed = archive(**{"a.jpg": b"A" * 40, "b.jpg": b"B" * 40})
    for position in range(len(packed)):
        damaged = bytearray(packed)
        damaged[position] ^= 0xFF
        with suppress(InvalidRequest, UndecodableImage):
            await unzip(bytes(damaged))


async def outcomes(content, **limits):
    """What becomes of each file: its content, the words of its error, or None if it is ignored."""
    found = {}
    async for item in unpacked("images[]", stream(content), limits_of(**limits)):
        if isinstance(item, IgnoredFile):
            found[item.filename] = None
            continue
        try:
            found[item.filename] = b"".join([piece async for piece in item.content])
        except UndecodableImage as error:
            found[item.filename] = error.message
    return found


@pytest.mark.parametrize(
    "name",
    [
        ".DS_Store",
        "photos/._a.jpg",
        "__MACOSX/photos/._a.jpg",
        "photos/Thumbs.db",
        "photos/desktop.ini",
        "photos/Desktop.ini",
        "photos/@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg",
    ],
)
async def test_files_of_operating_systems_are_ignored(name):
    packed = archive(**{name: b"x", "photos/a.jpg": b"A", "photos/desktop.jpg": b"D"})
    assert await outcomes(packed, max_entries=2) == {
        name: None,
        "photos/a.jpg": b"A",
        "photos/desktop.jpg": b"D",
    }


async def test_folders_are_no_files():
    packed = archive(**{"photos/": b"", "photos/a.jpg": b"A"})
    assert await outcomes(packed) == {"photos/a.jpg": b"A"}


async def test_a_file_with_a_bad_checksum_fails_alone():
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        packed = bytearray(zipped({"a.jpg": b"A" * 99, "b.jpg": b"B" * 99}, kind))
        packed[packed.index(CENTRAL) + 16] ^= 1
        assert await outcomes(bytes(packed)) == {
            "a.jpg": "the file is damaged in the zip file",
            "b.jpg": b"B" * 99,
        }


async def test_damaged_content_fails_alone():
    packed = bytearray(archive(**{"a.jpg": os.urandom(999), "b.jpg": b"B" * 99}))
    packed[60:400] = bytes(340)
    found = await outcomes(bytes(packed))
    assert found == {"a.jpg": "the file is damaged in the zip file", "b.jpg": b"B" * 99}


async def test_a_local_header_elsewhere_fails_alone():
    for position in (2**32 - 2, 1, 50_000):
        packed = bytearray(archive(**{"a.jpg": b"A", "b.jpg": b"B"}))
        struct.pack_into("<L", packed, packed.index(CENTRAL) + 42, position)
        found = await outcomes(bytes(packed))
        assert found == {"a.jpg": "the file is damaged in the zip file", "b.jpg": b"B"}


@pytest.mark.parametrize("size", [98, 100])
async def test_a_wrong_size_fails_alone(size):
    packed = bytearray(archive(**{"a.jpg": b"A" * 99, "b.jpg": b"B"}))
    struct.pack_into("<L", packed, packed.index(CENTRAL) + 24, size)
    found = await outcomes(bytes(packed))
    assert found == {"a.jpg": "the file is damaged in the zip file", "b.jpg": b"B"}


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
async def test_other_methods_fail_with_what_to_do(kind):
    (words,) = (await outcomes(zipped({"a.jpg": b"A"}, kind))).values()
    assert words.startswith(f"the file is packed by method {kind}, which is not supported: use ")


@pytest.mark.parametrize(
    ("raw", "flags", "extra", "name"),
    [
        ("Größe.jpg".encode(), 0x800, b"", "Größe.jpg"),
        ("Größe.jpg".encode(), 0, b"", "Größe.jpg"),
        ("Größe.jpg".encode("cp437"), 0, b"", "Größe.jpg"),
        (b"\xff.jpg", 0x800, b"", "\N{REPLACEMENT CHARACTER}.jpg"),
        (b"Gr.jpg", 0, "Größe.jpg".encode(), "Größe.jpg"),
        (b"photos\\2026\\a.jpg", 0, b"", "photos/2026/a.jpg"),
    ],
)
async def test_names_are_read_as_they_were_meant(raw, flags, extra, name):
    packed = named(raw, flags, extra and unicode_path(raw, extra))
    assert await outcomes(packed) == {name: b"A"}


async def test_a_unicode_name_of_another_name_is_not_taken():
    packed = named(b"renamed.jpg", 0, unicode_path(b"first.jpg", b"other.jpg"))
    assert await outcomes(packed) == {"renamed.jpg": b"A"}


async def test_a_zip_file_may_follow_a_program():
    assert await outcomes(b"#!/bin/sh" * 99 + archive(**{"a.jpg": b"A"})) == {"a.jpg": b"A"}


async def test_a_zip_file_may_have_a_comment():
    packed = archive(**{"a.jpg": b"A"})
    comment = b"PK\x05" * 100
    found = await outcomes(packed[:-2] + struct.pack("<H", len(comment)) + comment)
    assert found == {"a.jpg": b"A"}


async def test_a_zip_file_may_be_written_by_a_stream():
    file = io.BytesIO()
    with zipfile.ZipFile(Unseekable(file), "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.jpg", b"A" * 99)
        with packed.open("b.jpg", "w", force_zip64=True) as content:
            content.write(b"B")
    assert await outcomes(file.getvalue()) == {"a.jpg": b"A" * 99, "b.jpg": b"B"}


async def test_one_part_of_several_is_refused():
    packed = bytearray(archive(a=b"a"))
    packed[packed.index(b"PK\x05\x06") + 4] = 1
    with pytest.raises(InvalidRequest, match="damaged"):
        await unzip(bytes(packed))


MEASURE = """
import asyncio, resource, sys
from image_categorizer_server.errors import BatchTooLarge, InvalidRequest
from image_categorizer_server.rpc.batch.archive import ArchiveLimits, unpacked

async def content():
    with open(sys.argv[1], "rb") as file:
        while piece := file.read(2**18):
            yield piece

async def main():
    limits = ArchiveLimits(2**32, 100_000, 2**40, 100.0, 10 * 2**20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count = 0
    try:
        async for item in unpacked("images[]", content(), limits):
            count += 1
        outcome = str(count)
    except (BatchTooLarge, InvalidRequest) as error:
        outcome = error.message
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(outcome, grown, sep="|")

asyncio.run(main())
"""
MAX_GROWN_KB = 50_000


def measured(file):
    """Returns what becomes of a zip file in a process of its own, and by how much that grows."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, file], capture_output=True, text=True, check=True
    )
    outcome, grown_kb = done.stdout.strip().split("|")
    return outcome, int(grown_kb)


def directory_of(count):
    """Returns a zip file that is only a directory; its end record has no room for the number."""
    entry = struct.pack("<4s6H3L5H2L", CENTRAL, 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
    directory = (entry + b"a") * count
    return directory + end_of(count, len(directory), 0)


def test_a_zip_file_of_nothing_but_a_directory_takes_no_memory(tmp_path):
    file = tmp_path / "a.zip"
    file.write_bytes(directory_of(2_200_000))
    outcome, grown_kb = measured(file)
    assert outcome == "a zip file contains more than 100000 files"
    assert grown_kb < MAX_GROWN_KB


def test_a_zip_file_of_many_files_takes_no_memory(tmp_path):
    file = tmp_path / "a.zip"
    file.write_bytes(directory_of(100_000))
    outcome, grown_kb = measured(file)
    assert outcome == "100000"
    assert grown_kb < MAX_GROWN_KB


class Unseekable(io.RawIOBase):
    """Writes to a file that cannot be sought in, as a web server that zips while it sends."""

    def __init__(self, file) -> None:
        self._file = file

    def write(self, data):
        return self._file.write(data)


def zipped(entries, kind):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as packed:
        for name, content in entries.items():
            packed.writestr(name, content)
    return file.getvalue()


def named(raw, flags, extra):
    """Returns a zip file of one file with exactly this name, these flags and extra fields."""
    crc, sizes = zlib.crc32(b"A"), (1, 1, len(raw), len(extra))
    local = struct.pack("<4s5H3L2H", LOCAL, 20, flags, 0, 0, 0, crc, *sizes) + raw + extra + b"A"
    central = struct.pack(
        "<4s6H3L5H2L", CENTRAL, 20, 20, flags, 0, 0, 0, crc, *sizes, 0, 0, 0, 0, 0
    )
    directory = central + raw + extra
    return local + directory + end_of(1, len(directory), len(local))


def end_of(count, size_bytes, offset):
    counts = count & 0xFFFF, count & 0xFFFF
    return struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, *counts, size_bytes, offset, 0)


def unicode_path(raw, name):
    field = b"\1" + struct.pack("<L", zlib.crc32(raw)) + name
    return struct.pack("<2H", 0x7075, len(field)) + field
