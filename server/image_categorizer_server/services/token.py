"""Access tokens: connects their verifier to the issuers that the settings name."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from image_categorizer_server.access.claims import ClaimMapping
from image_categorizer_server.access.id_token import IdTokenVerifier
from image_categorizer_server.access.jwks import DocumentUnavailable, IssuerKeys
from image_categorizer_server.access.session import SessionVerifier
from image_categorizer_server.access.tenant_gate import TenantGate
from image_categorizer_server.access.token import Issuer, TokenVerifier
from image_categorizer_server.db.session import find_session, touch_session
from image_categorizer_server.egress.fetcher import Fetcher, HostBusy, Unreachable, open_fetcher
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.quoting import quoted
from image_categorizer_server.services.sign_in import Provider, SignIns
from image_categorizer_server.settings import Settings
from image_categorizer_server.settings.fetch import FetchSettings
from image_categorizer_server.tasks import TaskOwner


@dataclass(frozen=True, slots=True)
class Tokens:
    """Verifies access tokens, and reads the issuers' documents."""

    verifier: TokenVerifier
    documents: "Documents"


class Documents:
    """What issuers publish, and what they answer."""

    def __init__(self, fetcher: Fetcher, timeout_s: float) -> None:
        self._fetcher = fetcher
        self._timeout_s = timeout_s

    async def fetch(self, url: str, max_bytes: int) -> bytes:
        """Returns the document at a URL.

        Raises:
            DocumentUnavailable: there is none of at most `max_bytes`.
        """
        try:
            return await self._fetcher.get(url, max_bytes, self._timeout_s)
        except (Unreachable, HostBusy) as error:
            raise DocumentUnavailable(f"{url}: {error}") from error

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> bytes:
        """Returns the answer to a form, which is sent once.

        Raises:
            DocumentUnavailable: the answer has another status than 200, or there is none.
        """
        try:
            answer = await self._fetcher.post(url, headers, body, self._timeout_s)
        except (Unreachable, HostBusy) as error:
            raise DocumentUnavailable(f"{url}: {error}") from error
        if answer.status != 200:
            raise DocumentUnavailable(f"{url}: the host answers {answer.status}")
        return answer.body


@asynccontextmanager
async def open_tokens(settings: Settings) -> AsyncIterator[Tokens | None]:
    """Yields a verifier that knows no key yet; None if the settings name no issuer.

    Raises:
        OperatorError: a role or a scope in the settings does not exist.
    """
    tokens = settings.token
    if not tokens.issuers:
        yield None
        return
    async with open_fetcher(_rules_for_issuers(settings), _no_object) as fetcher:
        documents = Documents(fetcher, tokens.timeout_s)
        issuers = {
            one.issuer: Issuer(one, IssuerKeys(one, tokens, documents.fetch), ClaimMapping(one))
            for one in tokens.issuers
        }
        yield Tokens(TokenVerifier(tokens, issuers), documents)


def sign_ins_of(settings: Settings, tokens: Tokens | None, tenants: TenantGate) -> SignIns:
    """Returns what signs people in, by the settings.

    Raises:
        OperatorError: the settings name an issuer that is not configured.
    """
    own = settings.sign_in
    sessions = SessionVerifier(
        find_session, touch_session, own.idle_s, settings.security.key_cache_s
    )
    if not own.issuer:
        return SignIns(own, None, sessions, tenants)
    known = {one.settings.name: one for one in tokens.verifier.issuers} if tokens else {}
    issuer = known.get(own.issuer)
    if tokens is None or issuer is None:
        raise OperatorError(
            f"CATEGORIZER_SIGN_IN__ISSUER: {quoted(own.issuer)} is not the name of an issuer in "
            "CATEGORIZER_TOKEN__ISSUERS."
        )
    # What a person may do here is not limited to what a program was once granted.
    unlimited = issuer.settings.model_copy(update={"scope_claim": (), "scopes": {}})
    id_tokens = IdTokenVerifier(
        settings.token, issuer, ClaimMapping(unlimited, own.admins), own.client_id
    )
    provider = Provider(
        issuer.settings.issuer, tokens.documents.fetch, tokens.documents.post, id_tokens
    )
    return SignIns(own, provider, sessions, tenants)


def watch_issuers(tokens: Tokens | None, tasks: TaskOwner) -> None:
    """Starts to read the keys of each issuer, for as long as the owner of the tasks runs."""
    for issuer in tokens.verifier.issuers if tokens else ():
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
