"""access: what the server makes of credentials."""

import asyncio
import sys
from typing import Annotated

import typer

from image_categorizer_server.access.api_key import PREFIX
from image_categorizer_server.access.jws import TokenRefused
from image_categorizer_server.access.roles import RpcAccess, authorize
from image_categorizer_server.cli.connection import Data
from image_categorizer_server.cli.output import printable, say
from image_categorizer_server.domain.access import Principal
from image_categorizer_server.errors import CategorizerError, OperatorError, RoleInsufficient
from image_categorizer_server.local.installation import settings_for
from image_categorizer_server.services.token import open_tokens
from image_categorizer_server.settings import Settings
from image_categorizer_server.telemetry import configure_logging

app = typer.Typer(help="Show what the server makes of credentials.", no_args_is_help=True)
STANDARD_INPUT = "-"
MAX_READ_CHARACTERS = 200_000


@app.callback()
def _access() -> None:
    """Keeps `explain` a command of its own while it is the only one."""


@app.command()
def explain(
    token: Annotated[
        str,
        typer.Argument(
            help="Access token, or - to read it from standard input, which keeps it out of the "
            "shell's history.",
        ),
    ],
    data: Data = None,
) -> None:
    """Show step by step whether the server accepts an access token, and what it permits.

    Reads the keys of the issuers again. Exit code 1 means that the token is refused.
    """
    configure_logging("ERROR", "console")
    text = (sys.stdin.read(MAX_READ_CHARACTERS) if token == STANDARD_INPUT else token).strip()
    if text.lower().startswith("bearer "):
        text = text[len("bearer ") :].strip()
    if text.startswith(PREFIX):
        raise OperatorError("This is an API key; `image-categorizer keys list` shows what it is.")
    principal = asyncio.run(_explained(text, settings_for(data)))
    permitted = _permitted(principal)
    say(f"The token is accepted. It permits {len(permitted)} RPCs:")
    for name in permitted:
        print(name)


async def _explained(text: str, settings: Settings) -> Principal:
    """Prints each check that the token passes, and returns its caller.

    Raises:
        OperatorError: names the check that it does not pass.
    """
    async with open_tokens(settings) as tokens:
        if tokens is None:
            raise OperatorError(
                "No issuer is configured, so no token is accepted: set CATEGORIZER_TOKEN__ISSUERS."
            )
        async with asyncio.TaskGroup() as group:
            for issuer in tokens.verifier.issuers:
                group.create_task(issuer.keys.refresh())
        for issuer in tokens.verifier.issuers:
            if problem := issuer.keys.problem:
                say(f"The keys of {issuer.settings.name} cannot be read: {problem}.")
        try:
            return await tokens.verifier.explain(text, _print_step)
        except TokenRefused as error:
            raise OperatorError(f"The token is refused: {error}.") from None
        except CategorizerError as error:
            raise OperatorError(f"The token is refused: {error.message}.") from None


def _print_step(sentence: str) -> None:
    print(printable(sentence))


def _permitted(principal: Principal) -> list[str]:
    """Returns the RPCs that a caller may call, with their services; not those for everybody."""
    # gRPC takes a second to import.
    from image_categorizer_server.rpc.services import access_by_method, our_services

    found = []
    for path, access in access_by_method(our_services()).items():
        if access.required_role is not None and _may(principal, access):
            found.append(path.rpartition(".")[2].replace("/", "."))
    return sorted(found)


def _may(principal: Principal, access: RpcAccess) -> bool:
    try:
        authorize(principal, access)
    except RoleInsufficient:
        return False
    return True
