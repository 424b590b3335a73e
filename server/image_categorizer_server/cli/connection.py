"""Connects a command to the server, or to the database, of the installation it is meant for."""

import asyncio
import os
import pwd
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NamedTuple, TypeVar

import typer
from image_categorizer import CategorizerError, ImageCategorizationClient, Tls

from image_categorizer_server.db.database import open_database
from image_categorizer_server.db.schema import schema_problem
from image_categorizer_server.domain.access import Role
from image_categorizer_server.domain.audit import Actor, current_actor
from image_categorizer_server.domain.tenant import all_tenants
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.local.installation import (
    DEFAULT_DATA,
    find_installation,
    settings_for,
)
from image_categorizer_server.services import key as keys

Result = TypeVar("Result")
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help=f"Data folder of a local installation. [default: {DEFAULT_DATA}]",
        show_default=False,
    ),
]


class Server(NamedTuple):
    """A server, and how to call it."""

    base_url: str
    api_key: str
    root_certificates_path: str
    server_name: str

    @property
    def tls(self) -> Tls | None:
        """Which certificate it must show; None if the usual rules do."""
        if not (self.root_certificates_path or self.server_name):
            return None
        return Tls(
            root_certificates=self.root_certificates_path or None, server_name=self.server_name
        )


def server_of(data: Path | None, role: Role = Role.CLASSIFIER) -> Server:
    """Returns the server that a command is meant for, and the API key to call it with.

    A local installation needs no key from the user: the command line creates one for each role on
    first use. Anyone who can read the installation's folder can read its database, so the stored
    key grants nothing new.

    Args:
        data: data folder of a local installation; None for the default folder.
        role: role of the key to create. A key given in the settings is used as it is.

    Raises:
        OperatorError: there is no server to connect to.
        DependencyDown: the database does not answer.
    """
    client = settings_for(data).client
    if client.base_url:
        return Server(
            client.base_url,
            client.read_api_key(),
            client.root_certificates_path,
            client.server_name,
        )
    installation = find_installation(data)
    addresses = installation.addresses() if installation else None
    if installation is None or addresses is None:
        raise OperatorError(
            "No server found. Start one with `image-categorizer up`, "
            "or set CATEGORIZER_CLIENT__BASE_URL and CATEGORIZER_CLIENT__API_KEY."
        )
    api_key = client.read_api_key() or installation.saved_key(role)
    if not api_key:
        api_key = with_database(installation.data, keys.create_key("command line", role)).secret
        installation.save_key(role, api_key)
    return Server(
        addresses.base_url, api_key, addresses.root_certificates_path, addresses.server_name
    )


@contextmanager
def client_of(
    data: Path | None, role: Role = Role.CLASSIFIER
) -> Iterator[ImageCategorizationClient]:
    """Yields a client of that server. Errors of the client become `OperatorError`.

    Raises:
        OperatorError: there is no server to connect to, or it refuses or does not answer.
    """
    server = server_of(data, role)
    with ImageCategorizationClient(server.api_key, server.base_url, tls=server.tls) as client:
        try:
            yield client
        except CategorizerError as error:
            raise OperatorError(error.message) from None


def with_database(data: Path | None, work: Coroutine[None, None, Result]) -> Result:
    """Runs `work` with the database open for all tenants, and returns its result."""
    settings = settings_for(data)

    async def run() -> Result:
        act_as_user()
        with all_tenants():
            async with open_database(settings.database_url, settings.database):
                if problem := await schema_problem():
                    raise OperatorError(f"{problem[0].upper()}{problem[1:]}.")
                return await work

    try:
        return asyncio.run(run())
    finally:
        work.close()


def act_as_user() -> None:
    """Makes the user of the operating system the actor of what follows in this context."""
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # in a container
        name = str(os.geteuid())
    current_actor.set(Actor(f"cli:{name}"))
