"""Signed addresses are those that the documentation of each CDN computes."""

import base64
import re
import time
from textwrap import dedent

import pytest
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.settings.image import CdnSettings
from image_categorizer_server.settings.storage import StorageSettings
from image_categorizer_server.stores.buckets import open_bucket
from image_categorizer_server.stores.cdn import ContentAddresses, signer
from image_categorizer_server.stores.object_store import MemoryStorage, Storage
from pydantic import ValidationError

# Published with Amazon's example of a canned policy, and in the tests of its library boto.
CLOUDFRONT_KEY = dedent(
    """\
    -----BEGIN RSA PRIVATE KEY-----
    MIICXQIBAAKBgQDA7ki9gI/lRygIoOjV1yymgx6FYFlzJ+z1ATMaLo57nL57AavW
    hb68HYY8EA0GJU9xQdMVaHBogF3eiCWYXSUZCWM/+M5+ZcdQraRRScucmn6g4EvY
    2K4W2pxbqH8vmUikPxir41EeBPLjMOzKvbzzQy9e/zzIQVREKSp/7y1mywIDAQAB
    AoGABc7mp7XYHynuPZxChjWNJZIq+A73gm0ASDv6At7F8Vi9r0xUlQe/v0AQS3yc
    N8QlyR4XMbzMLYk3yjxFDXo4ZKQtOGzLGteCU2srANiLv26/imXA8FVidZftTAtL
    viWQZBVPTeYIA69ATUYPEq0a5u5wjGyUOij9OWyuy01mbPkCQQDluYoNpPOekQ0Z
    WrPgJ5rxc8f6zG37ZVoDBiexqtVShIF5W3xYuWhW5kYb0hliYfkq15cS7t9m95h3
    1QJf/xI/AkEA1v9l/WN1a1N3rOK4VGoCokx7kR2SyTMSbZgF9IWJNOugR/WZw7HT
    njipO3c9dy1Ms9pUKwUF46d7049ck8HwdQJARgrSKuLWXMyBH+/l1Dx/I4tXuAJI
    rlPyo+VmiOc7b5NzHptkSHEPfR9s1OK0VqjknclqCJ3Ig86OMEtEFBzjZQJBAKYz
    470hcPkaGk7tKYAgP48FvxRsnzeooptURW5E+M+PQ2W9iDPPOX9739+Xi02hGEWF
    B0IGbQoTRFdE4VVcPK0CQQCeS84lODlC0Y2BZv2JxW3Osv/WkUQ4dslfAQl1T303
    7uwwr7XTroMv8dIFQIPreoPhRKmd/SbJzbiKfS/4QDhU
    -----END RSA PRIVATE KEY-----
    """
)
CLOUDFRONT_URL = (
    "http://d604721fxaaqy9.cloudfront.net/horizon.jpg?large=yes&license=yes&Expires=1258237200"
    "&Signature=Nql641NHEUkUaXQHZINK1FZ~SYeUSoBJMxjdgqrzIdzV2gyEXPDNv0pYdWJkflDKJ3xIu7lbwRpSkG98"
    "NBlgPi4ZJpRRnVX4kXAJK6tdNx6FucDB7OVqzcxkxHsGFd8VCG1BkC-Afh9~lOCMIYHIaiOB6~5jt9w2EOwi6sIIqrg_"
    "&Key-Pair-Id=PK123456789754"
)
# Published in the tests of Google's samples for Cloud CDN.
CLOUD_CDN_KEY = "nZtRohdNF9m3cKM24IcK4w=="
CLOUD_CDN_URLS = (
    (
        "http://35.186.234.33/index.html?Expires=1549751401&KeyName=my-key"
        "&Signature=CRFqQnVfFyiUyR63OQf-HRUpIwc="
    ),
    (
        "http://www.example.com/?Expires=1549751401&KeyName=my-key"
        "&Signature=OqDUFfHpN5Vxga6r80bhsgxKves="
    ),
    (
        "http://www.example.com/some/path?some=query&another=param&Expires=1549751401&KeyName=my-key"
        "&Signature=9Q9TCxSju8-W5nUkk5CuTrun2_o="
    ),
)
LIFETIME_S = 100


def addresses(storage=None, **settings):
    return ContentAddresses(
        storage or MemoryStorage(), CdnSettings(expires_s=LIFETIME_S, **settings)
    )


def test_cloudfront_gets_the_canned_policy_of_its_documentation():
    settings = CdnSettings(
        provider="cloudfront",
        base_url="https://img.example",
        key_id="PK123456789754",
        key=CLOUDFRONT_KEY,
    )
    assert signer(settings)(CLOUDFRONT_URL.partition("&Expires")[0], 1258237200) == CLOUDFRONT_URL


@pytest.mark.parametrize("url", CLOUD_CDN_URLS)
def test_cloud_cdn_gets_the_signed_address_of_googles_samples(url):
    settings = CdnSettings(
        provider="cloud_cdn", base_url="https://img.example", key_id="my-key", key=CLOUD_CDN_KEY
    )
    assert signer(settings)(url.partition("Expires")[0][:-1], 1549751401) == url


async def test_an_address_is_that_of_the_object_and_expires():
    made = addresses(
        provider="cloudfront", base_url="https://img.example/", key_id="K1", key=CLOUDFRONT_KEY
    )
    before = int(time.time())
    url = await made.url_of("t/images/ab/abc")
    found = re.fullmatch(
        r"https://img\.example/t/images/ab/abc\?Expires=(\d+)&Signature=([\w~-]+)&Key-Pair-Id=K1",
        url,
    )
    assert found
    assert before <= int(found[1]) - LIFETIME_S <= time.time()


def bucket(provider, monkeypatch):
    """Returns a bucket of a cloud, which is not called: it only signs."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", base64.b64encode(b"k" * 32).decode())
    settings = StorageSettings()
    return Storage(open_bucket(provider, "photos", settings, ""), settings)


async def test_azure_front_door_gets_the_signature_of_the_store(monkeypatch):
    storage = bucket("azure", monkeypatch)
    made = addresses(storage, provider="azure_front_door", base_url="https://x.azurefd.net")
    url = await made.url_of("t/images/ab/abc")
    path, _, query = url.partition("?")
    assert path == "https://x.azurefd.net/photos/t/images/ab/abc"
    assert {"sig", "se", "sp=r"} <= {
        part if part == "sp=r" else part[: part.find("=")] for part in query.split("&")
    }


async def test_without_a_cdn_the_store_signs_or_there_is_no_address(monkeypatch):
    url = await addresses(bucket("aws", monkeypatch)).url_of("t/images/ab/abc")
    assert "photos" in url
    assert f"X-Amz-Expires={LIFETIME_S}" in url
    assert await addresses().url_of("t/images/ab/abc") == ""
    assert await addresses(bucket("aws", monkeypatch), provider="").url_of("t/images/ab/abc") == ""


@pytest.mark.parametrize("provider", ["cloudfront", "cloud_cdn"])
def test_a_key_of_another_kind_stops_the_start(provider, tmp_path):
    base = {"provider": provider, "base_url": "https://img.example", "key_id": "k"}
    with pytest.raises(OperatorError, match="CATEGORIZER_CDN__KEY is not"):
        addresses(**base, key="short")
    with pytest.raises(OperatorError, match="cannot read"):
        addresses(**base, key_file=str(tmp_path / "missing"))
    with pytest.raises(ValidationError, match="key_id and key"):
        CdnSettings(**base)
    with pytest.raises(ValidationError, match="base_url is required"):
        CdnSettings(provider=provider)
