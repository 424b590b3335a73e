"""Writes gateway/contract.json: what Envoy's configuration takes from the protos.

services     the services, by full name
streams      the RPCs that stream, in either direction, as `service/method`
repeatable   the other RPCs that are safe to repeat, as `service/method`
methods      the HTTP methods of each REST path, which is a regular expression
codes        the number of the gRPC status code of each error reason
headers_refusal  what calls by gRPC with too many or too large headers are told: `grpc-message` and
                 `grpc-status-details-bin`
"""

import base64
import json
import re

from google.protobuf.any_pb2 import Any
from google.protobuf.descriptor_pb2 import FileDescriptorSet, MethodOptions
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from image_categorizer.v1 import options_pb2
from openapi import http_rule
from openapi_schemas import files_of_ours
from reference import REASONS

HEADERS_TOO_LARGE = (
    "the headers of the call exceed the gateway's limit, of 100 headers and of "
    "CATEGORIZER_GATEWAY__MAX_HEADERS_KIB: send fewer or shorter ones"
)


def contract(files: FileDescriptorSet) -> str:
    """Returns the file."""
    services: list[str] = []
    streams: list[str] = []
    repeatable: list[str] = []
    codes: dict[str, int] = {}
    methods: dict[str, list[str]] = {path: ["GET", "HEAD"] for path in ("/", r"/openapi\.yaml")}
    for file in files_of_ours(files):
        for service in file.service:
            name = f"{file.package}.{service.name}"
            services.append(name)
            for method in service.method:
                verb, path = http_rule(method)
                if verb:
                    allowed = methods.setdefault(path_pattern(path), [])
                    allowed += ["GET", "HEAD"] if verb == "get" else [verb.upper()]
                if method.client_streaming or method.server_streaming:
                    streams.append(f"{name}/{method.name}")
                elif method.options.idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN:
                    repeatable.append(f"{name}/{method.name}")
        for enum in file.enum_type:
            if enum.name == REASONS:
                for value in enum.value[1:]:
                    codes[value.name] = value.options.Extensions[options_pb2.error].code
    found = {
        "services": services,
        "streams": streams,
        "repeatable": repeatable,
        "methods": methods,
        "codes": codes,
        "headers_refusal": headers_refusal(),
    }
    return json.dumps(found, indent=2) + "\n"


def headers_refusal() -> dict[str, str]:
    """Returns the message of a refusal for its headers, and its status as a header holds it."""
    detail = Any()
    detail.Pack(ErrorInfo(reason="FIELD_INVALID", domain="image-categorizer"))
    status = Status(code=Code.RESOURCE_EXHAUSTED, message=HEADERS_TOO_LARGE, details=[detail])
    packed = base64.b64encode(status.SerializeToString(deterministic=True)).decode()
    return {"message": HEADERS_TOO_LARGE, "details": packed.rstrip("=")}


def path_pattern(path: str) -> str:
    """Returns a path as a regular expression.

    A variable ends before a custom method (`:load`). One of `**` takes the rest, which may be
    nothing.
    """
    return "".join(map(_part_pattern, re.split(r"(/\{\w+=\*\*\}|\{\w+\})", path)))


def _part_pattern(part: str) -> str:
    if part.startswith("/{"):
        return "(?:/.*)?"
    return "[^/:]+" if part.startswith("{") else re.escape(part)
