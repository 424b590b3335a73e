"""How many files of a zip file a server takes, by its settings."""

import io
import zipfile

import grpc
import pytest
from google.api import httpbody_pb2
from image_categorizer.v1 import batch_pb2, batch_pb2_grpc
from image_categorizer_server.domain.access import Role

from tests.integration.conftest import running_server
from tests.support.pictures import jpeg


def form_of(count):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(count):
            archive.writestr(f"{number}.jpg", jpeg(seed=number))
    head = 'content-disposition: form-data; name="images"; filename="a.zip"'
    return f"--x\r\n{head}\r\n\r\n".encode() + buffer.getvalue() + b"\r\n--x--\r\n"


@pytest.mark.parametrize(
    ("limits", "maximum"),
    [({"max_zip_items": 3}, 3), ({"max_zip_items": 9, "max_items": 2}, 2)],
    ids=["of a zip file", "of any batch"],
)
async def test_a_zip_file_holds_so_many_files_and_no_more(settings, limits, maximum):
    batch = settings.batch.model_copy(update=limits)
    async with running_server(settings.model_copy(update={"batch": batch})) as server:
        headers = (("authorization", f"Bearer {await server.key(Role.CLASSIFIER)}"),)
        async with grpc.aio.insecure_channel(server.address) as channel:
            upload = batch_pb2_grpc.BatchServiceStub(channel).UploadBatchForm

            async def ask(count):
                body = httpbody_pb2.HttpBody(
                    content_type="multipart/form-data; boundary=x", data=form_of(count)
                )
                request = batch_pb2.UploadBatchFormRequest(body=body)
                return await upload(iter([request]), metadata=headers)

            assert (await ask(maximum)).item_count == maximum
            with pytest.raises(grpc.aio.AioRpcError, match=f"more than {maximum} files"):
                await ask(maximum + 1)
