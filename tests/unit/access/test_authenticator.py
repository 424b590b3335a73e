"""Credentials become principals."""

import pytest
from image_categorizer_server.access.api_key import new_key, sha256_of
from image_categorizer_server.access.authenticator import Authenticator
from image_categorizer_server.domain.access import Principal, Role
from image_categorizer_server.errors import CredentialsInvalid, CredentialsMissing

from tests.support.keys import Rows, key_of, verifier_of

ADDRESS = "192.0.2.1"


async def test_a_key_is_the_caller_it_belongs_to():
    key = new_key()
    authenticator = Authenticator(verifier_of(Rows((sha256_of(key), key_of()))))
    for header in (f"Bearer {key}", f"bearer  {key} "):
        assert await authenticator.authenticate(header, ADDRESS) == Principal(
            "k1", "default", Role.CLASSIFIER
        )


@pytest.mark.parametrize("header", [None, ""])
async def test_no_header_is_missing_credentials(header):
    with pytest.raises(CredentialsMissing, match="Bearer"):
        await Authenticator(verifier_of(Rows())).authenticate(header, ADDRESS)


@pytest.mark.parametrize(
    "header", ["ic_x", "Basic dTpw", "Bearer", "Bearer ic_wrong", "Bearer ic_" + "a" * 49]
)
async def test_a_malformed_key_never_reaches_the_database(header):
    rows = Rows()
    with pytest.raises(CredentialsInvalid):
        await Authenticator(verifier_of(rows)).authenticate(header, ADDRESS)
    assert rows.queries == 0
