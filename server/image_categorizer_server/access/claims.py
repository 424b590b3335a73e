"""What the claims of a verified token mean here: tenant, role, scopes, and who it is."""

import re
from collections.abc import Callable, Collection, Iterable

from image_categorizer_server.access.jws import Object, TokenRefused
from image_categorizer_server.domain.access import DEFAULT_TENANT, Principal, Role, Scope
from image_categorizer_server.domain.tenant import TENANT_ID
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.quoting import quoted
from image_categorizer_server.settings.token import IssuerSettings

# OpenID Connect limits it to 255 characters of ASCII.
SUBJECT = re.compile(r"[!-~](?:[ -~]{0,253}[!-~])?")
SPACE_SEPARATED = frozenset({"scope", "scp"})
SETTING = "CATEGORIZER_TOKEN__ISSUERS"
Note = Callable[[str], None]
"""Takes a sentence about a step that passed."""


def ignore(sentence: str) -> None:
    """Takes a sentence that nobody wants to read."""


class ClaimMapping:
    """Maps the claims of one issuer, as its settings say."""

    def __init__(self, issuer: IssuerSettings, admins: Collection[str] = ()) -> None:
        """Checks the names of roles and scopes.

        Args:
            issuer: says what its claims mean.
            admins: people who are admins at least: their `sub`, or their verified address.

        Raises:
            OperatorError: names one that does not exist.
        """
        self._issuer = issuer
        self._admins = frozenset(admins)
        self._roles = {value: _role(name) for value, name in issuer.roles.items()}
        own = {scope.value: scope.value for scope in Scope}
        self._scopes = {k: _scope(name) for k, name in (issuer.scopes or own).items()}

    def principal(self, claims: Object, note: Note = ignore) -> Principal:
        """Returns the caller that a token stands for.

        Args:
            claims: of a token that is verified.
            note: is given what the claims mean.

        Raises:
            TokenRefused: the token has no tenant, no role, no scope or no usable subject.
        """
        subject = claims.get("sub")
        if not isinstance(subject, str) or not SUBJECT.fullmatch(subject):
            raise TokenRefused("'sub' is not 1 to 255 printable characters of ASCII")
        actor_id = f"{self._issuer.name}:{subject}"
        note(f"The caller is {actor_id}.")
        tenant_id = self._tenant(claims)
        note(f"The tenant is {tenant_id}.")
        role = self._role(claims)
        note(f"The role is {role.name.lower()}.")
        scopes = self._scopes_of(claims)
        names = ", ".join(sorted(scope.value for scope in scopes))
        note(f"The scopes are {names}." if scopes else "No scopes limit it.")
        return Principal(actor_id, tenant_id, role, scopes)

    def _tenant(self, claims: Object) -> str:
        path = self._issuer.tenant_claim
        if not path:
            return self._issuer.tenant or DEFAULT_TENANT
        value = _at(claims, path)
        if not isinstance(value, str) or not TENANT_ID.fullmatch(value):
            raise TokenRefused(f"{_named(path)} is not the name of a tenant")
        return value

    def _role(self, claims: Object) -> Role:
        path = self._issuer.role_claim
        is_verified = claims.get("email_verified") is True
        if path == ("email",) and not is_verified:
            raise TokenRefused("the role depends on 'email', which is not verified")
        values = _values(claims, path)
        roles = [role for value, role in self._roles.items() if value in values]
        names = {claims["sub"]} | (_values(claims, ("email",)) if is_verified else set())
        if names & self._admins:
            roles.append(Role.ADMIN)
        if not roles:
            raise TokenRefused(f"no value of {_named(path)} is mapped to a role")
        return max(roles)

    def _scopes_of(self, claims: Object) -> frozenset[Scope]:
        path = self._issuer.scope_claim
        if not path:
            return frozenset()
        values = _values(claims, path)
        scopes = frozenset(scope for value, scope in self._scopes.items() if value in values)
        if not scopes:  # a principal without scopes is not limited to any
            raise TokenRefused(f"no value of {_named(path)} is a scope of this server")
        return scopes


def _at(claims: Object, path: Iterable[str]) -> object:
    value: object = claims
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _values(claims: Object, path: tuple[str, ...]) -> set[str]:
    """Returns the values of a claim: a text, several with blanks between them, or a list."""
    value = _at(claims, path)
    if isinstance(value, str):
        return set(value.split(" ")) if path[-1] in SPACE_SEPARATED else {value}
    if isinstance(value, list):
        return {item for item in value if isinstance(item, str)}
    return set()


def _named(path: tuple[str, ...]) -> str:
    return f"the claim {quoted('.'.join(path))}"


def _role(name: str) -> Role:
    names = [role.name.lower() for role in Role]
    if name not in names:
        raise OperatorError(f"{SETTING}: {quoted(name)} is not a role: {', '.join(names)}.")
    return Role[name.upper()]


def _scope(name: str) -> Scope:
    names = [scope.value for scope in Scope]
    if name not in names:
        raise OperatorError(f"{SETTING}: {quoted(name)} is not a scope: {', '.join(names)}.")
    return Scope(name)
