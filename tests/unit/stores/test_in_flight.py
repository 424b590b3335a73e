"""What a process had in hand when it died."""

import signal
import subprocess
import sys

from image_categorizer_server.stores.in_flight import SLOTS, InFlight, fingerprint_of

# Has three images, finishes one, and is killed.
DIES = """
import os, pathlib, signal, sys
from image_categorizer_server.stores.in_flight import InFlight
record = InFlight(pathlib.Path(sys.argv[1]))
with record.holding(b"first"), record.holding(b"second"):
    with record.holding(b"done"):
        pass
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_process_finds_what_a_dead_one_had_in_hand_once(tmp_path):
    dead = subprocess.run([sys.executable, "-c", DIES, tmp_path], check=False)
    assert dead.returncode == -signal.SIGKILL
    record = InFlight(tmp_path)
    assert record.left_behind == {fingerprint_of(b"first"), fingerprint_of(b"second")}
    record.close()
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_lives_or_has_ended_in_order_leaves_nothing(tmp_path):
    folder = tmp_path / "new"
    first = InFlight(folder)
    with first.holding(b"x"):
        second = InFlight(folder)
        assert second.left_behind == set()
        second.close()
    first.close()
    third = InFlight(folder)
    assert third.left_behind == set()
    third.close()


def test_more_images_than_slots_are_no_error(tmp_path):
    record = InFlight(tmp_path)
    holding = [record.holding(bytes([n % 256])) for n in range(SLOTS + 10)]
    for block in holding:
        block.__enter__()
    for block in holding:
        block.__exit__(None, None, None)
    record.close()


def test_images_differ_by_length_beginning_and_end():
    large = bytes(10**6)
    images = [b"", b"a", b"b", large, large + b"\0", b"a" + large[1:], large[1:] + b"a"]
    assert len({fingerprint_of(image) for image in images}) == len(images)
