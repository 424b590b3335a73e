"""receipts: verified without a server."""

import json
from pathlib import Path
from typing import Annotated

import typer
from image_categorizer import ReceiptInvalid, verify_receipt

from image_categorizer_server.errors import OperatorError

app = typer.Typer(help="Verify receipts of results.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="The receipt, or the JSON that holds it.")],
    keys: Annotated[Path, typer.Option(help="The public keys: GET /v1/receipts/keys.")],
    image: Annotated[Path | None, typer.Option(help="The image, as it was sent.")] = None,
) -> None:
    """Verify a receipt without a server, and print what it states."""
    try:
        text = file.read_text().strip()
        receipt = str(json.loads(text)["receipt"]) if text.startswith("{") else text
        key_set = dict(json.loads(keys.read_text()))
    except (ValueError, KeyError, TypeError):
        raise OperatorError(f"{file} holds no receipt, or {keys} no JSON Web Key Set.") from None
    try:
        claims = verify_receipt(receipt, key_set, image.read_bytes() if image else None)
    except ReceiptInvalid as error:
        raise OperatorError(f"The receipt is not valid: {error}.") from None
    print(json.dumps(claims, indent=1, ensure_ascii=False))
