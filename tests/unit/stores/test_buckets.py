"""Buckets as they are opened."""

import pytest
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.settings.storage import StorageSettings
from image_categorizer_server.stores.buckets import open_bucket

HTTP = "http://127.0.0.1:9000"
ALLOW = "CATEGORIZER_STORAGE__ALLOW_HTTP=true"


@pytest.mark.parametrize("address", [HTTP, HTTP.upper()])
def test_an_http_address_is_refused_by_naming_both_settings(address):
    with pytest.raises(OperatorError, match="CATEGORIZER_STORAGE__ENDPOINT starts") as caught:
        open_bucket("aws", "photos", StorageSettings(), address)
    assert ALLOW in str(caught.value)
    open_bucket("aws", "photos", StorageSettings(allow_http=True), address)


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"])
def test_the_providers_own_variable_is_checked_too(monkeypatch, name):
    monkeypatch.setenv(name, HTTP)
    with pytest.raises(OperatorError, match=f"{name} starts"):
        open_bucket("aws", "photos", StorageSettings())
    open_bucket("aws", "photos", StorageSettings(), "https://s3.example")
