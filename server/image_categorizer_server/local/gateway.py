"""Envoy's configuration: `gateway/envoy.yaml.in` and the values that depend on the settings."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from image_categorizer_server.local.connections import limit_by_address
from image_categorizer_server.local.gateway_tls import encrypt
from image_categorizer_server.local.home_page import content_security_policy, home_page
from image_categorizer_server.services.dashboard import is_built
from image_categorizer_server.settings import Settings

PACKAGE_FOLDER = Path(__file__).resolve().parent.parent
# A field of a message takes up to this many times its bytes in JSON, with its name and brackets.
JSON_FACTOR = 40
MAX_HEADERS = 110  # a hundred, and those that HTTP/2 and Envoy add
# Beyond its own limits Envoy resets calls by gRPC without a word, so they are higher than ours.
ENVOY_MAX_HEADERS = 2000
ENVOY_HEADERS_FACTOR = 4
# The server gives up at the deadline. It answers first if the gateway waits a little longer.
ROUTE_GRACE_S = 1.0
ALL_INTERFACES = "0.0.0.0"  # noqa: S104 - only ever compared with
# Not `null`, the origin of files: pages of every web site can take it on, in a sandboxed frame.
ORIGINS_OF_THIS_MACHINE = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?"
CORS_REQUEST_HEADERS = (
    "authorization",
    "content-encoding",
    "content-type",
    "grpc-timeout",
    "if-none-match",
    "if-range",
    "range",
    "tus-resumable",
    "upload-length",
    "upload-metadata",
    "upload-offset",
    "x-attempt",
    "x-grpc-web",
    "x-request-id",
    "x-user-agent",
)
CORS_RESPONSE_HEADERS = (
    "accept-ranges",
    "content-disposition",
    "content-range",
    "etag",
    "grpc-message",
    "grpc-retry-pushback-ms",
    "grpc-status",
    "grpc-status-details-bin",
    "location",
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "tus-resumable",
    "upload-length",
    "upload-offset",
    "x-request-id",
)
# For pages, which the browser must not mix with those of others. JSON is unaffected.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
# Set by requests.lua.
NATIVE_GRPC = {"name": "x-native-grpc", "present_match": True}
CEL_FILTER = "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter"
# In messages, Envoy reads `%%` as `%`.
BAD_PATH = (
    "the path is malformed: percent-encode what is not a letter or digit, but do not send "
    "%%2F, %%5C, %%00 or #"
)
NOT_HTTP = "the request is not valid HTTP, or its method, path or a header is not"
NO_UPGRADE = "no connection can be upgraded, to WebSocket for instance; omit the header upgrade"
NO_ROUTE = "there is no such path; /openapi.yaml lists all"
TOO_MANY = "too many calls are in progress; ask again later"
NO_SERVER = "no server answers at the moment; ask again"
CUT_OFF = "the server process ended while it served the request; it may be what ended it"
# Envoy's response code details when a process died, or closed the call, after it had the request.
CUTS = "{connection_termination", "{remote_reset"
# gRPC proposal A6: negative means that the client must not retry.
NO_RETRY = ("grpc-retry-pushback-ms", "-1")
JSON_BATCH = "/image_categorizer.v1.BatchService/UploadBatchForm"  # as the transcoder rewrites it
BATCH_TOO_SLOW = (
    "the batch was not created in time, and nothing of it remains; submit smaller batches"
)


@dataclass(frozen=True)
class LocalReply:
    """An error that Envoy answers itself. The first match applies."""

    http_status: int
    reason: str
    """`google.rpc.ErrorInfo.reason`."""
    message: str = "%LOCAL_REPLY_BODY%"  # Envoy replaces it with its own description
    path_prefix: str = ""
    cause: str = ""
    """Part of Envoy's response code details; empty for all."""
    answered_status: int | None = None
    """HTTP status of the answer, if not Envoy's own."""
    header: tuple[str, str] | None = None


def local_replies(settings: Settings) -> list[LocalReply]:
    """Returns the errors that Envoy answers itself; `errors.proto` states their HTTP statuses."""
    headers_too_large = (
        f"the headers, with path and query, exceed {settings.gateway.max_headers_kib} KiB, "
        "or are more than 100: send fewer or shorter ones"
    )
    batch_too_large = (
        f"the body exceeds {settings.max_message_bytes} bytes; send many images as a form "
        "(multipart/form-data), and many URIs as several batches"
    )
    image_too_large = (
        f"the body exceeds {settings.max_body_bytes} bytes, the maximum for an image of "
        f"{settings.max_image_bytes} bytes in base64"
    )
    return [
        # Lua scripts, routes and the transcoder describe what is wrong, the codec does not.
        LocalReply(400, "FIELD_INVALID", cause="grpc_json_transcode"),
        LocalReply(400, "FIELD_INVALID", cause="lua_response"),
        LocalReply(400, "FIELD_INVALID", BAD_PATH, cause="path_normalization_failed"),
        LocalReply(400, "FIELD_INVALID", "the header host is required", cause="missing_host"),
        LocalReply(400, "FIELD_INVALID", NOT_HTTP),
        LocalReply(403, "FIELD_INVALID", NO_UPGRADE, cause="upgrade_failed", answered_status=400),
        LocalReply(404, "ROUTE_NOT_FOUND", NO_ROUTE),
        LocalReply(405, "METHOD_NOT_ALLOWED"),
        LocalReply(408, "DEADLINE_EXCEEDED", "the request did not arrive in time"),
        LocalReply(411, "FIELD_INVALID"),
        LocalReply(413, "BATCH_TOO_LARGE", batch_too_large, "/v1/batch"),
        LocalReply(413, "IMAGE_TOO_LARGE", image_too_large),
        LocalReply(415, "FIELD_INVALID"),
        LocalReply(426, "FIELD_INVALID", "use HTTP/1.0, HTTP/1.1 or HTTP/2"),
        LocalReply(429, "RATE_LIMITED", "too many requests; ask again later"),
        LocalReply(431, "FIELD_INVALID", headers_too_large),
        LocalReply(500, "INTERNAL", "the answer cannot be sent"),
        LocalReply(501, "FIELD_INVALID", NOT_HTTP, answered_status=400),
        LocalReply(502, "DEPENDENCY_DOWN", NO_SERVER),
        LocalReply(503, "QUEUE_FULL", cause="lua_response"),
        LocalReply(503, "QUEUE_FULL", TOO_MANY, cause="{overflow", header=("retry-after", "1")),
        *(LocalReply(503, "DEPENDENCY_DOWN", CUT_OFF, cause=cut, header=NO_RETRY) for cut in CUTS),
        LocalReply(503, "DEPENDENCY_DOWN", NO_SERVER, header=("retry-after", "1")),
        # Only a JSON body creates a batch without data in either direction.
        LocalReply(504, "DEADLINE_EXCEEDED", BATCH_TOO_SLOW, JSON_BATCH),
        LocalReply(504, "DEADLINE_EXCEEDED", "the deadline passed before the answer was ready"),
    ]


def gateway_folder() -> Path:
    """Returns the folder of the gateway's files: in the installed package, or beside the source."""
    packaged = PACKAGE_FOLDER / "_gateway"
    return packaged if packaged.is_dir() else PACKAGE_FOLDER.parents[1] / "gateway"


def render(
    settings: Settings,
    port: int,
    servers: Sequence[str],
    admin: str,
    secrets: Path,
    folder: Path | None = None,
) -> str:
    """Returns Envoy's configuration as YAML.

    Args:
        settings: of the installation.
        port: the public port.
        servers: addresses of the server processes, `unix:/path` or `host:port`.
        admin: address of Envoy's administration interface, in the same form.
        secrets: folder that `write_secrets` fills; unused without TLS.
        folder: where Envoy finds the gateway's files; by default `gateway_folder()`.
    """
    own = gateway_folder()
    folder = folder or own
    contract = json.loads((own / "contract.json").read_text())
    home = home_page(own, settings)
    values: dict[str, object] = {
        "host": settings.gateway.host,
        "port": port,
        "admin": _address(admin),
        "servers": [{"endpoint": {"address": _address(server)}} for server in servers],
        # STATIC cannot resolve host names; STRICT_DNS cannot use sockets.
        "discovery": "STATIC" if all(map(_socket, servers)) else "STRICT_DNS",
        "descriptor": str(folder / "descriptor.binpb"),
        "openapi": str(folder / "openapi.yaml"),
        "lua_requests": str(folder / "lua" / "requests.lua"),
        "lua_shed": str(folder / "lua" / "shed.lua"),
        "lua_json": str(folder / "lua" / "json.lua"),
        "lua_upstream": str(folder / "lua" / "upstream.lua"),
        "services": contract["services"],
        "local_replies": [
            *(_native_cut(cut) for cut in CUTS),
            *(_mapper(reply, contract["codes"][reply.reason]) for reply in local_replies(settings)),
        ],
        "response_headers": [{"append": header} for header in _security_headers(settings)],
        "cors": _cors(settings),
        "max_body_bytes": settings.max_body_bytes,
        "max_response_bytes": max(
            settings.max_body_bytes, JSON_FACTOR * settings.server.max_page_bytes
        ),
        "max_batch_body_bytes": settings.max_message_bytes,
        "request_timeout": f"{settings.server.max_deadline_s}s",
        "route_timeout": f"{settings.server.max_deadline_s + ROUTE_GRACE_S}s",
        "stream_idle_timeout": f"{settings.gateway.stream_idle_timeout_s}s",
        "first_bytes_timeout": f"{settings.gateway.first_bytes_timeout_s}s",
        "headers_timeout": f"{settings.gateway.headers_timeout_s}s",
        "idle_timeout": f"{settings.gateway.idle_timeout_s}s",
        "envoy_max_headers": ENVOY_MAX_HEADERS,
        "envoy_max_headers_kib": ENVOY_HEADERS_FACTOR * settings.gateway.max_headers_kib,
        "header_limits": {
            "max_headers": MAX_HEADERS,
            "max_bytes": settings.gateway.max_headers_kib * 1024,
            "message": contract["headers_refusal"]["message"],
            "details": contract["headers_refusal"]["details"],
        },
        "home_routes": [],
        "home": home,
        "home_policy": content_security_policy(home),
        "max_connections": settings.gateway.max_connections,
        "scheme": "https" if settings.gateway.tls_cert_path else "http",
        "trusted_hops": settings.gateway.trusted_hops,
    }
    template = yaml.safe_load((own / "envoy.yaml.in").read_text())
    definitions = template.pop("definitions")
    stream, repeatable = (_filled(definitions[kind], values) for kind in ("stream", "repeatable"))
    if not (settings.gateway.dashboard and is_built()):
        values["home_routes"] = [_filled(definitions["home"], values)]
    values["stream_routes"] = _routes(contract["streams"], stream)
    values["repeatable_routes"] = _routes(contract["repeatable"], repeatable)
    values["wrong_method_routes"] = [
        _wrong_method_route(path, methods, _filled(definitions["no_transcoder"], values))
        for path, methods in contract["methods"].items()
    ]
    config = cast("dict[str, Any]", _filled(template, values))
    encrypt(config, settings, secrets)
    (listener,) = config["static_resources"]["listeners"]
    limit_by_address(listener, settings.gateway)
    return yaml.safe_dump(config, sort_keys=False, width=math.inf)


def reachable_host(host: str, name: str = "127.0.0.1") -> str:
    """Returns the host at which this machine reaches a port that listens on `host`."""
    return name if host in (ALL_INTERFACES, "127.0.0.1") else host


def _filled(template: object, values: dict[str, object]) -> object:
    """Returns a copy of `template` in which values replace strings such as `$name`.

    In a list, `$name` stands for the items of a list.
    """
    match template:
        case dict():
            return {key: _filled(value, values) for key, value in template.items()}
        case list():
            items: list[object] = []
            for item in template:
                filled = _filled(item, values)
                items += filled if isinstance(item, str) and isinstance(filled, list) else [filled]
            return items
        case str() if template.startswith("$"):
            return values[template.removeprefix("$")]
    return template


def _socket(address: str) -> str | None:
    """Returns the path of an address `unix:/path`."""
    return address.removeprefix("unix:") if address.startswith("unix:") else None


def _address(address: str) -> dict[str, object]:
    if path := _socket(address):
        return {"pipe": {"path": path}}
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}


def _routes(rpcs: list[str], route: object) -> list[object]:
    """Returns a route for each RPC: one regular expression would exceed Envoy's limit."""
    return [{"match": {"path": f"/{rpc}"}, "route": route} for rpc in rpcs]


def _wrong_method_route(path: str, methods: list[str], filters: object) -> dict[str, object]:
    """Returns the route that answers requests for a REST path by other methods than `methods`.

    Args:
        path: as a regular expression.
        methods: the HTTP methods of the path.
        filters: configuration of the filters.
    """
    allowed = ", ".join(methods)
    method = {"name": ":method", "string_match": {"safe_regex": {"regex": "|".join(methods)}}}
    # CORS's preflights are answered by its filter, which passes over routes of this kind.
    preflight = {"name": "access-control-request-method", "present_match": True}
    headers = [{**method, "invert_match": True}, {**preflight, "invert_match": True}]
    header = {"header": {"key": "allow", "value": allowed}}
    return {
        "match": {"safe_regex": {"regex": path}, "headers": headers},
        "direct_response": {
            "status": 405,
            "body": {"inline_string": f"this path takes the methods {allowed}"},
        },
        "response_headers_to_add": [header],
        "typed_per_filter_config": filters,
    }


def _security_headers(settings: Settings) -> list[object]:
    """Returns what every answer tells browsers, unless the server has told them something else."""
    headers = dict(SECURITY_HEADERS)
    seconds = settings.gateway.hsts_max_age_s
    if seconds and settings.gateway.tls_cert_path:
        headers["strict-transport-security"] = f"max-age={seconds}"
    return [_added(name, value) for name, value in headers.items()]


def _mapper(reply: LocalReply, code: int) -> dict[str, object]:
    """Returns Envoy's form of a local reply; `code` is that of google.rpc.Code."""
    filters: list[object] = [_has_status(reply.http_status)]
    if reply.path_prefix:
        header = {"name": ":path", "string_match": {"prefix": reply.path_prefix}}
        filters.append({"header_filter": {"header": header}})
    if reply.cause:
        filters.append(_has_cause(reply.cause))
    # gRPC clients get Envoy's error in trailers, unchanged.
    filters.append({"header_filter": {"header": {**NATIVE_GRPC, "invert_match": True}}})
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reply.reason,
        "domain": "image-categorizer",
        "metadata": {},
    }
    body = {"code": code, "message": reply.message, "details": [info]}
    mapper: dict[str, object] = {
        "filter": {"and_filter": {"filters": filters}},
        "body_format_override": {"json_format": body, "content_type": "application/json"},
    }
    if reply.answered_status is not None:
        mapper["status_code"] = reply.answered_status
    if reply.header is not None:
        mapper["headers_to_add"] = [_added(*reply.header)]
    return mapper


def _native_cut(cause: str) -> dict[str, object]:
    """Returns what tells gRPC clients not to retry; the error itself stays as it is."""
    filters = [_has_status(503), _has_cause(cause), {"header_filter": {"header": NATIVE_GRPC}}]
    return {
        "filter": {"and_filter": {"filters": filters}},
        "headers_to_add": [_added(*NO_RETRY)],
    }


def _has_status(http_status: int) -> dict[str, object]:
    comparison = {
        "op": "EQ",
        "value": {"default_value": http_status, "runtime_key": "unused"},
    }
    return {"status_code_filter": {"comparison": comparison}}


def _has_cause(cause: str) -> dict[str, object]:
    expression = f"response.code_details.contains('{cause}')"
    cel = {"@type": CEL_FILTER, "expression": expression}
    return {"extension_filter": {"name": "cause", "typed_config": cel}}


def _added(key: str, value: str) -> dict[str, object]:
    return {"header": {"key": key, "value": value}, "append_action": "ADD_IF_ABSENT"}


def _cors(settings: Settings) -> dict[str, object]:
    """Returns the filter configuration that lets web pages call, empty for none."""
    is_set = "cors_origins" in settings.gateway.model_fields_set
    if is_set or settings.environment == "production":
        matches: list[object] = [
            {"safe_regex": {"regex": ".*"}} if origin == "*" else {"exact": origin}
            for origin in settings.gateway.cors_origins
        ]
    else:
        matches = [{"safe_regex": {"regex": ORIGINS_OF_THIS_MACHINE}}]
    if not matches:
        return {}
    policy = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": matches,
        "allow_methods": "GET, HEAD, POST, PATCH, DELETE, OPTIONS",
        "allow_headers": ", ".join(CORS_REQUEST_HEADERS),
        "expose_headers": ", ".join(CORS_RESPONSE_HEADERS),
        "max_age": "600",
    }
    return {"envoy.filters.http.cors": policy}
