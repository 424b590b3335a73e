"""models alias: which version of a model serves."""

from typing import Annotated

import typer

from image_categorizer_server.cli.options import Data, note
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.aliases import ALIAS, CANARY
from image_categorizer_server.inference.models.repository import Repository
from image_categorizer_server.local.installation import settings_for


def register(app: typer.Typer) -> None:
    """Adds the command to those of the model repository."""
    app.command()(alias)


def alias(
    name: Annotated[str, typer.Argument(help="The model's name.")],
    alias: Annotated[str, typer.Argument(help="stable, canary, or any other name.")],
    version: Annotated[
        int | None, typer.Argument(min=1, help="The version it is to point to.")
    ] = None,
    canary_percent: Annotated[
        float,
        typer.Option(
            min=0, max=100, help="Percent of the requests without a version that canary answers."
        ),
    ] = 0.0,
    remove: Annotated[bool, typer.Option("--remove", help="Take the alias away.")] = False,
    data: Data = None,
) -> None:
    """Point an alias to a version; running servers follow within seconds, once it is ready there.

    Requests that name no version are answered by stable, or by the newest where there is no stable.
    """
    _check_call(alias, version, canary_percent, remove)
    repository = Repository(settings_for(data).model_path)
    held = [found.version for found in repository.scan() if found.name == name]
    if not held or (version is not None and version not in held):
        wanted = name if version is None or not held else f"{name} version {version}"
        raise OperatorError(
            f"There is no model {wanted}; `image-categorizer models list` shows all."
        )
    aliases = repository.change_alias(name, alias, version, canary_percent)
    shown = ", ".join(f"{key} is version {number}" for key, number in aliases.versions.items())
    share = f"; canary gets {aliases.canary_percent:g} %" if aliases.canary_percent else ""
    note().print(f"{name}: {shown or 'no aliases'}{share}", markup=False)


def _check_call(alias: str, version: int | None, canary_percent: float, remove: bool) -> None:
    if not ALIAS.fullmatch(alias):
        raise typer.BadParameter(
            "an alias has 1 to 32 lower-case letters, digits and hyphens, the first a letter",
            param_hint="ALIAS",
        )
    if remove == (version is not None):
        raise typer.BadParameter("name a version, or --remove", param_hint="VERSION")
    if canary_percent and (alias != CANARY or remove):
        raise typer.BadParameter("is for the alias canary only", param_hint="--canary-percent")
