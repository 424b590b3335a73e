"""ID tokens: only the one of this sign-in, for this client, says who has signed in."""

import pytest
from image_categorizer_server.access.claims import ClaimMapping
from image_categorizer_server.access.id_token import IdTokenVerifier
from image_categorizer_server.access.jwks import IssuerKeys
from image_categorizer_server.access.jws import TokenRefused
from image_categorizer_server.access.token import Issuer
from image_categorizer_server.domain.access import Principal, Role
from image_categorizer_server.settings.token import TokenSettings

from tests.support.bad_tokens import BAD
from tests.support.issuer import (
    AUDIENCE,
    Published,
    claims,
    header,
    issuer_settings,
    new_key,
    signed,
)

CLIENT = "photos"
NONCE = "n" * 43


def id_token(key, head=None, **changes):
    given = {"aud": CLIENT, "nonce": NONCE, "client_id": None} | changes
    return signed(head or header(typ="JWT"), claims(**given), key, "ES256")


async def verify(published, token, nonce=NONCE, admins=()):
    settings, one = TokenSettings(), issuer_settings()
    keys = IssuerKeys(one, settings, published.fetch)
    await keys.refresh()
    mapping = ClaimMapping(one, admins)
    issuer = Issuer(one, keys, mapping)
    return await IdTokenVerifier(settings, issuer, mapping, CLIENT).verify(token, nonce)


async def test_the_token_of_this_sign_in_says_who_it_is():
    published = Published()
    ada = Principal("main:ada", "default", Role.CLASSIFIER)
    for head in (header(typ="JWT"), header(typ=None)):
        assert await verify(published, id_token(published.keys[0], head)) == ada
    assert await verify(published, id_token(published.keys[0], azp=CLIENT)) == ada


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": "m" * 43},
        {"nonce": None},
        {"nonce": 7},
        {"aud": AUDIENCE},
        {"aud": [CLIENT, "another"]},
        {"azp": "another"},
        {"iss": "https://evil.example"},
        {"exp": 1},
        {"exp": None},
        {"sub": None},
        {"roles": []},
    ],
    ids=str,
)
async def test_other_tokens_are_refused(changes):
    published = Published()
    with pytest.raises(TokenRefused):
        await verify(published, id_token(published.keys[0], **changes))


async def test_an_access_token_and_foreign_signatures_are_refused():
    published = Published()
    key = published.keys[0]
    tokens = [
        id_token(key, header(typ="at+jwt")),
        id_token(new_key()),
        id_token(key, header(typ="JWT", alg="none")),
        id_token(key, {**header(typ="JWT"), "jwk": new_key().as_dict(private=False)}),
        *(make(key) for make in BAD.values()),
    ]
    for token in tokens:
        with pytest.raises(TokenRefused):
            await verify(published, token)


async def test_named_people_are_admins_whatever_their_claims_say():
    published = Published()
    key = published.keys[0]
    for changes, admins, role in (
        ({"roles": []}, ["ada"], Role.ADMIN),
        ({}, ["ada"], Role.ADMIN),
        ({"email": "ada@a.example", "email_verified": True}, ["ada@a.example"], Role.ADMIN),
        ({"email": "ada@a.example", "email_verified": False}, ["ada@a.example"], Role.CLASSIFIER),
        ({"email": "ada@a.example"}, ["ada@a.example"], Role.CLASSIFIER),
        ({}, ["ad"], Role.CLASSIFIER),
    ):
        found = await verify(published, id_token(key, **changes), admins=admins)
        assert found.role is role, (changes, admins)
