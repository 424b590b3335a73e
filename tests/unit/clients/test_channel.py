"""Addresses and headers of a client's channel."""

import pytest
from image_categorizer import ImageCategorizationClient, Tls, _channel
from image_categorizer._channel import Target


@pytest.mark.parametrize(
    ("base_url", "target"),
    [
        ("localhost:8080", Target("localhost:8080", False, True)),
        ("LOCALHOST.", Target("LOCALHOST.:80", False, True)),
        ("a.localhost:8080", Target("a.localhost:8080", False, True)),
        ("127.0.0.2:8080", Target("127.0.0.2:8080", False, True)),
        ("[::1]:8080", Target("[::1]:8080", False, True)),
        ("http://localhost:8080/", Target("localhost:8080", False, True)),
        ("https://localhost", Target("localhost:443", True, True)),
        ("https://api.example", Target("api.example:443", True, False)),
        ("HTTPS://api.example:8443\n", Target("api.example:8443", True, False)),
        ("http://api.example", Target("api.example:80", False, False)),
        ("http://[2001:db8::1]", Target("[2001:db8::1]:80", False, False)),
        ("unix:/run/server.sock", Target("unix:/run/server.sock", False, True)),
    ],
)
def test_addresses_become_targets(base_url, target):
    assert _channel.target(base_url) == target


@pytest.mark.parametrize(
    "base_url",
    [
        "api.example",
        "api.example:8080",
        "10.0.0.7:8080",
        "0.0.0.0:80",
        "[2001:db8::1]",
        "2130706433",
    ],
)
def test_a_key_never_leaves_the_machine_in_clear_text_unless_http_is_written(base_url):
    assert _channel.target(base_url).is_secure
    assert not _channel.target(f"http://{base_url}").is_secure


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "ftp://host",
        "://host",
        "https://https://host",
        "http://host/path",
        "http://host?a=1",
        "http://user:secret@host",
        "https://",
        "host:99999",
        "host:port",
        "::1",
        "two words",
        "http://" + "a/" * 500,
    ],
)
def test_other_addresses_are_refused(base_url):
    with pytest.raises(ValueError, match="base_url") as refused:
        _channel.target(base_url)
    assert len(str(refused.value)) < 200


def test_a_proxy_is_not_asked_for_a_server_on_this_machine():
    for base_url, asked in (("localhost:8080", 0), ("api.example", 1)):
        options = dict(_channel.channel_options(_channel.target(base_url)))
        assert options["grpc.enable_http_proxy"] == asked


def test_without_a_key_there_is_no_header():
    assert _channel.headers("") == _channel.headers(" \n") == ()


@pytest.mark.parametrize("api_key", ["ic_x", "ic_x\n", " ic_x\r\n"])
def test_a_key_from_a_file_may_have_a_line_end(api_key):
    assert _channel.headers(api_key) == (("authorization", "Bearer ic_x"),)


@pytest.mark.parametrize("api_key", ["ic_x\nic_y", "ic x", "ic_\x00", "ic_ä", "ic_\u200b"])
def test_a_key_that_cannot_be_one_is_refused_unrepeated(api_key):
    with pytest.raises(ValueError, match="api_key must be one word") as refused:
        _channel.headers(api_key)
    assert api_key not in str(refused.value)


@pytest.mark.parametrize(
    ("base_url", "is_secure"),
    [
        ("localhost:8080", True),
        ("unix:/run/server.sock", True),
        ("https://localhost", True),
        ("http://localhost:8080", False),
    ],
)
def test_with_certificates_only_http_is_called_without_tls(base_url, is_secure):
    assert _channel.target(base_url, Tls()).is_secure is is_secure


def test_the_name_of_a_server_may_differ_from_its_address():
    target = _channel.target("https://10.0.0.7")
    named = ("grpc.ssl_target_name_override", "api.example")
    assert named in _channel.channel_options(target, Tls(server_name="api.example"))
    assert "grpc.ssl_target_name_override" not in dict(_channel.channel_options(target, Tls()))


def test_a_certificate_without_its_key_is_refused():
    with pytest.raises(ValueError, match="belong together"):
        Tls(certificate="a.pem")


@pytest.mark.parametrize("file", ["root_certificates", "certificate"])
def test_a_missing_file_is_named_when_the_client_is_made(tmp_path, file):
    given = {"certificate": tmp_path / "x", "private_key": tmp_path / "y"}
    tls = Tls(**(given if file == "certificate" else {file: tmp_path / "x"}))
    with pytest.raises(FileNotFoundError):
        ImageCategorizationClient("ic_x", "https://localhost", tls=tls)
