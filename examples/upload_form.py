"""A page with an upload form, by FastAPI: whoever opens it classifies a photograph.

    pip install fastapi uvicorn python-multipart
    API_KEY=ic_... python examples/upload_form.py --port 8000

The key stays in this program; browsers never see it. Put a sign-in of your own in front of the page
before you let others reach it.
"""

import argparse
import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import escape

import uvicorn
from fastapi import FastAPI, Request, UploadFile
from fastapi.responses import HTMLResponse
from image_categorizer import (
    AsyncImageCategorizationClient,
    CategorizerError,
    Classification,
    Unavailable,
)

MAX_BYTES = 10 * 2**20
# The formats that browsers show, by how their files begin.
SHOWN = {b"\xff\xd8\xff": "jpeg", b"\x89PNG\r\n": "png", b"GIF8": "gif"}
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>What is in the picture?</title>
<style>
  body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 32rem; margin: auto; padding: 1rem }}
  img {{ max-width: 100%; max-height: 20rem }}
  meter {{ width: 10rem }}
</style>
<h1>What is in the picture?</h1>
<form method="post" action="/" enctype="multipart/form-data">
  <label>Photograph <input type="file" name="image" accept="image/*" required></label>
  <button>Classify</button>
</form>
{answer}
</html>
"""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keeps one client as long as the program runs: it holds the connection."""
    base_url = os.environ.get("BASE_URL", "localhost:8080")
    async with AsyncImageCategorizationClient(os.environ["API_KEY"], base_url) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)


@app.get("/")
async def form() -> HTMLResponse:
    """Shows the form."""
    return page("")


@app.post("/")
async def classify(request: Request, image: UploadFile) -> HTMLResponse:
    """Classifies the photograph of the form, and shows it with its categories."""
    content = await image.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        return page(said(f"The picture has more than {MAX_BYTES // 2**20} MB."), 413)
    client: AsyncImageCategorizationClient = request.app.state.client
    try:
        result = await client.classify_image(content, top_k=5)
    except Unavailable:
        return page(said("The server is busy. Try again in a moment."), 503)
    except CategorizerError as error:
        return page(said(error.message), 400)
    return page(shown(content) + table(result))


def table(result: Classification) -> str:
    """Returns the categories with a bar for each. They come from outside: never as markup."""
    rows = (
        f'<tr><td>{escape(one.category)}<td><meter value="{one.confidence:.3f}"></meter>'
        f"<td>{one.confidence:.1%}"
        for one in result.predictions
    )
    return f"<table>{''.join(rows)}</table>"


def shown(content: bytes) -> str:
    """Returns the picture as an element, if browsers show its format."""
    for beginning, kind in SHOWN.items():
        if content.startswith(beginning):
            data = base64.b64encode(content).decode()
            return f'<p><img alt="The picture" src="data:image/{kind};base64,{data}">'
    return ""


def said(sentence: str) -> str:
    """Returns a message as an element."""
    return f'<p role="alert">{escape(sentence)}'


def page(answer: str, status: int = 200) -> HTMLResponse:
    """Returns the page with an answer below the form."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'"
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store"}
    return HTMLResponse(PAGE.format(answer=answer), status, headers)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve a page that classifies photographs.")
    parser.add_argument("--port", type=int, default=8000)
    uvicorn.run(app, host="127.0.0.1", port=parser.parse_args().port)
