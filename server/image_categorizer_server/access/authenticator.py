"""Authenticates callers by the `authorization` header."""

from image_categorizer_server.access.api_key import PREFIX
from image_categorizer_server.access.key_verifier import KeyVerifier
from image_categorizer_server.access.tenant_gate import TenantGate
from image_categorizer_server.domain.access import Principal
from image_categorizer_server.domain.tenant import all_tenants
from image_categorizer_server.errors import CredentialsInvalid, CredentialsMissing

HELP = "send the header 'authorization: Bearer ic_...'"


class Authenticator:
    """Authenticates callers by what kind of credentials they send."""

    def __init__(self, keys: KeyVerifier, tenants: TenantGate) -> None:
        self._keys = keys
        self._tenants = tenants

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
            principal = await self._identify(header, address)
            await self._tenants.check(principal.tenant_id)
        return principal

    async def _identify(self, header: str | None, address: str) -> Principal:
        if not header:
            raise CredentialsMissing(f"no credentials: {HELP}")
        scheme, _, credentials = header.partition(" ")
        credentials = credentials.strip()
        if scheme.lower() == "bearer" and credentials.startswith(PREFIX):
            return await self._keys.verify(credentials, address)
        raise CredentialsInvalid(f"the credentials are not an API key: {HELP}")
