"""The page at `/`."""

import base64
import hashlib

from image_categorizer_server.local.gateway import gateway_folder
from image_categorizer_server.local.home_page import content_security_policy, home_page
from image_categorizer_server.settings import Settings

ISSUER = {
    "name": "test",
    "issuer": "https://id.example",
    "audiences": ["photos"],
    "roles": {"all": "viewer"},
    "tenant": "default",
}


def test_signing_in_is_offered_where_people_can():
    assert "/auth/login" not in home_page(gateway_folder(), Settings())
    settings = Settings(
        token={"issuers": [ISSUER]},
        sign_in={"issuer": "test", "client_id": "c", "public_url": "https://photos.example"},
    )
    assert "/auth/login" in home_page(gateway_folder(), settings)


def test_how_there_can_be_a_dashboard_is_said_where_there_should_be_one():
    assert "make dashboard" in home_page(gateway_folder(), Settings())
    hidden = Settings(gateway={"dashboard": False})
    assert "dashboard" not in home_page(gateway_folder(), hidden)
    assert "@" not in home_page(gateway_folder(), hidden).partition("</style>")[2]


def test_the_policy_permits_each_style_sheet_of_the_page_and_no_other():
    policy = content_security_policy("<style>a</style> <style>b\n</style>")
    for text in ("a", "b\n"):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert policy.count("sha256-") == 2
    assert "script" not in policy
