"""Traces of the gateway: the part of Envoy's configuration that makes spans and sends them."""

import ipaddress
from typing import Any
from urllib.parse import urlsplit

import certifi

from image_categorizer_server.settings import Settings

CLUSTER = "traces"
SERVICE = "image-categorizer-gateway"
EXPORT_TIMEOUT = "5s"
# What Envoy writes into every span of what clients sent: paths name images, queries name people.
# `grpc.message` cannot be replaced: Envoy writes it last.
CLIENTS_WORDS = (
    *("http.url", "user_agent", "guid:x-request-id", "peer.address"),
    *("grpc.authority", "grpc.path"),
)
HIDDEN = "-"
UUID = "type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig"
TRACER = "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig"
HTTP = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"


def trace(config: dict[str, Any], settings: Settings) -> None:
    """Makes the gateway begin traces and pass them on; changes nothing if traces are off.

    A span names neither path nor client.  Whether a trace is recorded is decided here, unless the
    client has decided it.
    """
    telemetry = settings.telemetry
    if not telemetry.traces_endpoint:
        return
    resources = config["static_resources"]
    (listener,) = resources["listeners"]
    (chain,) = listener["filter_chains"]
    manager = chain["filters"][0]["typed_config"]
    manager["tracing"] = {
        "random_sampling": {"value": 100 * telemetry.traces_ratio},
        "client_sampling": {"value": 0},
        "max_path_tag_length": 1,
        "custom_tags": [{"tag": tag, "literal": {"value": HIDDEN}} for tag in CLIENTS_WORDS],
        "provider": {
            "name": "envoy.tracers.opentelemetry",
            "typed_config": {
                "@type": TRACER,
                "service_name": SERVICE,
                "grpc_service": {
                    "envoy_grpc": {"cluster_name": CLUSTER},
                    "timeout": EXPORT_TIMEOUT,
                },
            },
        },
    }
    # Otherwise the request ids that clients choose would change by one digit.
    manager["request_id_extension"] = {
        "typed_config": {
            "@type": UUID,
            "pack_trace_reason": False,
            "use_request_id_for_trace_sampling": False,
        }
    }
    resources["clusters"].append(_receiver(telemetry.traces_endpoint))


def _receiver(endpoint: str) -> dict[str, object]:
    """Returns the cluster of the receiver of spans."""
    parts = urlsplit(endpoint)
    host = parts.hostname
    address = {"socket_address": {"address": host, "port_value": parts.port}}
    cluster: dict[str, object] = {
        "name": CLUSTER,
        "type": "STRICT_DNS",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": HTTP,
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
    if parts.scheme == "https":
        cluster["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": _encryption(parts.hostname or ""),
        }
    return cluster


def _encryption(host: str) -> dict[str, object]:
    """Returns the TLS of connections to a host, whose certificate a public authority has issued."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        kind = "DNS"
    else:
        kind = "IP_ADDRESS"
    return {
        "@type": TLS,
        **({"sni": host} if kind == "DNS" else {}),
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "validation_context": {
                "trusted_ca": {"filename": certifi.where()},
                "match_typed_subject_alt_names": [{"san_type": kind, "matcher": {"exact": host}}],
            },
        },
    }
