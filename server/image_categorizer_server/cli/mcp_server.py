"""mcp: the Model Context Protocol, for assistants that classify images.

The program that starts it talks to it by standard input and output, so what it says of itself goes
to standard error.  It calls a server with a key, and may do what the key may do.  Files are read
only below one folder: their names come from a language model.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer
from image_categorizer import AsyncImageCategorizationClient, Batch, CategorizerError, ImageFilters

from image_categorizer_server.cli.connection import Data, server_of
from image_categorizer_server.cli.pictures import is_uri
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.version import VERSION

if TYPE_CHECKING:
    from image_categorizer import BatchResult, Prediction
    from mcp.server import MCPServer

Fields = dict[str, Any]
Given = ParamSpec("Given")
Answer = TypeVar("Answer")
INSTRUCTIONS = (
    "Classifies images into categories, each with a confidence from 0 to 1. Images are files, by "
    "paths below the folder that this server may read, or https addresses. For many images, submit "
    "a batch, and ask for its state until it has ended. Images that are stored can be searched, "
    "and their categories corrected: that changes the next answers."
)
MAX_SHOWN = 100
"""Maximum number of images and results in one answer."""


class Refused(Exception):
    """What an assistant asks for is not possible; the message says why."""


def mcp(
    folder: Annotated[
        Path,
        typer.Option(
            exists=True, file_okay=False, help="Images are read in this folder and below only."
        ),
    ] = Path(),
    data: Data = None,
) -> None:
    """Offer classification to an assistant by the Model Context Protocol (MCP), on standard input.

    A running `up` is found by its data folder and needs no API key. To use another server, set
    CATEGORIZER_CLIENT__BASE_URL and CATEGORIZER_CLIENT__API_KEY.
    """
    server = server_of(data)

    async def run() -> None:
        async with AsyncImageCategorizationClient(
            server.api_key, server.base_url, tls=server.tls
        ) as client:
            await mcp_server(client, folder.resolve()).run_stdio_async()

    asyncio.run(run())


def mcp_server(client: AsyncImageCategorizationClient, folder: Path) -> "MCPServer":
    """Returns the server of the protocol.

    Args:
        client: of the server that does the work.
        folder: where images are read, and below.

    Raises:
        OperatorError: the package mcp is not installed.
    """
    try:
        from mcp.server import MCPServer
        from mcp.types import ToolAnnotations
    except ModuleNotFoundError:
        raise OperatorError(
            "mcp is not installed. Run `pip install 'image-categorizer-server[mcp]'`."
        ) from None
    server = MCPServer(
        "image-categorizer", instructions=INSTRUCTIONS, version=VERSION, log_level="WARNING"
    )
    tools = Tools(client, folder)
    reading = server.tool(annotations=ToolAnnotations(read_only_hint=True))
    writing = server.tool(annotations=ToolAnnotations(destructive_hint=False))
    writing(_explained(tools.classify_image))  # which may store the image
    writing(_explained(tools.submit_batch))
    reading(_explained(tools.get_batch))
    reading(_explained(tools.list_batch_results))
    reading(_explained(tools.search))
    writing(_explained(tools.correct))
    return server


def _explained(tool: Callable[Given, Awaitable[Answer]]) -> Callable[Given, Awaitable[Answer]]:
    """Returns a tool whose expected errors say what to do, and no more."""
    from mcp.server.mcpserver.exceptions import ToolError

    @wraps(tool)
    async def explained(*args: Given.args, **words: Given.kwargs) -> Answer:
        try:
            return await tool(*args, **words)
        except CategorizerError as error:
            raise ToolError(error.message) from None
        except Refused as error:
            raise ToolError(str(error)) from None
        except OSError as error:
            raise ToolError(error.strerror or "the file cannot be read") from None

    return explained


class Tools:
    """What an assistant may call. The docstrings are what it reads."""

    def __init__(self, client: AsyncImageCategorizationClient, folder: Path) -> None:
        """Configures the tools; see `mcp_server`."""
        self._client = client
        self._folder = folder

    async def classify_image(
        self, image: str, top_k: int = 5, model: str = "", *, store: bool = False
    ) -> Fields:
        """Return the categories of one image, the most confident first.

        `image` is a path or an https address. With `store`, the image is kept, and the answer has
        an `image_id` for `search` and `correct`.
        """
        if is_uri(image):
            answer = await self._client.classify_image(
                image_uri=image, top_k=top_k, model=model, store=store
            )
        else:
            answer = await self._client.classify_image(
                self._file(image), top_k=top_k, model=model, store=store
            )
        kept = {"image_id": answer.image_id} if answer.image_id else {}
        shown = f"{answer.model.name} {answer.model.version}"
        return {"predictions": _shown(answer.predictions), "model": shown} | kept

    async def submit_batch(self, images: list[str], top_k: int = 1, model: str = "") -> Fields:
        """Submit many images as a batch, and return its `batch_id`.

        `images` are paths of files, folders and zip files, or https addresses; not both.
        """
        addresses = [image for image in images if is_uri(image)]
        if not images or (addresses and len(addresses) < len(images)):
            raise Refused("name files, or addresses, at least one, and not both")
        batches = self._client.batches
        if addresses:
            return _state(await batches.submit_uris(addresses, top_k=top_k, model=model))
        files: list[str | Path] = []
        for image in images:
            path = self._file(image)
            found = sorted(path.rglob("*")) if path.is_dir() else [path]
            files += [file for file in found if file.is_file() and self._is_inside(file)]
        return _state(await batches.submit(files, top_k=top_k, model=model))

    async def get_batch(self, batch_id: str) -> Fields:
        """Return how far a batch is: its state and its counts."""
        return _state(await self._client.batches.get(batch_id))

    async def list_batch_results(self, batch_id: str, limit: int = MAX_SHOWN) -> list[Fields]:
        """Return the first results of a batch: predictions, or the error of an image."""
        shown: list[Fields] = []
        async for result in self._client.batches.results(batch_id):
            if len(shown) >= min(limit, MAX_SHOWN):
                break
            shown.append(_result(result))
        return shown

    async def search(
        self, category: str = "", filename: str = "", tag: str = "", limit: int = 20
    ) -> list[Fields]:
        """Return stored images, the newest first.

        `category` is that of the best prediction, or a broader one above it; `filename` are words
        of it.
        """
        given = ImageFilters(category=category, filename=filename, tags=[tag] if tag else [])
        shown: list[Fields] = []
        async for image in self._client.images.list(**given):
            if len(shown) >= min(limit, MAX_SHOWN):
                break
            found = image.result.predictions[:1] if image.result else ()
            shown.append(
                {
                    "image_id": image.image_id,
                    "filename": image.filename,
                    "tags": list(image.tags),
                    "predictions": _shown(found),
                }
            )
        return shown

    async def correct(self, image_id: str, category: str) -> Fields:
        """Say which category a stored image shows; next answers for similar images follow it."""
        feedback = await self._client.images.correct(image_id, category)
        return {"feedback_id": feedback.feedback_id, "category": feedback.category}

    def _file(self, name: str) -> Path:
        """Returns a path below the folder.

        Raises:
            Refused: it is not below the folder, or there is no such file.
        """
        path = self._folder / name
        if not self._is_inside(path):
            raise Refused(f"the path is not below {self._folder}")
        if not path.exists():
            raise Refused("there is no such file")
        return path

    def _is_inside(self, path: Path) -> bool:
        """Returns whether a path, its links followed, is below the folder."""
        return path.resolve().is_relative_to(self._folder)


def _shown(predictions: "tuple[Prediction, ...]") -> list[Fields]:
    return [
        {"category": one.category, "confidence": round(one.confidence, 4)} for one in predictions
    ]


def _state(batch: Batch) -> Fields:
    return {
        "batch_id": batch.batch_id,
        "state": batch.state,
        "has_ended": batch.has_ended,
        "item_count": batch.item_count,
        "succeeded_count": batch.succeeded_count,
        "failed_count": batch.failed_count,
    }


def _result(result: "BatchResult") -> Fields:
    outcome: Fields = {"predictions": _shown(result.predictions)}
    if result.error:
        outcome = {"error": result.error.message}
    return {"filename": result.filename} | outcome
