"""Writes docs/errors.md and docs/roles.md from a descriptor set with comments."""

from collections.abc import Iterator

from google.protobuf.descriptor_pb2 import FileDescriptorSet, MethodDescriptorProto
from google.rpc import code_pb2
from image_categorizer.v1 import options_pb2
from openapi import http_rule
from openapi_schemas import Comments, files_of_ours

GENERATED = "<!-- Generated from proto/ by tools/generate.py; do not edit. -->"
REASONS = "ErrorReason"
# Paths in descriptor.proto: a file's enums and services, an enum's values, a service's methods.
ENUM, SERVICE, VALUE, METHOD = 5, 6, 2, 2


def pages(files: FileDescriptorSet) -> list[str]:
    """Returns the page of errors and the page of roles."""
    return [errors_page(files), roles_page(files)]


def errors_page(files: FileDescriptorSet) -> str:
    """Returns the table of all error reasons, in Markdown."""
    rows, text = [], ""
    for file in files_of_ours(files):
        comments = Comments(file)
        for e, enum in enumerate(file.enum_type):
            if enum.name != REASONS:
                continue
            text = comments.text(ENUM, e)
            for v, value in enumerate(enum.value):
                status = value.options.Extensions[options_pb2.error]
                if value.number:
                    code = code_pb2.Code.Name(status.code)
                    http = ", ".join(map(str, status.http_status))
                    meaning = " ".join(comments.text(ENUM, e, VALUE, v).split())
                    rows.append(f"| `{value.name}` | {code} | {http} | {meaning} |")
    return page(
        "Errors",
        f'{text}\n\nOver REST an error is `{{"code", "message", "details"}}`, where `code` is the '
        "number of the gRPC status code. If a reason has more than one HTTP status, the first is "
        "that of the server; only the gateway uses the others.",
        ["Reason", "gRPC status", "HTTP status", "Meaning, and what to do"],
        rows,
    )


def roles_page(files: FileDescriptorSet) -> str:
    """Returns the table of the role that each RPC requires, in Markdown."""
    rows = []
    for service, method in methods(files):
        options = method.options.Extensions
        role = options_pb2.Role.Name(options[options_pb2.required_role]).lower()
        workers = "yes" if options[options_pb2.open_to_workers] else ""
        verb, path = http_rule(method)
        rest = f"`{verb.upper()} {path}`" if verb else ""
        scope = options_pb2.Scope.Name(options[options_pb2.required_scope])
        scope = "any" if scope == "ANY_SCOPE" else f"`{scope.lower().replace('_', ':')}`"
        scope = "" if role == "public" else scope
        rows.append(f"| `{service}.{method.name}` | {rest} | {role} | {scope} | {workers} |")
    return page(
        "Roles",
        "Every caller has one role. Of `viewer`, `classifier`, `operator`, `admin` and `platform`, "
        "each includes the ones before it. Credentials may also be limited to scopes: they then "
        "permit only RPCs of these scopes. `worker` is for the processes that run batches: it may "
        "call only the RPCs marked in the last column. `public` RPCs require no credentials.",
        ["RPC", "REST", "Required role", "Scope", "Open to `worker`"],
        rows,
    )


def methods(files: FileDescriptorSet) -> Iterator[tuple[str, MethodDescriptorProto]]:
    """Yields every RPC with the name of its service."""
    for file in files_of_ours(files):
        for service in file.service:
            for method in service.method:
                yield service.name, method


def page(title: str, text: str, columns: list[str], rows: list[str]) -> str:
    """Returns a page with one table."""
    heading = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join([f"# {title}", "", GENERATED, "", text, "", *heading, *rows]) + "\n"
