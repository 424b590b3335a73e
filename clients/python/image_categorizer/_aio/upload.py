"""One upload by asyncio.  Its twin in `_sync` is written by hand."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import suppress

import grpc

from image_categorizer import _inputs
from image_categorizer._aio.connection import AsyncConnection
from image_categorizer._aio.ending import Ending
from image_categorizer._values import Source
from image_categorizer.v1 import batch_pb2

Request = batch_pb2.UploadBatchRequest


async def upload(
    connection: AsyncConnection,
    sources: Iterable[Source] | AsyncIterable[Source],
    config: batch_pb2.BatchConfig,
) -> batch_pb2.Batch:
    """Returns the batch that the server made of the sources.

    Raises:
        CategorizerError: the call failed.
        Exception: what the sources raised, or reading them; there is no batch then.
    """
    call = connection.stubs.batches.UploadBatch(metadata=await connection.headers())
    ending = Ending(call)
    try:
        # Writing to a call that has ended fails; awaiting the call tells why it has ended.
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await call.write(Request(config=config))
            async for message in _messages(sources):
                await call.write(message)
            await call.done_writing()
        return await call
    except grpc.RpcError as error:
        raise ending.error(error) from error
    finally:
        # To end the call normally here would create a batch of half the images.
        call.cancel()


async def _messages(
    sources: Iterable[Source] | AsyncIterable[Source],
) -> AsyncIterator[Request]:
    if isinstance(sources, AsyncIterable):
        async for source in sources:
            async for message in _messages_of(source):
                yield message
    else:
        for source in sources:
            async for message in _messages_of(source):
                yield message


async def _messages_of(source: Source) -> AsyncIterator[Request]:
    messages = _inputs.upload_messages(source)
    if isinstance(source, tuple):
        for message in messages:
            yield message
        return
    while (read := await asyncio.to_thread(next, messages, None)) is not None:
        yield read
