"""Tar files that are made while they are read."""

import io
import tarfile
from datetime import UTC, datetime

from image_categorizer_server.services.tar import END, PIECE_BYTES, pieces_of, pieces_of_file

TIME = datetime(2026, 1, 2, tzinfo=UTC)
FILES = {
    "a": b"",
    "train/Größe/b.jpeg": b"x" * 511,
    "c": b"y" * 512,
    "d": b"z" * 200_001,
    "long/" + "n" * 300: b"1",
}


def test_the_file_is_what_tar_reads():
    pieces = [piece for name, content in FILES.items() for piece in pieces_of(name, content, TIME)]
    stream = io.BytesIO(b"w" * 70_000)
    stream.read()
    pieces += [*pieces_of_file("e", stream, TIME), END]
    assert max(map(len, pieces)) <= PIECE_BYTES
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces)), mode="r|") as opened:
        found = {}
        for member in opened:
            file = opened.extractfile(member)
            found[member.name] = file.read()
            assert (member.mtime, member.mode) == (TIME.timestamp(), 0o644)
    assert found == {**FILES, "e": b"w" * 70_000}
