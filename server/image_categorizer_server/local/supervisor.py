"""Runs child processes: starts them in order, restarts those that end, leaves none behind.

On Linux the kernel ends the children when the parent ends, even by SIGKILL. On other systems, and
for a child that survives the signal, the next start ends the processes recorded in the pid file.
"""

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO

import psutil

from image_categorizer_server.clock import Backoff
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.local.child import command_of
from image_categorizer_server.tasks import TaskOwner, kill_process, run_until

LOG_BYTES = 10_000_000
LOG_FILES = 3
MAX_LINE_BYTES = 65_536
READY_INTERVAL_S = 0.05
FIRST_RESTART_DELAY_S, MAX_RESTART_DELAY_S = 0.5, 10.0
# A process that ran this long is healthy: its next restart starts again with the shortest delay.
HEALTHY_AFTER_S = 60.0
# Time to stop, in addition to whatever the process waits for.
STOP_S = 10.0
LOG_ENDS_WITHIN_S = 2.0
ORPHAN_STOP_S, ORPHAN_KILL_S = 15.0, 5.0
LAST_LINES = 5
MAX_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class ManagedProcess:
    """A process to run, and how to see that it is ready."""

    name: str
    command: list[str]
    is_ready: Callable[[], Awaitable[bool]]
    """Called repeatedly until it returns True."""
    ready_within_s: float
    stop_within_s: float = STOP_S
    """How long the process may take to stop before it is killed."""
    stop_signal: signal.Signals = signal.SIGTERM
    environment: dict[str, str] | None = None
    """All environment variables; None for ours."""
    user: str | None = None
    """User to run as, without our groups; None for the current user."""
    folder: Path | None = None
    """Working directory, which `user` need not be able to reach by its path; None for ours."""


@dataclass(slots=True)
class _Child:
    managed: ManagedProcess
    process: asyncio.subprocess.Process
    log_task: asyncio.Task[None]
    last_line: str = ""
    """The last line of its log."""
    start_s: float = field(default_factory=time.monotonic)


class Supervisor:
    """Starts, watches and stops child processes."""

    def __init__(
        self,
        report: Callable[[str], None],
        logs: Path | None = None,
        pid_file: Path | None = None,
    ) -> None:
        """Creates a supervisor without processes.

        Args:
            report: receives sentences for the person who watches.
            logs: folder for one log file per process, of bounded size; None to let all processes
                print where we do.
            pid_file: file that records the process IDs for the next start; None to record nothing.
        """
        self._logs = logs
        self._pid_file = pid_file
        self._report = report
        self._children: dict[str, _Child] = {}
        # Names of the processes started together, in the order of the starts.
        self._groups: list[list[str]] = []
        self._tasks = TaskOwner()
        self._is_stopping = False

    def end_orphans(self) -> int:
        """Ends processes that an interrupted run left behind. Returns how many there were."""
        if self._pid_file is None:
            return 0
        try:
            recorded = json.loads(self._pid_file.read_text())
        except (OSError, ValueError):
            return 0
        orphans = []
        for entry in recorded:
            try:
                process = psutil.Process(entry["pid"])
                # Process IDs are reused. The creation time tells whether this is still ours.
                if abs(process.create_time() - entry["create_time"]) < 1:
                    process.send_signal(entry["stop_signal"])
                    orphans.append(process)
            except psutil.NoSuchProcess:
                continue
        _, alive = psutil.wait_procs(orphans, timeout=ORPHAN_STOP_S)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, timeout=ORPHAN_KILL_S)
        self._pid_file.unlink()
        return len(orphans)

    async def start(self, *processes: ManagedProcess) -> None:
        """Starts processes and returns when all are ready. They will be stopped together.

        The first one starts before the others: they reuse what it prepares, such as exported
        models.

        Raises:
            OperatorError: a process ended, or was not ready in time. The message includes the last
                lines of its log.
        """
        self._groups.append([managed.name for managed in processes])
        first, *others = processes
        await self._start(first)
        await asyncio.gather(*map(self._start, others))

    async def _start(self, managed: ManagedProcess) -> None:
        child = await self._spawn(managed)
        deadline_s = time.monotonic() + managed.ready_within_s
        while not await managed.is_ready():
            if child.process.returncode is not None:
                await self._log_ended(child)
                raise OperatorError(
                    f"{managed.name} ended with status {child.process.returncode}."
                    f"{self._last_lines(managed.name)}"
                )
            if time.monotonic() > deadline_s:
                raise OperatorError(
                    f"{managed.name} was not ready within {managed.ready_within_s:g} s."
                    f"{self._last_lines(managed.name)}"
                )
            await asyncio.sleep(READY_INTERVAL_S)

    async def run(self, work: Coroutine[object, object, None], stop: asyncio.Event) -> None:
        """Runs `work` until it ends or `stop` is set, then stops all processes.

        Args:
            work: starts the processes and watches them.
            stop: ends the run.

        Raises:
            OperatorError: a process did not start.
        """
        try:
            await run_until(stop, work)
            self._report("Stopping.")
        finally:
            await self.stop()

    async def watch(self) -> None:
        """Restarts processes that end, with growing delays. Runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name in list(self._children):
                group.create_task(self._keep_alive(name))

    async def stop(self) -> None:
        """Stops all processes, the last started first. Kills those that do not stop in time."""
        self._is_stopping = True
        for names in reversed(self._groups):
            await asyncio.gather(
                *(self._stop(self._children[name]) for name in names if name in self._children)
            )
        self._groups.clear()
        self._children.clear()
        await self._tasks.close()
        if self._pid_file:
            self._pid_file.unlink(missing_ok=True)

    async def _stop(self, child: _Child) -> None:
        managed, process = child.managed, child.process
        if process.returncode is None:
            process.send_signal(managed.stop_signal)
            try:
                async with asyncio.timeout(managed.stop_within_s):
                    await process.wait()
            except TimeoutError:
                self._report(
                    f"{managed.name} did not stop within {managed.stop_within_s:g} s "
                    "and was killed."
                )
                await kill_process(process)
        await self._log_ended(child)

    async def _log_ended(self, child: _Child) -> None:
        """Waits until all that a process has printed is in its log.

        Not for ever: a process that it started, and that outlives it, keeps the output open.
        """
        await asyncio.wait({child.log_task}, timeout=LOG_ENDS_WITHIN_S)

    def kill(self) -> None:
        """Kills all processes without waiting."""
        for child in self._children.values():
            if child.process.returncode is None:
                child.process.kill()

    def doing(self, name: str) -> str:
        """Returns a sentence about what processes with this name are doing, from their logs."""
        for child in self._children.values():
            if child.managed.name.startswith(name) and child.last_line:
                return f"The last line of its log: {child.last_line:.{MAX_SHOWN_CHARACTERS}}"
        return "Its log is empty so far."

    def _last_lines(self, name: str) -> str:
        """Returns the end of a process's log, to print below an error."""
        if self._logs is None:
            return ""
        file = self._logs / f"{name}.log"
        try:
            lines = file.read_text(errors="replace").splitlines()[-LAST_LINES:]
        except OSError:
            return ""
        return "".join(f"\n  {line}" for line in [f"From {file}:", *lines])

    async def _keep_alive(self, name: str) -> None:
        backoff = Backoff(FIRST_RESTART_DELAY_S, MAX_RESTART_DELAY_S, jitter=0)
        while True:
            child = self._children[name]
            status = await child.process.wait()
            if self._is_stopping:
                return
            if time.monotonic() - child.start_s > HEALTHY_AFTER_S:
                backoff.reset()
            delay_s = backoff.next_s()
            self._report(f"{name} ended with status {status}; starting it again in {delay_s:g} s")
            await self._log_ended(child)
            await asyncio.sleep(delay_s)
            if not self._is_stopping:
                await self._spawn(child.managed)

    async def _spawn(self, managed: ManagedProcess) -> _Child:
        if self._is_stopping:
            raise OperatorError(f"{managed.name} was not started: everything is stopping.")
        with _output_pipe() if self._logs else nullcontext((None, None)) as (output, printed):
            process = await asyncio.create_subprocess_exec(
                *command_of(os.getpid(), managed.stop_signal, managed.user, managed.command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                env=managed.environment,
                cwd=managed.folder,
                # Ctrl-C must reach only the parent, which stops its children in order.
                start_new_session=True,
            )
        log_task = self._tasks.start(self._log_output(managed, output), f"log of {managed.name}")
        child = _Child(managed, process, log_task)
        self._children[managed.name] = child
        self._record()
        return child

    async def _log_output(self, managed: ManagedProcess, output: IO[bytes] | None) -> None:
        """Writes what the process prints to its log, until it ends."""
        if self._logs is None or output is None:
            return
        printed = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(printed), output
        )
        log = _rotating_log(managed.name, self._logs / f"{managed.name}.log", self._report)
        rest = b""
        try:
            while chunk := await printed.read(MAX_LINE_BYTES):
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > MAX_LINE_BYTES:
                    lines, rest = [*lines, rest], b""
                for line in lines:
                    log.info(line.decode(errors="replace"))
                if lines and (child := self._children.get(managed.name)):
                    child.last_line = lines[-1].decode(errors="replace")
            if rest:
                log.info(rest.decode(errors="replace"))
        finally:
            transport.close()
            for handler in log.handlers:
                handler.close()

    def _record(self) -> None:
        if self._pid_file is None:
            return
        entries = []
        for child in self._children.values():
            try:
                create_time = psutil.Process(child.process.pid).create_time()
            except psutil.NoSuchProcess:
                continue
            entry = {
                "name": child.managed.name,
                "pid": child.process.pid,
                "create_time": create_time,
                "stop_signal": int(child.managed.stop_signal),
            }
            entries.append(entry)
        try:
            self._pid_file.write_text(json.dumps(entries))
        except OSError as error:  # a full disk must not end what runs
            self._report(f"Cannot write {self._pid_file}: {error.strerror}.")


@contextmanager
def _output_pipe() -> Iterator[tuple[IO[bytes], int]]:
    """Yields both ends of a pipe: where to read, and what a process started in the block writes to.

    With a pipe of asyncio, the wait for a process would last until all that it has started, and
    that outlives it, has closed its output too.
    """
    read_end, write_end = os.pipe()
    output = os.fdopen(read_end, "rb", buffering=0)
    try:
        yield output, write_end
    except BaseException:
        output.close()
        raise
    finally:
        os.close(write_end)


class _LogFile(RotatingFileHandler):
    """Reports once that it cannot be written, instead of a traceback for each line."""

    def __init__(self, file: Path, report: Callable[[str], None]) -> None:
        super().__init__(file, maxBytes=LOG_BYTES, backupCount=LOG_FILES - 1, delay=True)
        with suppress(OSError):  # it is opened, and the error reported, with the first line
            file.touch()
        self._report = report
        self._is_reported = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - logging's name
        if not self._is_reported:
            self._is_reported = True
            self._report(f"Cannot write {self.baseFilename}: {sys.exc_info()[1]}.")


def _rotating_log(name: str, file: Path, report: Callable[[str], None]) -> logging.Logger:
    # Not from logging.getLogger(): nothing else may write to the file of a process.
    log = logging.Logger(name)  # noqa: LOG001
    log.addHandler(_LogFile(file, report))
    return log
