"""Calls URLs that users name, within limits: images by URI, and webhooks.

The documents of identity providers, which operators name, pass the same guard with rules of their
own.

    url ─▶ Guard: scheme, port, spelling ─▶ PerHostLimiter ─▶ GuardedNetwork: resolve, check every
        address, connect to a checked one ─▶ read up to a limit ─▶ a redirect starts again

One deadline covers all of that.  Calls carry no credentials and follow few redirects.  Callers get
the same message whether a host is refused, unknown or silent, because they must not learn which
hosts this machine can reach.  The reason is in the log.
"""

import asyncio
import re
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import certifi
import httpcore

from image_categorizer_server.clock import Backoff
from image_categorizer_server.egress.guard import Guard, Refused, Target
from image_categorizer_server.egress.network import GuardedNetwork, ReadBudget, read_budget
from image_categorizer_server.egress.pool import ConnectionPool
from image_categorizer_server.errors import (
    DependencyDown,
    ImageTooLarge,
    ImageUnreachable,
    OperatorError,
)
from image_categorizer_server.settings.fetch import FetchSettings
from image_categorizer_server.telemetry import get_log
from image_categorizer_server.version import VERSION

log = get_log(__name__)

UNREACHABLE = "the image cannot be fetched from its URI"
OBJECT_SCHEMES = ("s3://", "gs://", "az://")
REDIRECTS = {301, 302, 303, 307, 308}
RETRYABLE = {429, 500, 502, 503, 504}
FIRST_RETRY_DELAY_S, MAX_RETRY_DELAY_S = 0.2, 60.0
MAX_HEADER_BYTES = 128 * 1024
MAX_ANSWER_BYTES = 64 * 1024
MAX_LOGGED_CHARACTERS = 200
Headers = list[tuple[bytes, bytes]]
IMAGE_HEADERS: Headers = [
    (b"Accept", b"image/*, application/octet-stream;q=0.9, */*;q=0.1"),
    (b"Accept-Encoding", b"identity"),
]
DOCUMENT_HEADERS: Headers = [
    (b"Accept", b"application/json"),
    (b"Accept-Encoding", b"identity"),
]
USER_AGENT = (b"User-Agent", f"image-categorizer/{VERSION}".encode())
ReadObject = Callable[[str, int], Awaitable[bytes]]
"""Reads the object that an s3, gs or az URI names, up to a number of bytes."""
OnTurn = Callable[[], None]
"""Starts the time limit of a call. Called when its turn at the host has come."""


class Unreachable(Exception):
    """There is no usable answer. The text is for the log."""

    def __init__(self, text: str, is_transient: bool = False) -> None:
        """Creates the error.

        Args:
            text: the reason.
            is_transient: whether the same call may succeed later.
        """
        super().__init__(text)
        self.is_transient = is_transient


class HostBusy(Exception):
    """Other calls to the host took too long; this call was not made."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a `post`."""

    status: int
    headers: dict[str, str]
    """Names in lower case. Of a repeated header, the last value."""
    body: bytes = b""
    """Its first `MAX_ANSWER_BYTES`."""


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    target: Target
    headers: Headers
    max_bytes: int
    """Largest body of the answer that is read."""
    body: bytes = b""


class PerHostLimiter:
    """Limits the concurrent calls to each host. Further calls wait."""

    def __init__(self, max_per_host: int) -> None:
        self._max_per_host = max_per_host
        self._semaphores: dict[str, asyncio.Semaphore] = {}
        self._users: defaultdict[str, int] = defaultdict(int)

    @asynccontextmanager
    async def call(self, host: str) -> AsyncIterator[None]:
        """Waits until the host may be called, and counts the call during the block."""
        semaphore = self._semaphores.setdefault(host, asyncio.Semaphore(self._max_per_host))
        self._users[host] += 1
        try:
            async with semaphore:
                yield
        finally:
            self._users[host] -= 1
            if not self._users[host]:
                del self._users[host], self._semaphores[host]


class Fetcher:
    """Calls URLs that users name."""

    def __init__(
        self,
        settings: FetchSettings,
        pool: httpcore.AsyncConnectionPool,
        network: GuardedNetwork,
        read_object: ReadObject,
    ) -> None:
        """Wraps a pool.

        Args:
            settings: limits.
            pool: of connections that `network` opens. The caller closes it.
            network: checks addresses.
            read_object: reads what s3, gs and az URIs name.
        """
        self._settings = settings
        self._pool = pool
        self._network = network
        self._read_object = read_object
        self._guard = Guard(settings)
        self._hosts = PerHostLimiter(settings.max_per_host)

    async def check(self, url: str) -> None:
        """Passes a URL that may be called, as far as can be told without calling it.

        Raises:
            Unreachable: its spelling, its port or one of its addresses is refused, or the name
                cannot be resolved.
        """
        with _as_unreachable():
            async with asyncio.timeout(self._settings.resolve_timeout_s):
                await self._network.resolve_permitted(self._guard.parse(url).host)

    async def fetch(self, uri: str, max_bytes: int) -> bytes:
        """Returns the image that an https, s3, gs or az URI names.

        Tries again, within one deadline, if the host may answer later.

        Raises:
            ImageUnreachable: the host is refused, unknown, silent or too slow, or has no image.
            ImageTooLarge: the image has more than `max_bytes`.
            DependencyDown: earlier calls to the host took too long and this one was not made, or
                the bucket does not answer.
        """
        try:
            with _as_unreachable():
                async with self._time_limit(self._settings.timeout_s) as on_turn:
                    if uri.lower().startswith(OBJECT_SCHEMES):
                        on_turn()
                        return await self._read_object(uri, max_bytes)
                    return await self._get_with_retries(uri, max_bytes, on_turn)
        except Unreachable as error:
            log.info("fetch failed", uri=_loggable(uri), reason=str(error))
            raise ImageUnreachable(UNREACHABLE) from error
        except HostBusy as error:
            raise DependencyDown("the image's host is busy with earlier calls") from error

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> Answer:
        """Sends a body once and returns the answer. Follows no redirects.

        Not idempotent: after `Unreachable` the host may have received the body all the same.

        Raises:
            Unreachable: the URL is refused, or no answer came within `timeout_s` seconds of the
                turn.
            HostBusy: nothing was sent.
        """
        with _as_unreachable():
            async with self._time_limit(timeout_s) as on_turn:
                target = self._guard.parse(url)
                sent = [(name.encode("ascii"), text.encode()) for name, text in headers.items()]
                request = _Request("POST", target, sent, MAX_ANSWER_BYTES, body)
                async with self._call(request, on_turn) as response:
                    content = await _read(response, MAX_ANSWER_BYTES)
                    return Answer(response.status, _as_text(response.headers), content)

    async def get(self, url: str, max_bytes: int, timeout_s: float) -> bytes:
        """Returns the JSON document at a URL.  Follows no redirects, and does not try again.

        Raises:
            Unreachable: the URL is refused, or no document of at most `max_bytes` came within
                `timeout_s` seconds of the turn.
            HostBusy: earlier calls to the host took too long; this one was not made.
        """
        with _as_unreachable():
            async with self._time_limit(timeout_s) as on_turn:
                request = _Request("GET", self._guard.parse(url), DOCUMENT_HEADERS, max_bytes)
                async with self._call(request, on_turn) as response:
                    if response.status != 200:
                        raise Unreachable(f"the host answers {response.status}")
                    content = await _read(response, max_bytes)
        if len(content) > max_bytes:
            raise Unreachable(f"the document has more than {max_bytes} bytes")
        return content

    @asynccontextmanager
    async def _time_limit(self, timeout_s: float) -> AsyncIterator[OnTurn]:
        """Limits the wait for the turn to `max_wait_s`, and the rest to `timeout_s`.

        Raises:
            HostBusy: the turn did not come in time.
            TimeoutError: the call took too long.
        """
        has_turn = False
        try:
            async with asyncio.timeout(self._settings.max_wait_s) as limit:

                def on_turn() -> None:
                    nonlocal has_turn
                    if not has_turn:  # redirects and retries share the limit of the first call
                        has_turn = True
                        limit.reschedule(asyncio.get_running_loop().time() + timeout_s)

                yield on_turn
        except TimeoutError:
            if has_turn:
                raise
            raise HostBusy from None

    async def _get_with_retries(self, url: str, max_bytes: int, on_turn: OnTurn) -> bytes:
        backoff = Backoff(FIRST_RETRY_DELAY_S, MAX_RETRY_DELAY_S)
        for _ in range(self._settings.max_retries):
            try:
                with _as_unreachable():
                    return await self._get(url, max_bytes, on_turn)
            except Unreachable as error:
                if not error.is_transient:
                    raise
            await asyncio.sleep(backoff.next_s())
        return await self._get(url, max_bytes, on_turn)

    async def _get(self, url: str, max_bytes: int, on_turn: OnTurn) -> bytes:
        target = self._guard.parse(url)
        for _ in range(self._settings.max_redirects + 1):
            request = _Request("GET", target, IMAGE_HEADERS, max_bytes)
            async with self._call(request, on_turn) as response:
                if response.status == 200:
                    return await _read_image(response, max_bytes)
                if response.status not in REDIRECTS:
                    raise Unreachable(
                        f"the host answers {response.status}", response.status in RETRYABLE
                    )
                location = _as_text(response.headers).get("location", "")
            target = self._guard.redirect(target, location)
        raise Refused("too many redirects")

    @asynccontextmanager
    async def _call(self, request: _Request, on_turn: OnTurn) -> AsyncIterator[httpcore.Response]:
        """Yields the answer before its body is read. Frees the connection afterwards."""
        target = request.target
        token = read_budget.set(ReadBudget(request.max_bytes + MAX_HEADER_BYTES))
        try:
            async with self._hosts.call(f"{target.host}:{target.port}"):
                on_turn()
                async with self._pool.stream(
                    request.method,
                    httpcore.URL(
                        scheme=target.scheme.encode(),
                        host=target.host.encode(),
                        port=target.port,
                        target=target.path.encode(),
                    ),
                    headers=[(b"Host", target.authority.encode()), USER_AGENT, *request.headers],
                    content=request.body or None,
                    extensions={"timeout": {"connect": self._settings.connect_timeout_s}},
                ) as response:
                    yield response
        finally:
            read_budget.reset(token)


@asynccontextmanager
async def open_fetcher(settings: FetchSettings, read_object: ReadObject) -> AsyncIterator[Fetcher]:
    """Yields a fetcher that connects on first use.

    Args:
        settings: limits, and what may be called.
        read_object: reads what s3, gs and az URIs name.

    Raises:
        OperatorError: `CATEGORIZER_FETCH__CA_FILE` cannot be read.
    """
    trusted = ssl.create_default_context(cafile=certifi.where())
    try:
        if settings.ca_file:
            trusted.load_verify_locations(settings.ca_file)
    except OSError as error:
        raise OperatorError(
            f"CATEGORIZER_FETCH__CA_FILE cannot be read: {error.strerror or error}."
        ) from None
    network = GuardedNetwork(settings)
    async with ConnectionPool(settings, trusted, network) as pool:
        yield Fetcher(settings, pool, network, read_object)


@contextmanager
def _as_unreachable() -> Iterator[None]:
    """Turns network errors into `Unreachable`."""
    try:
        yield
    except Refused as error:
        raise Unreachable(str(error)) from error
    except (httpcore.NetworkError, httpcore.RemoteProtocolError, TimeoutError) as error:
        raise Unreachable(str(error) or "no answer in time", is_transient=True) from error
    except httpcore.TimeoutException as error:
        raise Unreachable("no connection in time", is_transient=True) from error
    except (httpcore.ProtocolError, OSError) as error:
        raise Unreachable(str(error)) from error


def _loggable(uri: str) -> str:
    """Returns a URI without its secrets: user info, and signatures in the query."""
    return re.sub(r"//[^/@]*@", "//", uri.partition("?")[0])[:MAX_LOGGED_CHARACTERS]


async def _read_image(response: httpcore.Response, max_bytes: int) -> bytes:
    """Returns the body of an answer.

    Raises:
        Refused: the body is compressed although we asked for `identity`: it may be a bomb.
        ImageTooLarge: the body has more than `max_bytes`, by its header or in fact.
    """
    headers = _as_text(response.headers)
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused("the body is compressed")
    length = headers.get("content-length", "")
    is_too_long = length.isdigit() and int(length[:20]) > max_bytes
    content = b"" if is_too_long else await _read(response, max_bytes)
    if is_too_long or len(content) > max_bytes:
        raise ImageTooLarge.over(max_bytes)
    return content


async def _read(response: httpcore.Response, max_bytes: int) -> bytes:
    """Returns the body. Stops reading once it has more than `max_bytes`."""
    content = bytearray()
    async for chunk in response.aiter_stream():
        content += chunk
        if len(content) > max_bytes:
            break
    return bytes(content)


def _as_text(headers: Headers) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
