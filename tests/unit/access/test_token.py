"""Access tokens: the bad ones are refused alike, the good one is accepted (figure A3)."""

import logging
from contextlib import asynccontextmanager, contextmanager

import pytest
from image_categorizer_server import clock
from image_categorizer_server.access.authenticator import Authenticator
from image_categorizer_server.access.claims import ClaimMapping
from image_categorizer_server.access.jwks import IssuerKeys
from image_categorizer_server.access.jws import TokenRefused
from image_categorizer_server.access.tenant_gate import TenantGate
from image_categorizer_server.access.token import Issuer, TokenVerifier
from image_categorizer_server.domain.access import Principal, Role
from image_categorizer_server.domain.tenant import TenantState
from image_categorizer_server.errors import CredentialsInvalid, DependencyDown, TenantSuspended
from image_categorizer_server.settings.token import TokenSettings
from image_categorizer_server.tasks import TaskOwner

from tests.support.bad_tokens import BAD, bad_tokens
from tests.support.issuer import (
    AUDIENCE,
    ISSUER,
    Published,
    claims,
    header,
    issuer_settings,
    new_key,
    signed,
)
from tests.support.keys import Rows, verifier_of
from tests.support.polling import eventually

ADA = Principal("main:ada", "default", Role.CLASSIFIER)


@contextmanager
def later(seconds):
    clock.shift(seconds)
    try:
        yield
    finally:
        clock.shift(0)


@asynccontextmanager
async def verifier(published, settings=None, **issuer):
    """Yields a verifier as the server has it."""
    settings, one = settings or TokenSettings(), issuer_settings(**issuer)
    keys = IssuerKeys(one, settings, published.fetch)
    async with TaskOwner() as tasks:
        tasks.start(keys.watch(), "reader")
        yield TokenVerifier(settings, {one.issuer: Issuer(one, keys, ClaimMapping(one))})


async def test_the_good_token_is_accepted():
    published = Published()
    async with verifier(published) as tokens:
        assert await tokens.verify(published.token()) == ADA


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_token_is_refused_without_a_reason_and_the_log_has_it(name, caplog):
    published = Published()
    async with verifier(published) as tokens:
        assert await tokens.verify(published.token()) == ADA
        caplog.clear()
        bad = BAD[name](published.keys[0])
        with (
            caplog.at_level(logging.INFO),
            pytest.raises(CredentialsInvalid, match="^the access token is not valid$"),
        ):
            await tokens.verify(bad)
        lines = [record for record in caplog.records if "refused" in record.getMessage()]
        assert len(lines) == 1
        assert len(lines[0].getMessage()) < 600
        signature = bad.rpartition(".")[2]
        assert len(signature) < 20 or signature not in lines[0].getMessage()


async def test_a_bad_token_is_refused_for_what_is_wrong_with_it():
    """A token of the list must not be refused for something that all of them have."""
    published = Published()
    reasons = {}
    async with verifier(published) as tokens:
        for name, token in bad_tokens(published.keys[0]):
            with pytest.raises(TokenRefused) as caught:
                await tokens.explain(token, str)
            reasons[name] = str(caught.value)
    assert len(reasons) >= 60
    for start, words in (
        ("alg HS", "not permitted"),
        ("kid unknown", "0 keys"),
        ("jwk", "'jwk'"),
        ("typ", "type"),
        ("ID token", "type"),
        ("iss", "issuer"),
        ("exp past", "expired"),
        ("exp in ten years", "between 0 and"),
        ("nbf future", "not yet valid"),
        ("iat future", "future"),
        ("signature", "signature"),
        ("aud a list with others", "also for 'another'"),
        ("bound", "bound"),
        ("no role", "mapped to a role"),
        ("100 KB", "more than"),
        ("sub twice", "two members"),
    ):
        matching = {name: reason for name, reason in reasons.items() if name.startswith(start)}
        assert matching, start
        signature = {"signature empty"}
        for name, reason in matching.items():
            assert words in reason or name in signature, (name, reason)


async def test_clocks_may_differ_by_the_leeway_and_no_more():
    published = Published()
    async with verifier(published) as tokens:
        now = int(clock.now().timestamp())
        for good in (
            {"iat": now - 300, "exp": now - 28},
            {"nbf": now + 28},
            {"iat": now + 28, "exp": now + 300},
        ):
            assert await tokens.verify(published.token(**good)) == ADA
        for bad in (
            {"iat": now - 300, "exp": now - 31},
            {"nbf": now + 33},
            {"iat": now + 33, "exp": now + 300},
        ):
            with pytest.raises(CredentialsInvalid):
                await tokens.verify(published.token(**bad))
    assert TokenSettings.model_fields["leeway_s"].metadata[1].le == 60


async def test_a_token_in_the_cache_ends_when_it_expires():
    published = Published()
    async with verifier(published) as tokens:
        token = published.token()
        assert await tokens.verify(token) == ADA
        with later(325):
            assert await tokens.verify(token) == ADA
        with later(331), pytest.raises(CredentialsInvalid):
            await tokens.verify(token)


async def test_a_token_in_the_cache_ends_with_its_key():
    published = Published([new_key("a"), new_key("b")])
    async with verifier(published) as tokens:
        token, issuer = published.token(), next(iter(tokens.issuers))
        assert await tokens.verify(token) == ADA
        del published.keys[0]
        with later(150):
            await issuer.keys.find("b", "ES256")
            await eventually(lambda: issuer.keys.generation == 2, 5)
            with pytest.raises(CredentialsInvalid):
                await tokens.verify(token)


async def test_keys_rotate_without_a_refusal():
    published = Published()
    async with verifier(published) as tokens:
        old = published.token()
        assert await tokens.verify(old) == ADA
        published.keys.insert(0, new_key("k2"))
        with later(30):
            assert await tokens.verify(published.token()) == ADA
            assert await tokens.verify(old) == ADA


async def test_without_keys_nothing_is_accepted_and_nobody_is_told_the_token_is_wrong():
    published = Published(is_down=True)
    async with verifier(published) as tokens:
        with pytest.raises(DependencyDown):
            await tokens.verify(published.token())


async def test_other_types_are_admitted_by_a_setting_but_never_id_tokens():
    published = Published()

    def typed(kind, **changes):
        return signed(header(typ=kind), claims(**changes), published.keys[0], "ES256")

    async with verifier(published, types=["at+jwt", "JWT"]) as tokens:
        assert await tokens.verify(typed("at+jwt")) == ADA
        assert await tokens.verify(typed("JWT")) == ADA
        keycloak = {"client_id": None, "azp": "app", "scope": "openid", "typ": "Bearer"}
        assert await tokens.verify(typed("JWT", **keycloak)) == ADA
        for id_token in (
            {"nonce": "n"},
            {"at_hash": "x"},
            {"c_hash": "x"},
            {"typ": "ID"},
            {"token_use": "id"},
            {"client_id": None},
            {"client_id": None, "azp": "app"},
        ):
            with pytest.raises(TokenRefused, match="ID token"):
                await tokens.explain(typed("JWT", **id_token), str)
        for other in ("logout+jwt", "secevent+jwt", None):
            with pytest.raises(TokenRefused, match="type"):
                await tokens.explain(typed(other), str)
    async with verifier(published, types=["JWT"], access_claims=["azp"]) as tokens:
        assert await tokens.verify(typed("JWT", client_id=None, azp="1")) == ADA


async def test_further_audiences_are_admitted_by_a_setting():
    published = Published()
    async with verifier(published, other_audiences=["account"]) as tokens:
        assert await tokens.verify(published.token(aud=[AUDIENCE, "account"])) == ADA
        for audience in ("account", ["account"], [AUDIENCE, "account", "x"]):
            with pytest.raises(CredentialsInvalid):
                await tokens.verify(published.token(aud=audience))


async def test_a_tenant_is_checked_at_every_call_also_of_tokens_in_the_cache():
    published, states = Published(), {"acme": TenantState.ACTIVE}

    async def state_of(tenant_id):
        return states.get(tenant_id)

    async with verifier(published, tenant_claim="org") as tokens:
        authenticator = Authenticator(verifier_of(Rows()), TenantGate(state_of, 0), tokens)
        header = f"Bearer {published.token(org='acme')}"
        assert (await authenticator.authenticate(header, "")).tenant_id == "acme"
        states["acme"] = TenantState.SUSPENDED
        with pytest.raises(TenantSuspended):
            await authenticator.authenticate(header, "")
        del states["acme"]
        with pytest.raises(CredentialsInvalid, match="^the access token is not valid$"):
            await authenticator.authenticate(header, "")


async def test_each_check_that_a_token_passes_is_explained():
    published, notes = Published(), []
    async with verifier(published) as tokens:
        assert await tokens.explain(published.token(), notes.append) == ADA
    text = "\n".join(notes)
    for words in (ISSUER, "at+jwt", "ES256", "s more", "main:ada", "default", "classifier"):
        assert words in text


async def test_a_text_that_is_no_unicode_is_refused():
    async with verifier(Published()) as tokens:
        with pytest.raises(CredentialsInvalid):
            await tokens.verify("a.b.\ud800")
