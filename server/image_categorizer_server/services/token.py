"""Access tokens: connects their verifier to the issuers that the settings name."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from image_categorizer_server.access.claims import ClaimMapping
from image_categorizer_server.access.jwks import DocumentUnavailable, IssuerKeys
from image_categorizer_server.access.token import Issuer, TokenVerifier
from image_categorizer_server.egress.fetcher import HostBusy, Unreachable, open_fetcher
from image_categorizer_server.settings import Settings
from image_categorizer_server.settings.fetch import FetchSettings
from image_categorizer_server.tasks import TaskOwner


@asynccontextmanager
async def open_tokens(settings: Settings) -> AsyncIterator[TokenVerifier | None]:
    """Yields a verifier that knows no key yet; None if the settings name no issuer.

    Raises:
        OperatorError: a role or a scope in the settings does not exist.
    """
    tokens = settings.token
    if not tokens.issuers:
        yield None
        return
    async with open_fetcher(_rules_for_issuers(settings), _no_object) as fetcher:

        async def fetch(url: str, max_bytes: int) -> bytes:
            try:
                return await fetcher.get(url, max_bytes, tokens.timeout_s)
            except (Unreachable, HostBusy) as error:
                raise DocumentUnavailable(f"{url}: {error}") from error

        issuers = {
            issuer.issuer: Issuer(issuer, IssuerKeys(issuer, tokens, fetch), ClaimMapping(issuer))
            for issuer in tokens.issuers
        }
        yield TokenVerifier(tokens, issuers)


def watch_issuers(tokens: TokenVerifier | None, tasks: TaskOwner) -> None:
    """Starts to read the keys of each issuer, for as long as the owner of the tasks runs."""
    for issuer in tokens.issuers if tokens else ():
        tasks.start(issuer.keys.watch(), f"reader of the keys of {issuer.settings.name}")


def _rules_for_issuers(settings: Settings) -> FetchSettings:
    """Returns what may be called: not what users may have called, but what the operator names."""
    tokens = settings.token
    urls = [url for issuer in tokens.issuers for url in issuer.urls]
    ports = {urlsplit(url).port for url in urls} - {None}
    return FetchSettings(
        allow_http=tokens.allow_http,
        allowed_ports=tuple(sorted(port for port in ports if port)),
        allowed_networks=tokens.allowed_networks,
        resolver=settings.fetch.resolver,
        ca_file=settings.fetch.ca_file,
        max_wait_s=tokens.timeout_s,
        connect_timeout_s=min(tokens.timeout_s, settings.fetch.connect_timeout_s),
    )


async def _no_object(uri: str, max_bytes: int) -> bytes:  # noqa: ARG001 - the fetcher's signature
    raise Unreachable("issuers are not in buckets")
