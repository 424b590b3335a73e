"""Images that crash processes: found by a trial, then refused by every server process for a while.

    a process dies ─▶ gateway or SDK repeats its calls, once, and says so
                   └▶ the process that takes its place finds which images it had in hand
        ─▶ these images are tried in a child process, one at a time ─▶ survives: classified
                                                                  └─▶ dies twice: refused

Nothing but a trial gets an image refused, so none is blamed for the company that it was in.
The refused images are in Redis, by their digests.  Every process reads them several times a second,
so that ordinary calls need not ask; as long as there are none, their images are not even hashed.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import NoReturn, Protocol

from image_categorizer_server.errors import CrashingImage, DependencyDown
from image_categorizer_server.stores.in_flight import InFlight, fingerprint_of
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
CRASHING_IMAGES_KEY = "crashing-images"
READ_INTERVAL_S = 0.5
# Starting the child costs a hundred times as much as the trial of an image.
KEEP_CHILD_S = 10.0
# For larger images, hashing takes longer than the switch to a thread.
THREAD_FROM_BYTES = 2**20


class ExpiringSet(Protocol):
    """Texts that expire, shared by all processes.  Raises DependencyDown if it does not answer."""

    async def add(self, member: str, ttl_s: float) -> None:
        """Adds a text for `ttl_s` seconds."""
        ...

    async def members(self) -> dict[str, float]:
        """Returns for each text the seconds until it expires."""
        ...


class ImageTrial(Protocol):
    """Tries images in another process, one at a time."""

    async def kills(self, content: bytes) -> bool:
        """Returns whether an image kills its process."""
        ...

    async def close(self) -> None:
        """Ends the other process; it may be used again."""
        ...


class CrashingImages:
    """Refuses images that crash processes."""

    def __init__(
        self,
        trial: ImageTrial,
        shared: ExpiringSet,
        memory_s: float,
        in_flight: InFlight | None = None,
    ) -> None:
        """Knows no image yet.

        Args:
            trial: tells whether an image crashes.
            shared: the digests of the images that all processes refuse.
            memory_s: how long an image is refused, in seconds.
            in_flight: what dead processes had in hand; None if that is not known.
        """
        self._trial = trial
        self._shared = shared
        self._memory_s = memory_s
        self._in_flight = in_flight
        self._left_behind = set() if in_flight is None else in_flight.left_behind
        self._refused_until_s: dict[str, float] = {}  # on the clock of `time.monotonic`
        self._turn = asyncio.Lock()
        self._idle_since_s = 0.0

    @asynccontextmanager
    async def guarding(self, content: bytes, *, is_repeated: bool) -> AsyncIterator[None]:
        """Runs the block, which may decode an image, unless the image crashes processes.

        Args:
            content: the encoded image.
            is_repeated: whether a call with the image was cut off before; it is tried first.

        Raises:
            CrashingImage: the image crashes its process.
        """
        fingerprint = fingerprint_of(content) if self._left_behind else b""
        await self._check(content, needs_trial=is_repeated or fingerprint in self._left_behind)
        self._left_behind.discard(fingerprint)
        with self._in_flight.holding(content) if self._in_flight else nullcontext():
            yield

    async def _check(self, content: bytes, *, needs_trial: bool) -> None:
        if not needs_trial and not self._refused_until_s:
            return
        sha256 = await digest_of(content)
        if self._is_refused(sha256):
            raise _refusal()
        if needs_trial and await self._is_found_guilty(content, sha256):
            await self._remember(sha256)
            raise _refusal()

    async def watch(self) -> NoReturn:
        """Reads again and again which images other processes refuse, until cancelled."""
        while True:
            try:
                members = await self._shared.members()
            except DependencyDown:
                pass  # what is known stays known
            else:
                now_s = time.monotonic()
                for sha256, ttl_s in members.items():
                    self._refused_until_s[sha256] = now_s + ttl_s
            self._forget()
            is_idle = time.monotonic() > self._idle_since_s + KEEP_CHILD_S
            if is_idle and not self._turn.locked():
                await self.close()
            await asyncio.sleep(READ_INTERVAL_S)

    async def close(self) -> None:
        """Ends the child process, after a trial that is under way."""
        async with self._turn:
            await self._trial.close()

    def _is_refused(self, sha256: str) -> bool:
        return self._refused_until_s.get(sha256, 0.0) > time.monotonic()

    def _forget(self) -> None:
        now_s = time.monotonic()
        for sha256, until_s in list(self._refused_until_s.items()):
            if until_s <= now_s:
                del self._refused_until_s[sha256]

    async def _is_found_guilty(self, content: bytes, sha256: str) -> bool:
        """Tries an image, after those that wait already."""
        async with self._turn:
            # Another call may have brought the same image.
            if self._is_refused(sha256):
                return True
            try:
                is_guilty = await self._trial.kills(content)
            finally:
                self._idle_since_s = time.monotonic()
            if is_guilty:
                self._refused_until_s[sha256] = time.monotonic() + self._memory_s
            return is_guilty

    async def _remember(self, sha256: str) -> None:
        log.error("an image crashes its process; it is refused", image_sha256=sha256)
        try:
            await self._shared.add(sha256, self._memory_s)
        except DependencyDown:
            return  # this process refuses it nevertheless
        # When the caller has the answer, and may ask again, every process knows.
        await asyncio.sleep(2 * READ_INTERVAL_S)


async def digest_of(content: bytes) -> str:
    """Returns the SHA-256 of an image, as hexadecimal digits."""
    if len(content) < THREAD_FROM_BYTES:
        return hashlib.sha256(content).hexdigest()
    return (await asyncio.to_thread(hashlib.sha256, content)).hexdigest()


def _refusal() -> CrashingImage:
    return CrashingImage(
        "decoding this image crashes the process, so it is refused for now; do not send it again, "
        "but save it with another program"
    )
