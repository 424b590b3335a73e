"""Settings of a gateway that runs on its own, and of clients."""

import pytest
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.settings.gateway import ClientSettings, GatewaySettings
from pydantic import ValidationError


@pytest.mark.parametrize(
    "servers", [["server-1:50051", "server-2:50051"], ["[::1]:50051"], ["unix:/run/server.sock"]]
)
def test_servers_are_hosts_or_sockets(servers):
    assert GatewaySettings(servers=servers).servers == tuple(servers)


@pytest.mark.parametrize(
    ("servers", "problem"),
    [
        ([], "at least 1"),
        (["server"], "neither host:port nor unix:/path"),
        (["server:0"], "neither"),
        (["server:70000"], "neither"),
        (["server:٣"], "neither"),
        (["http://server:50051"], "neither"),
        (["::1:50051"], "neither"),
        (["unix:server.sock"], "neither"),
        (["server:50051", "unix:/run/server.sock"], "only hosts, or only sockets"),
    ],
)
def test_what_is_no_address_is_refused_before_envoy_sees_it(servers, problem):
    with pytest.raises(ValidationError, match=problem):
        GatewaySettings(servers=servers)


def test_the_administration_has_an_address_too():
    assert GatewaySettings(admin_bind="unix:/run/admin.sock").admin_bind == "unix:/run/admin.sock"
    with pytest.raises(ValidationError, match="neither"):
        GatewaySettings(admin_bind="9901")


def test_a_key_may_be_in_a_file(tmp_path):
    file = tmp_path / "key"
    file.write_text("ic_x\n")
    assert ClientSettings(api_key_file=str(file)).read_api_key() == "ic_x"
    assert ClientSettings(api_key="ic_y", api_key_file=str(file)).read_api_key() == "ic_y"
    file.unlink()
    with pytest.raises(OperatorError, match="CLIENT__API_KEY_FILE: cannot read"):
        ClientSettings(api_key_file=str(file)).read_api_key()
