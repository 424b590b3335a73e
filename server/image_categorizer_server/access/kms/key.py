"""A key of a key-management service, as a key-encryption key.

    data key ─▶ + digest of what it belongs to ─▶ service ─▶ wrapped

The services differ in what they bind a ciphertext to, so the binding is inside.  Data keys that
were unwrapped are kept: the service is asked again after half of the time, and if it does not
answer, they go on until all of it has passed.
"""

import asyncio
import hashlib
import hmac
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from cachetools import TTLCache

from image_categorizer_server.access.kms.service import KeyRefused, KeyService, KeyServiceDown
from image_categorizer_server.errors import DependencyDown, OperatorError
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
DIGEST_BYTES = 32
KEPT_KEYS = 10_000
THREADS = 4
PAUSE_S = 5.0
"""How long nobody asks a service that has not answered."""
DOWN = "the key-management service does not answer"


@dataclass(frozen=True, slots=True)
class _Kept:
    secret: bytes = field(repr=False)
    since_s: float


class ServiceKey:
    """Wraps and unwraps data keys by calls to a service."""

    def __init__(
        self,
        name: str,
        service: KeyService,
        timeout_s: float,
        keep_s: float,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        """Configures the key.

        Args:
            name: of the key, for messages.
            service: has the key.
            timeout_s: time limit for a call, in seconds.
            keep_s: how long an unwrapped data key may be used without the service, in seconds.
            timer: the time in seconds.
        """
        self.name = name
        self._service = service
        self._timeout_s = timeout_s
        self._keep_s = keep_s
        self._timer = timer
        self._kept: TTLCache[bytes, _Kept] = TTLCache(KEPT_KEYS, ttl=keep_s, timer=timer)
        self._locks: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()
        self._paused_until_s = float("-inf")
        # Threads of its own: a service that hangs holds nothing else up.
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="kms")

    async def wrap(self, secret: bytes, context: bytes) -> bytes:
        """Returns a data key, encrypted, after a look whether it can be decrypted again.

        Raises:
            OperatorError: the service refuses it.
            DependencyDown: the service does not answer.
        """
        wrapped = await self._call(self._service.encrypt, secret + _digest(context))
        if await self.unwrap(wrapped, context) != secret:
            raise OperatorError(f"The key {self.name} decrypts something else than it encrypted.")
        return wrapped

    async def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Returns a data key.

        Raises:
            OperatorError: the service refuses it, or it belongs to something else.
            DependencyDown: the service does not answer, for longer than data keys are kept.
        """
        name = _digest(wrapped) + _digest(context)
        async with self._locks.setdefault(name, asyncio.Lock()):
            kept, now_s = self._kept.get(name), self._timer()
            if kept and now_s - kept.since_s < self._keep_s / 2:
                return kept.secret
            try:
                secret = self._opened(await self._call(self._service.decrypt, wrapped), context)
            except DependencyDown:
                if not kept:
                    raise
                return kept.secret
            except OperatorError:
                self._kept.pop(name, None)
                raise
            self._kept[name] = _Kept(secret, now_s)
            return secret

    def _opened(self, plaintext: bytes, context: bytes) -> bytes:
        secret, digest = plaintext[:-DIGEST_BYTES], plaintext[-DIGEST_BYTES:]
        if not hmac.compare_digest(digest, _digest(context)):
            raise OperatorError("A data key is damaged, or stands in another's place.")
        return secret

    async def _call(self, method: Callable[[bytes], bytes], content: bytes) -> bytes:
        if self._timer() < self._paused_until_s:
            raise DependencyDown(DOWN, retry_after_s=PAUSE_S)
        running = asyncio.get_running_loop().run_in_executor(self._threads, method, content)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await running
        except (KeyServiceDown, TimeoutError) as error:
            self._paused_until_s = self._timer() + PAUSE_S
            log.warning(DOWN, key=self.name, reason=str(error) or "time limit")
            raise DependencyDown(DOWN, retry_after_s=PAUSE_S) from error
        except KeyRefused as error:
            raise OperatorError(
                f"The key-management service refuses to use {self.name}: {error}."
            ) from error


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
