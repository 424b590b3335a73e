"""Forms, uploads and archives as a test writes them, read as the edge reads them."""

import io
import zipfile

from google.api.httpbody_pb2 import HttpBody
from image_categorizer.v1.batch_pb2 import UploadBatchFormRequest
from image_categorizer_server.rpc.batch.archive import ArchiveLimits
from image_categorizer_server.rpc.batch.form import Form
from image_categorizer_server.services.upload import IgnoredFile

ARCHIVES = ArchiveLimits(
    max_bytes=2**20,
    max_entries=5,
    max_unpacked_bytes=2**20,
    max_ratio=100,
    max_image_bytes=2**18,
)
BOUNDARY = "xyz"


async def admitted():
    return None


async def stream(*messages):
    for message in messages:
        yield message


async def taken(items, most=None):
    """Reads items as an upload does; at most `most` bytes of each."""
    found = []
    async for item in items:
        if isinstance(item, IgnoredFile):
            continue
        content = b""
        async for piece in item.content:
            content += piece
            if most is not None and len(content) >= most:
                break
        found.append((item.filename, content))
    return found


def part(name, content, filename=None, kind=None):
    named = f'; filename="{filename}"' if filename is not None else ""
    typed = f"content-type: {kind}\r\n" if kind else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n{typed}\r\n'
    return head.encode() + content + b"\r\n"


def form(*parts, size=7, **query):
    """Returns the form of some parts, whose body comes in pieces of `size` bytes."""
    body = b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    first = UploadBatchFormRequest(body=HttpBody(content_type=kind, data=body[:size]), **query)
    rest = [
        UploadBatchFormRequest(body=HttpBody(data=body[start : start + size]))
        for start in range(size, len(body), size)
    ]
    return Form(stream(first, *rest), admitted, ARCHIVES)


def archive(**entries):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in entries.items():
            packed.writestr(name, content)
    return file.getvalue()
