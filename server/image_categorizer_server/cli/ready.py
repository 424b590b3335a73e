"""ready: for health checks of containers."""

import asyncio

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.rpc.probe import is_ready, reachable
from image_categorizer_server.settings import load_settings


def ready() -> None:
    """Exit with 0 if the server of this machine would answer a classification, else with 1."""
    settings = load_settings()
    address = reachable(settings.server.bind)
    if not asyncio.run(is_ready(address, settings.internal_tls)):
        raise OperatorError(f"The server at {address} is not ready.")
