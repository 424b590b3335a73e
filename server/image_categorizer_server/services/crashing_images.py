"""Images that crash processes: found by a trial, then refused by every server process for a while.

    a process dies ─▶ gateway or SDK repeats its calls, once, and says so
        ─▶ another process tries their images in a child, one at a time ─▶ survives: classified
                                                                      └─▶ dies twice: refused

Only a repeated call can cause a trial, so an image is never blamed for the company that it was in.
The refused images are in Redis, by their digests.  Every process reads them several times a second,
so that ordinary calls need not ask; as long as there are none, their images are not even hashed.
"""

import asyncio
import hashlib
import time
from typing import NoReturn, Protocol

from image_categorizer_server.errors import CrashingImage, DependencyDown
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
READ_INTERVAL_S = 0.5
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

    def __init__(self, trial: ImageTrial, shared: ExpiringSet, memory_s: float) -> None:
        """Knows no image yet.

        Args:
            trial: tells whether an image crashes.
            shared: the digests of the images that all processes refuse.
            memory_s: how long an image is refused, in seconds.
        """
        self._trial = trial
        self._shared = shared
        self._memory_s = memory_s
        self._refused_until_s: dict[str, float] = {}  # on the clock of `time.monotonic`
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def check(self, content: bytes, *, is_repeated: bool) -> None:
        """Passes an image that is not known to crash.

        Args:
            content: the encoded image.
            is_repeated: whether a call with the image was cut off before; it is tried first.

        Raises:
            CrashingImage: the image crashes its process.
        """
        if not is_repeated and not self._refused_until_s:
            return
        sha256 = await digest_of(content)
        if self._is_refused(sha256):
            raise _refusal()
        if is_repeated and await self._is_found_guilty(content, sha256):
            await self._remember(sha256)
            raise _refusal()

    async def watch(self) -> NoReturn:
        """Reads again and again which images other processes refuse."""
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
            await asyncio.sleep(READ_INTERVAL_S)

    def _is_refused(self, sha256: str) -> bool:
        return self._refused_until_s.get(sha256, 0.0) > time.monotonic()

    def _forget(self) -> None:
        now_s = time.monotonic()
        for sha256, until_s in list(self._refused_until_s.items()):
            if until_s <= now_s:
                del self._refused_until_s[sha256]

    async def _is_found_guilty(self, content: bytes, sha256: str) -> bool:
        """Tries an image, after those that wait already; the last one ends the child."""
        self._waiting += 1
        try:
            async with self._turn:
                try:
                    # Another call may have brought the same image.
                    if self._is_refused(sha256):
                        return True
                    if not await self._trial.kills(content):
                        return False
                    self._refused_until_s[sha256] = time.monotonic() + self._memory_s
                    return True
                finally:
                    if self._waiting == 1:
                        await self._trial.close()
        finally:
            self._waiting -= 1

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
