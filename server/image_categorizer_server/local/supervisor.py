"""Runs child processes: starts them in order, restarts what dies, leaves no orphan.

On Linux the kernel ends the children when their parent dies, even by SIGKILL; elsewhere, and for a
child that outlives the signal, the next start finds the recorded pids.
"""

import asyncio
import json
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from pathlib import Path

import psutil

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.local.child import command_of

LOG_BYTES = 10_000_000
LOG_FILES = 3
MOST_LINE_BYTES = 65_536
POLL_S = 0.05
BACK_OFF_S = (0.5, 1.0, 2.0, 5.0, 10.0)
HEALTHY_AFTER_S = 60.0
STOP_S = 10.0  # what a part may take to stop, beside what it waits for
LAST_LINES = 5


@dataclass(frozen=True, slots=True)
class Part:
    """One child process."""

    name: str
    command: list[str]
    is_ready: Callable[[], Awaitable[bool]]
    """Asked until it says yes."""
    ready_within_s: float
    stop_within_s: float
    stop_signal: signal.Signals = signal.SIGTERM
    environment: dict[str, str] | None = None
    user: str | None = None
    """Whom to run as; None for the same user."""


@dataclass(slots=True)
class _Child:
    part: Part
    process: asyncio.subprocess.Process
    reading: asyncio.Task[None]
    start_s: float = field(default_factory=time.monotonic)


class Supervisor:
    """Owns the child processes of one installation."""

    def __init__(
        self, logs: Path | None, pid_file: Path | None, report: Callable[[str], None]
    ) -> None:
        """Configures the supervisor.

        Args:
            logs: folder for one bounded log file a part; None: all print where we print.
            pid_file: where the pids are kept for the next start; None: nowhere.
            report: takes one sentence for the person who watches.
        """
        self._logs = logs
        self._pid_file = pid_file
        self._report = report
        self._children: dict[str, _Child] = {}
        self._ranks: list[list[str]] = []
        self._is_stopping = False

    def end_orphans(self) -> int:
        """Ends what an interrupted run left; returns how many processes that were."""
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
                if abs(process.create_time() - entry["create_time"]) < 1:
                    process.send_signal(entry["stop_signal"])
                    orphans.append(process)
            except psutil.NoSuchProcess:
                continue
        _, alive = psutil.wait_procs(orphans, timeout=15)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, timeout=5)
        self._pid_file.unlink()
        return len(orphans)

    async def start(self, *parts: Part) -> None:
        """Starts parts and returns once they are ready; they will stop side by side.

        The first goes ahead: what it prepares, such as exports of models, the others find.

        Raises:
            OperatorError: one ends at once, or is not ready in time; holds its last log
                lines.
        """
        self._ranks.append([part.name for part in parts])
        first, *others = parts
        await self._start(first)
        await asyncio.gather(*map(self._start, others))

    async def _start(self, part: Part) -> None:
        child = await self._spawn(part)
        deadline_s = time.monotonic() + part.ready_within_s
        while not await part.is_ready():
            if child.process.returncode is not None:
                await child.reading
                raise OperatorError(
                    f"{part.name} ended with status {child.process.returncode}."
                    f"{self.last_lines(part.name)}"
                )
            if time.monotonic() > deadline_s:
                raise OperatorError(
                    f"{part.name} was not ready within {part.ready_within_s:g} s."
                    f"{self.last_lines(part.name)}"
                )
            await asyncio.sleep(POLL_S)

    async def run(self, work: Coroutine[object, object, None], stop: asyncio.Event) -> None:
        """Does `work` until it fails or `stop` is set, then stops all parts.

        Raises:
            OperatorError: as `work` does.
        """
        working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                await working
            self._report("Stopping.")
        finally:
            working.cancel()
            stopping.cancel()
            await asyncio.gather(working, stopping, return_exceptions=True)
            await self.stop()

    async def watch(self) -> None:
        """Restarts parts that end, with growing delays, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name in list(self._children):
                group.create_task(self._keep_alive(name))

    async def stop(self) -> None:
        """Stops all parts, the last started first; a part that does not stop in time is killed."""
        self._is_stopping = True
        for rank in reversed(self._ranks):
            await asyncio.gather(
                *(self._stop(self._children[name]) for name in rank if name in self._children)
            )
        self._ranks.clear()
        self._children.clear()
        if self._pid_file:
            self._pid_file.unlink(missing_ok=True)

    async def _stop(self, child: _Child) -> None:
        part, process = child.part, child.process
        if process.returncode is None:
            process.send_signal(part.stop_signal)
            try:
                async with asyncio.timeout(part.stop_within_s):
                    await process.wait()
            except TimeoutError:
                self._report(
                    f"{part.name} did not stop within {part.stop_within_s:g} s and was killed"
                )
                process.kill()
                await process.wait()
        await child.reading

    def kill(self) -> None:
        """Kills all parts at once."""
        for child in self._children.values():
            if child.process.returncode is None:
                child.process.kill()

    def last_lines(self, name: str) -> str:
        """Returns the end of a part's log, to print below an error."""
        if self._logs is None:
            return ""
        try:
            lines = (
                (self._logs / f"{name}.log").read_text(errors="replace").splitlines()[-LAST_LINES:]
            )
        except OSError:
            return ""
        return "".join(f"\n  {line}" for line in [f"From {self._logs / name}.log:", *lines])

    async def _keep_alive(self, name: str) -> None:
        restarts = 0
        while True:
            child = self._children[name]
            status = await child.process.wait()
            if self._is_stopping:
                return
            if time.monotonic() - child.start_s > HEALTHY_AFTER_S:
                restarts = 0
            delay_s = BACK_OFF_S[min(restarts, len(BACK_OFF_S) - 1)]
            restarts += 1
            self._report(f"{name} ended with status {status}; starting it again in {delay_s:g} s")
            await child.reading
            await asyncio.sleep(delay_s)
            if not self._is_stopping:
                await self._spawn(child.part)

    async def _spawn(self, part: Part) -> _Child:
        if self._is_stopping:
            raise OperatorError(f"{part.name} was not started: everything is stopping.")
        process = await asyncio.create_subprocess_exec(
            *command_of(os.getpid(), part.stop_signal, part.user, part.command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if self._logs else None,
            stderr=asyncio.subprocess.STDOUT if self._logs else None,
            env=part.environment,
            start_new_session=True,  # Ctrl-C is for the parent, which stops its children in order
        )
        child = _Child(part, process, asyncio.create_task(self._read(part, process)))
        self._children[part.name] = child
        self._record()
        return child

    async def _read(self, part: Part, process: asyncio.subprocess.Process) -> None:
        if self._logs:
            log = _rotating_log(part.name, self._logs / f"{part.name}.log")
            await _copy(process, log)

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
                "name": child.part.name,
                "pid": child.process.pid,
                "create_time": create_time,
                "stop_signal": int(child.part.stop_signal),
            }
            entries.append(entry)
        self._pid_file.write_text(json.dumps(entries))


def _rotating_log(name: str, file: Path) -> logging.Logger:
    log = logging.Logger(name)  # noqa: LOG001 - of its own: nothing else may write to a part's file
    handler = RotatingFileHandler(file, maxBytes=LOG_BYTES, backupCount=LOG_FILES - 1)
    log.addHandler(handler)
    return log


async def _copy(process: asyncio.subprocess.Process, log: logging.Logger) -> None:
    """Writes what the process prints to its log, until it ends."""
    assert process.stdout is not None
    rest = b""
    try:
        while chunk := await process.stdout.read(MOST_LINE_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > MOST_LINE_BYTES:
                lines, rest = [*lines, rest], b""
            for line in lines:
                log.info(line.decode(errors="replace"))
        if rest:
            log.info(rest.decode(errors="replace"))
    finally:
        for handler in log.handlers:
            handler.close()
