"""Addresses, headers and retries of a client's channel."""

import json

import pytest
from image_categorizer import _channel


@pytest.mark.parametrize(
    ("base_url", "target"),
    [
        ("localhost:8080", ("localhost:8080", False)),
        ("http://localhost:8080/", ("localhost:8080", False)),
        ("https://api.example", ("api.example:443", True)),
        ("api.example", ("api.example:80", False)),
        ("http://[::1]:8080", ("[::1]:8080", False)),
        ("unix:/run/server.sock", ("unix:/run/server.sock", False)),
    ],
)
def test_addresses_become_targets(base_url, target):
    assert _channel.target(base_url) == target


@pytest.mark.parametrize("base_url", ["", "ftp://host", "http://host/path", "https://"])
def test_other_addresses_are_refused(base_url):
    with pytest.raises(ValueError, match="base_url"):
        _channel.target(base_url)


def test_only_unavailable_is_tried_again():
    method, stream = _channel.SERVICE_CONFIG["methodConfig"]
    assert "retryPolicy" not in stream
    assert method["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]
    options = dict(_channel.channel_options())
    assert json.loads(options["grpc.service_config"]) == _channel.SERVICE_CONFIG


def test_without_a_key_there_is_no_header():
    assert _channel.headers("") == ()
    assert _channel.headers("ic_x") == (("authorization", "Bearer ic_x"),)
