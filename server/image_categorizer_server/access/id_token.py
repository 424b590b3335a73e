"""Verifies ID tokens, by which an identity provider states who has just signed in.

They never serve as access tokens: this is called with the token that the provider itself has handed
over, for the nonce of this sign-in.
"""

import hmac

from image_categorizer_server.access.claims import ClaimMapping
from image_categorizer_server.access.jws import TokenRefused, parse, verify_signature
from image_categorizer_server.access.token import Issuer, check_claims
from image_categorizer_server.domain.access import Principal
from image_categorizer_server.settings.token import TokenSettings

TYPES = frozenset({"", "jwt"})


class IdTokenVerifier:
    """Verifies the ID tokens of one issuer for one client."""

    def __init__(
        self, settings: TokenSettings, issuer: Issuer, mapping: ClaimMapping, client_id: str
    ) -> None:
        """Configures the verifier.

        Args:
            settings: limits.
            issuer: whose tokens.
            mapping: says what the claims mean.
            client_id: whom the tokens must be for.
        """
        self._settings = settings
        self._issuer = issuer
        self._mapping = mapping
        self._client_id = client_id

    async def verify(self, text: str, nonce: str) -> Principal:
        """Returns who has signed in.

        Raises:
            TokenRefused: the token is not of this sign-in, or not accepted.
            DependencyDown: the keys of the issuer cannot be read.
        """
        issuer = self._issuer.settings
        token = parse(text, self._settings.max_bytes)
        if token.type not in TYPES or token.algorithm not in issuer.algorithms:
            raise TokenRefused("the type or the algorithm of the ID token is not permitted")
        key = await self._issuer.keys.find(token.key_id, token.algorithm)
        verify_signature(token, key)
        only = issuer.model_copy(update={"audiences": (self._client_id,), "other_audiences": ()})
        check_claims(token.claims, only, self._settings)
        if token.claims.get("azp", self._client_id) != self._client_id:
            raise TokenRefused("the ID token is for another client")
        said = token.claims.get("nonce")
        if not isinstance(said, str) or not hmac.compare_digest(said.encode(), nonce.encode()):
            raise TokenRefused("the ID token is of another sign-in")
        return self._mapping.principal(token.claims)
