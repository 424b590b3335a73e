"""Calls to hosts that users name: images by URI, webhooks; the one door to outgoing HTTP.

    url ─▶ Guard: scheme, port, spelling ─▶ its turn at the host ─▶ GuardedNetwork: resolve, check
        every address, connect to a checked one ─▶ read, bounded ─▶ a redirect begins anew

Each call has one deadline for all of that, reads at most so many bytes, follows few redirects and
sends no credentials.  Whatever is refused, unknown or silent is told in one and the same words:
what we can reach is nobody's business.  The reason is in the log.
"""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import certifi
import httpcore

from image_categorizer_server.clock import Backoff
from image_categorizer_server.egress.guard import Guard, Refused, Target
from image_categorizer_server.egress.network import (
    Budget,
    GuardedNetwork,
    Headers,
    Turns,
    budget,
    image_of,
    read,
    readable,
)
from image_categorizer_server.errors import (
    DependencyDown,
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
TRANSIENT = {429, 500, 502, 503, 504}
FIRST_RETRY_DELAY_S, MAX_RETRY_DELAY_S = 0.2, 60.0
MOST_HEADER_BYTES = 128 * 1024
MOST_ANSWER_BYTES = 64 * 1024
HEADERS: Headers = [
    (b"Accept", b"image/*, application/octet-stream;q=0.9, */*;q=0.1"),
    (b"Accept-Encoding", b"identity"),
]
AGENT = (b"User-Agent", f"image-categorizer/{VERSION}".encode())
ReadObject = Callable[[str, int], Awaitable[bytes]]
"""Reads the object that an s3, gs or az URI names, at most so many bytes."""


Begin = Callable[[], None]
"""Called when a call has its turn."""


class Unreachable(Exception):
    """Expected: no answer that is worth anything; the text is for the log.

    `is_transient` tells that the same call may succeed later; a refusal never does.
    """

    def __init__(self, text: str, is_transient: bool = False) -> None:
        super().__init__(text)
        self.is_transient = is_transient


class NoTurn(Exception):
    """Expected: other calls to the host took too long; this one was not made."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a host answered to a `post`."""

    status: int
    headers: dict[str, str]
    """Names in lower case; of those that come twice the last."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent to a host, and how much of its answer is read at most."""

    method: str
    target: Target
    headers: Headers
    most_bytes: int
    body: bytes = b""


class Fetcher:
    """Calls URLs that others name, within limits."""

    def __init__(
        self,
        settings: FetchSettings,
        pool: httpcore.AsyncConnectionPool,
        network: GuardedNetwork,
        read_object: ReadObject,
    ) -> None:
        """Wraps a pool whose connections the network opens; whoever made it closes it."""
        self._settings = settings
        self._pool = pool
        self._network = network
        self._read_object = read_object
        self._guard = Guard(settings)
        self._turns = Turns(settings.max_per_host)

    async def check(self, url: str) -> None:
        """Passes a URL that may be called, as far as can be seen without calling it.

        Raises:
            Unreachable: its spelling, port or one of its addresses is refused, or its
                name is not known.
        """
        with translated():
            async with asyncio.timeout(self._settings.resolve_timeout_s):
                await self._network.permitted(self._guard.parse(url).host)

    async def fetch(self, uri: str, max_bytes: int) -> bytes:
        """Returns the image that an https, s3, gs or az URI names.

        Tries again, within the one deadline, where the host may yet answer.

        Raises:
            ImageUnreachable: refused, unknown, silent, not in time, not found.
            ImageTooLarge: more than `max_bytes`.
            DependencyDown: nobody asked the host: calls before took too long; or the
                cloud that an s3, gs or az URI names does not answer.
        """
        try:
            with translated():
                async with self._deadline(self._settings.timeout_s) as begin:
                    if uri.lower().startswith(OBJECT_SCHEMES):
                        begin()
                        return await self._read_object(uri, max_bytes)
                    return await self._get_patiently(uri, max_bytes, begin)
        except Unreachable as error:
            log.info("fetch failed", uri=loggable(uri), why=str(error))
            raise ImageUnreachable(UNREACHABLE) from error
        except NoTurn as error:
            raise DependencyDown("the image's host has too much to do") from error

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> Answer:
        """Sends a body once, and returns status and headers of the answer; follows no redirects.

        Not idempotent: after `Unreachable` the host may have had it all the same.

        Raises:
            Unreachable: refused, or no answer within `timeout_s` seconds of its turn.
            NoTurn: nothing was sent.
        """
        with translated():
            async with self._deadline(timeout_s) as begin:
                target = self._guard.parse(url)
                sent = [(name.encode("ascii"), text.encode()) for name, text in headers.items()]
                request = Request("POST", target, sent, MOST_ANSWER_BYTES, body)
                async with self._call(request, begin) as response:
                    await read(response, MOST_ANSWER_BYTES)
                    return Answer(response.status, readable(response.headers))

    @asynccontextmanager
    async def _deadline(self, timeout_s: float) -> AsyncIterator[Begin]:
        """Gives a call `max_wait_s` for its turn, and `timeout_s` from then on.

        Raises:
            NoTurn, TimeoutError: before it began, and afterwards.
        """
        has_begun = False
        try:
            async with asyncio.timeout(self._settings.max_wait_s) as clock:

                def begin() -> None:
                    nonlocal has_begun
                    if not has_begun:
                        has_begun = True
                        clock.reschedule(asyncio.get_running_loop().time() + timeout_s)

                yield begin
        except TimeoutError:
            if has_begun:
                raise
            raise NoTurn from None

    async def _get_patiently(self, url: str, max_bytes: int, begin: Begin) -> bytes:
        backoff = Backoff(FIRST_RETRY_DELAY_S, MAX_RETRY_DELAY_S)
        for _ in range(self._settings.max_retries):
            try:
                with translated():
                    return await self._get(url, max_bytes, begin)
            except Unreachable as error:
                if not error.is_transient:
                    raise
            await asyncio.sleep(backoff.next_s())
        return await self._get(url, max_bytes, begin)

    async def _get(self, url: str, max_bytes: int, begin: Begin) -> bytes:
        target = self._guard.parse(url)
        for _ in range(self._settings.max_redirects + 1):
            request = Request("GET", target, HEADERS, max_bytes)
            async with self._call(request, begin) as response:
                if response.status == 200:
                    return await image_of(response, max_bytes)
                if response.status not in REDIRECTS:
                    raise Unreachable(
                        f"the host answers {response.status}", response.status in TRANSIENT
                    )
                location = readable(response.headers).get("location", "")
            target = self._guard.redirect(target, location)
        raise Refused("too many redirects")

    @asynccontextmanager
    async def _call(self, request: Request, begin: Begin) -> AsyncIterator[httpcore.Response]:
        """Yields the answer, its body not yet read; the connection is free again afterwards."""
        target = request.target
        token = budget.set(Budget(request.most_bytes + MOST_HEADER_BYTES))
        try:
            async with self._turns.turn(f"{target.host}:{target.port}"):
                begin()
                async with self._pool.stream(
                    request.method,
                    httpcore.URL(
                        scheme=target.scheme.encode(),
                        host=target.host.encode(),
                        port=target.port,
                        target=target.path.encode(),
                    ),
                    headers=[(b"Host", target.authority.encode()), AGENT, *request.headers],
                    content=request.body or None,
                    extensions={"timeout": {"connect": self._settings.connect_timeout_s}},
                ) as response:
                    yield response
        finally:
            budget.reset(token)


@asynccontextmanager
async def open_fetcher(settings: FetchSettings, read_object: ReadObject) -> AsyncIterator[Fetcher]:
    """Yields a fetcher; connects on first use.

    Args:
        settings: of what may be called.
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
    async with httpcore.AsyncConnectionPool(
        ssl_context=trusted,
        max_connections=settings.max_connections,
        keepalive_expiry=settings.keep_alive_s,
        network_backend=network,
    ) as pool:
        yield Fetcher(settings, pool, network, read_object)


@contextmanager
def translated() -> Iterator[None]:
    """Turns what can go wrong on the way into `Unreachable`."""
    try:
        yield
    except Refused as error:
        raise Unreachable(str(error)) from error
    except (httpcore.NetworkError, httpcore.RemoteProtocolError, TimeoutError) as error:
        raise Unreachable(str(error) or "not in time", is_transient=True) from error
    except httpcore.TimeoutException as error:
        raise Unreachable("no connection in time", is_transient=True) from error
    except (httpcore.ProtocolError, OSError) as error:
        raise Unreachable(str(error)) from error


def loggable(uri: str) -> str:
    """Returns a URI without what may be secret in it: user info, and signatures in the query."""
    return re.sub(r"//[^/@]*@", "//", uri.partition("?")[0])[:200]
