"""The process that runs the models of all server processes: CATEGORIZER_SERVER__MODEL_PROCESS."""

import asyncio
import socket
import sys

from image_categorizer_server.backend import fake_times, image_limits
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.decode import Decoder
from image_categorizer_server.inference.model_process.host import ModelHost
from image_categorizer_server.inference.models.loader import Loader
from image_categorizer_server.settings import Settings
from image_categorizer_server.tasks import END_S, end_within, stop_on_signals

PROBE_TIMEOUT_S = 2.0


async def run_models(settings: Settings) -> None:
    """Serves models on `CATEGORIZER_INFERENCE__MODEL_SOCKET` until SIGTERM or SIGINT.

    Raises:
        OperatorError: it cannot listen, or it has to be started again; the message says why.
    """
    check_platform()
    if not settings.inference.model_socket:
        raise OperatorError("Set CATEGORIZER_INFERENCE__MODEL_SOCKET to the path of a socket.")
    stop = stop_on_signals()
    # No image is alone here: server processes decode meanwhile.
    loader = Loader(
        Decoder(image_limits(settings)),
        settings.inference.without_single_images(),
        settings.models,
        fake_times(settings.test.fake_model),
    )
    host = ModelHost(loader, settings.models.max_concurrent_loads, settings.inference.stuck_s)
    try:
        await host.serve(settings.inference.model_socket, stop)
    finally:
        end_within(END_S)


def check_platform() -> None:
    """Passes if this system can share memory without a name.

    Raises:
        OperatorError: it is not Linux.
    """
    if sys.platform != "linux":
        raise OperatorError("CATEGORIZER_SERVER__MODEL_PROCESS needs Linux.")


async def is_listening(address: str) -> bool:
    """Returns whether a model process listens on a socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        probe.setblocking(False)
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await asyncio.get_running_loop().sock_connect(probe, address)
        except (OSError, TimeoutError):
            return False
    return True
