"""embed: the embeddings of images."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

from image_categorizer import AsyncImageCategorizationClient, CategorizerError, Embedding
from rich.progress import Progress

from image_categorizer_server.cli.connection import Data, Server, server_of
from image_categorizer_server.cli.options import Images, Model, Version
from image_categorizer_server.cli.output import note, printable, reason_of, say
from image_categorizer_server.cli.pictures import (
    Picture,
    count_of,
    each_of,
    find_pictures,
    report_found,
    sendable,
)
from image_categorizer_server.errors import OperatorError

# From this many images on, the command shows progress.
MANY = 3
# How many images the server is asked for at a time.
MAX_IN_FLIGHT = 8


class Read(NamedTuple):
    """An image that was read."""

    name: str
    content: bytes | Exception | None
    """Why it cannot be read; None for an address, which the server reads."""


def embed(images: Images, model: Model = "", version: Version = "", data: Data = None) -> None:
    """Print the embedding of each image, in their order: one line of JSON for each.

    A line has the filename, the numbers of the embedding, and the version of the model. A running
    `up` is found by its data folder and needs no API key. To use another server, set
    CATEGORIZER_CLIENT__BASE_URL and CATEGORIZER_CLIENT__API_KEY.
    """
    count, failed = asyncio.run(_embed_all(images, server_of(data), model, version))
    if failed:
        raise OperatorError(f"{failed} of {count} images have no embedding.")


async def _embed_all(
    images: list[str], server: Server, model: str, version: str
) -> tuple[int, int]:
    """Prints the embeddings. Returns how many images there were, and how many failed."""
    failed = 0
    async with AsyncImageCategorizationClient(
        server.api_key, server.base_url, tls=server.tls
    ) as client:
        try:
            info = await client.server_info()
            found = find_pictures(images, info.image_formats)
            count = count_of(found)
            report_found(found, count)
            is_shown = count >= MANY and sys.stderr.isatty()

            async def embedded(image: Read) -> Embedding:
                if isinstance(image.content, Exception):
                    raise image.content
                if image.content is None:
                    return await client.embed(image_uri=image.name, model=model, version=version)
                return await client.embed(image.content, model=model, version=version)

            with Progress(console=note(), disable=not is_shown, transient=True) as progress:
                task = progress.add_task("Embedding", total=count)
                async for page in _pages(each_of(found), info.limits.max_image_bytes):
                    answers = await asyncio.gather(*map(embedded, page), return_exceptions=True)
                    for image, answer in zip(page, answers, strict=True):
                        failed += _show(image.name, answer)
                        progress.advance(task)
        except CategorizerError as error:
            raise OperatorError(error.message) from None
    return count, failed


async def _pages(pictures: Iterator[Picture], max_bytes: int) -> AsyncIterator[list[Read]]:
    """Yields images, some at a time. Each is read before the next is taken, as `each_of` asks."""
    page: list[Read] = []
    for picture in pictures:
        content: bytes | Exception | None = None
        try:
            if picture.read is not None:
                content = await asyncio.to_thread(picture.read, max_bytes)
        except (OSError, CategorizerError) as error:
            content = error
        page.append(Read(picture.name, content))
        if len(page) == MAX_IN_FLIGHT:
            yield page
            page = []
    if page:
        yield page


def _show(name: str, answer: Embedding | BaseException) -> bool:
    """Prints an embedding, or why there is none. Returns whether there is none.

    Raises:
        BaseException: neither the image nor the server is the reason.
    """
    if isinstance(answer, OSError | CategorizerError):
        say(f"{printable(name)}: {reason_of(answer)}")
        return True
    if isinstance(answer, BaseException):
        raise answer
    model = answer.model
    fields = {
        "filename": sendable(name),
        "embedding": answer.vector,
        "model": {"name": model.name, "version": model.version, "digest": model.digest},
    }
    print(json.dumps(fields), flush=True)
    return False
