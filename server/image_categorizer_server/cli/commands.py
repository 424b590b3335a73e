"""The table of commands. Each is imported when it is called: all of them take a second."""

from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

Command = Any  # typer does not export the class
PACKAGE = "image_categorizer_server.cli"
GROUP = "app"
# Module and function of each command, in the order of the help; a group is the `app` of its module.
COMMANDS = {
    "up": ("run", "up"),
    "serve": ("run", "serve"),
    "migrate": ("run", "migrate"),
    "worker": ("run", "worker"),
    "gateway": ("gateway", "gateway"),
    "gateway-config": ("gateway", "gateway_config"),
    "ready": ("ready", "ready"),
    "drained": ("run", "drained"),
    "backup": ("backup", "backup"),
    "restore": ("backup", "restore"),
    "failpoints": ("run", "failpoints"),
    "model-process": ("run", "model_process"),
    "create-admin": ("key", "create_admin"),
    "classify": ("classify", "classify"),
    "embed": ("embed", "embed"),
    "mcp": ("mcp_server", "mcp"),
    "evaluate": ("evaluate", "evaluate"),
    "bench": ("bench", "bench"),
    "usage": ("usage", "usage"),
    "models": ("models", GROUP),
    "batch": ("batch", GROUP),
    "webhooks": ("webhook", GROUP),
    "images": ("image", GROUP),
    "categories": ("category", GROUP),
    "reviews": ("review", GROUP),
    "keys": ("key", GROUP),
    "subjects": ("subject", GROUP),
    "retention": ("retention", GROUP),
    "legal-holds": ("legal_hold", GROUP),
    "tenants": ("tenant", GROUP),
    "receipts": ("receipt", GROUP),
    "audit": ("audit", GROUP),
    "access": ("access", GROUP),
    "certificates": ("certificates", GROUP),
    "encryption": ("encryption", GROUP),
}
# For tests, and for processes that start others.
HIDDEN = {"failpoints", "model-process"}


class Commands(TyperGroup):
    """The commands of the table, and those that were added to it."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Imported(self.commands)


class _Imported(MutableMapping[str, Command]):
    """Commands by name, which are imported when they are looked up."""

    def __init__(self, commands: MutableMapping[str, Command]) -> None:
        self._commands = commands

    def __getitem__(self, name: str) -> Command:
        if name not in self._commands:
            self._commands[name] = _import(name)
        return self._commands[name]

    def __setitem__(self, name: str, command: Command) -> None:
        self._commands[name] = command

    def __delitem__(self, name: str) -> None:
        del self._commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**COMMANDS, **self._commands})

    def __len__(self) -> int:
        return len({**COMMANDS, **self._commands})


def _import(name: str) -> Command:
    module, function = COMMANDS[name]
    found = getattr(import_module(f"{PACKAGE}.{module}"), function)
    holder = typer.Typer()
    if function == GROUP:
        holder.add_typer(found, name=name)
    else:
        holder.command(name, hidden=name in HIDDEN)(found)
    return get_group(holder).commands[name]
