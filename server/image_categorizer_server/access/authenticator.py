"""Authenticates callers by the `authorization` header."""

from image_categorizer_server.access.api_key import PREFIX
from image_categorizer_server.access.key_verifier import REFUSAL as KEY_REFUSAL
from image_categorizer_server.access.key_verifier import KeyVerifier
from image_categorizer_server.access.tenant_gate import TenantGate
from image_categorizer_server.access.token import REFUSAL as TOKEN_REFUSAL
from image_categorizer_server.access.token import TokenVerifier
from image_categorizer_server.domain.access import Principal
from image_categorizer_server.domain.tenant import all_tenants
from image_categorizer_server.errors import CredentialsInvalid, CredentialsMissing

HELP = "send the header 'authorization: Bearer ic_...'"
TOKEN_HELP = f"{HELP}, or an access token of your identity provider in its place"


class Authenticator:
    """Authenticates callers by what kind of credentials they send."""

    def __init__(
        self, keys: KeyVerifier, tenants: TenantGate, tokens: TokenVerifier | None = None
    ) -> None:
        """Configures the authenticator.

        Args:
            keys: verifies API keys.
            tenants: says whether the tenant of a caller is active.
            tokens: verifies access tokens. None: they are not accepted.
        """
        self._keys = keys
        self._tenants = tenants
        self._tokens = tokens
        self._help = TOKEN_HELP if tokens else HELP

    async def authenticate(self, header: str | None, address: str) -> Principal:
        """Returns the caller, whose tenant is active.

        Args:
            header: the value of the header `authorization`.
            address: the IP address of the caller; empty if it calls over a unix socket.

        Raises:
            CredentialsMissing: there is no header.
            CredentialsInvalid: the credentials are malformed, unknown, revoked or expired.
            TenantSuspended: the credentials are valid, but their tenant is suspended.
            AddressNotAllowed: the credentials are not accepted from this address.
            DependencyDown: what the credentials are checked against does not answer.
        """
        with all_tenants():  # whose credentials they are is not known yet
            principal, refusal = await self._identify(header, address)
            await self._tenants.check(principal.tenant_id, refusal)
        return principal

    async def _identify(self, header: str | None, address: str) -> tuple[Principal, str]:
        """Returns the caller, and the text that refuses credentials of this kind."""
        if not header:
            raise CredentialsMissing(f"no credentials: {self._help}")
        scheme, _, credentials = header.partition(" ")
        credentials = credentials.strip()
        if scheme.lower() == "bearer" and credentials.startswith(PREFIX):
            return await self._keys.verify(credentials, address), KEY_REFUSAL
        if self._tokens is None:
            raise CredentialsInvalid(f"the credentials are not an API key: {self._help}")
        if scheme.lower() == "bearer" and "." in credentials:
            return await self._tokens.verify(credentials), TOKEN_REFUSAL
        raise CredentialsInvalid(
            f"the credentials are neither an API key nor an access token: {self._help}"
        )
