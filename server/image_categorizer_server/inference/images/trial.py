"""Decodes an image in a child process, which may crash in place of the server.

    server ◀───────── one byte: ready ─────── child
           ── size, bytes of the image ────▶  decodes it
           ◀── one byte: has not crashed ───

A child that ends before it is ready says nothing about an image.

The child ends when its standard input does, so none outlives the server.
"""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from dataclasses import asdict

from image_categorizer_server import failpoints
from image_categorizer_server.inference.images.decode import Decoder, ImageLimits
from image_categorizer_server.tasks import kill_process
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
MAX_TRIAL_S = 20.0
SIZE_BYTES = 8
READY, SURVIVED = b"\0", b"\1"
# JPEGs may be decoded at a smaller size, by other code.
SMALLER_PX = 224, 224


class Trial:
    """Tries one image at a time; keeps its child process for the next one."""

    def __init__(self, limits: ImageLimits, failpoint: str = "") -> None:
        """Starts no process yet.

        Args:
            limits: of the images.
            failpoint: as for `failpoints.arm`.
        """
        self._arguments = json.dumps(asdict(limits)), failpoint
        self._child: Process | None = None

    async def kills(self, content: bytes) -> bool:
        """Returns whether an image kills the process that decodes it, twice in a row.

        A single death may have another cause, such as that the machine's memory is full.  If no
        process can be started, or if it takes too long, returns False.
        """
        try:
            async with asyncio.timeout(MAX_TRIAL_S):
                return await self._kills_once(content) and await self._kills_once(content)
        except TimeoutError:
            log.warning("the trial of an image takes too long")
            return False
        except OSError as error:
            log.warning("cannot start a child process", error=repr(error))
            return False

    async def close(self) -> None:
        """Ends the child process; idempotent."""
        child, self._child = self._child, None
        if child is not None:
            await kill_process(child)

    async def _kills_once(self, content: bytes) -> bool:
        child, self._child = self._child, None
        if child is None or child.returncode is not None:
            child = await self._start()
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            if child.stdin.is_closing():  # it has ended already; uvloop would raise RuntimeError
                raise BrokenPipeError
            child.stdin.write(len(content).to_bytes(SIZE_BYTES))
            child.stdin.write(content)
            await child.stdin.drain()
            await child.stdout.readexactly(len(SURVIVED))
        except (asyncio.IncompleteReadError, ConnectionError):
            status = await child.wait()
            log.warning("a child process died with an image", status=status)
            return status < 0  # by a signal; otherwise its own error is in the log
        except asyncio.CancelledError:
            await kill_process(child)
            raise
        self._child = child
        return False

    async def _start(self) -> Process:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", __name__, *self._arguments),
            stdin=PIPE,
            stdout=PIPE,
            start_new_session=True,  # Ctrl-C in a terminal is no crash
        )
        assert child.stdout is not None
        try:
            await child.stdout.readexactly(len(READY))
        except asyncio.IncompleteReadError:
            raise ChildProcessError(f"it ends with {await child.wait()} at its start") from None
        except asyncio.CancelledError:
            await kill_process(child)
            raise
        return child


def serve_trials(limits: ImageLimits) -> None:
    """Decodes images from the standard input until it ends."""
    decoder = Decoder(limits)
    failpoints.hit("trial.started")
    _answer(READY)
    while len(head := sys.stdin.buffer.read(SIZE_BYTES)) == SIZE_BYTES:
        content = sys.stdin.buffer.read(int.from_bytes(head))
        for min_px in (SMALLER_PX, None):
            with suppress(Exception):  # an image that is refused crashes nothing
                decoder.decode(content, min_px)
        _answer(SURVIVED)


def _answer(byte: bytes) -> None:
    sys.stdout.buffer.write(byte)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    failpoints.arm(sys.argv[2])
    serve_trials(ImageLimits(**json.loads(sys.argv[1])))
