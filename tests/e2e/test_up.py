"""`up`: starts, crashes, interruptions, refusals."""

import contextlib
import json
import os
import shlex
import signal
import socket
import stat
import subprocess
from pathlib import Path

import httpx
import psutil
import pytest
from image_categorizer_server.local.embedded import DATABASE_USER, OWNER

from tests.support.database import connect_as_owner
from tests.support.polling import wait_until
from tests.support.up import COMMAND, Up, command, environment, free_port

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def fresh(tmp_path):
    """An installation that a test starts; with the fake model, which loads at once."""
    running = Up(tmp_path / "data", free_port(), {"CATEGORIZER_TEST__FAKE_MODEL": "0,0"})
    yield running
    if running.is_running:
        running.stop()


@pytest.fixture(scope="module")
def running(clean_environment, tmp_path_factory):
    """An installation with a long path, for tests that restore its state."""
    deep = tmp_path_factory.mktemp("running") / ("d" * 60) / ("e" * 60)
    started = Up(deep, free_port(), {"CATEGORIZER_TEST__FAKE_MODEL": "0,0"})
    started.start()
    yield started
    assert started.stop() == 0


def alive_after(processes: list[psutil.Process], within_s: float) -> list[psutil.Process]:
    """Waits until the processes have ended. Returns those that have not."""
    return psutil.wait_procs(processes, timeout=within_s)[1]


def test_the_first_start_shows_the_key_and_the_second_keeps_the_data(fresh):
    fresh.start()
    key = fresh.shown_key()
    headers = {"authorization": f"Bearer {key}"}
    assert httpx.get(f"{fresh.url}/v1/info", headers=headers).status_code == 200
    example = next(line for line in fresh.lines if "curl" in line)
    tried = subprocess.run(shlex.split(example), capture_output=True, text=True, check=False)
    assert json.loads(tried.stdout)["success"]
    children = fresh.children(recursive=True)
    assert fresh.stop() == 0
    assert alive_after(children, 1) == []
    fresh.lines.clear()
    seconds = fresh.start()
    assert seconds < 30  # a first start takes longer
    assert fresh.shown_key() is None
    assert any("create-admin" in line for line in fresh.lines)
    assert httpx.get(f"{fresh.url}/v1/info", headers=headers).status_code == 200


def test_after_sigkill_no_process_is_left_and_the_next_start_works(fresh):
    fresh.start()
    key = fresh.shown_key()
    children = fresh.children(recursive=True)
    assert len(children) > 4
    fresh.stop(signal.SIGKILL)
    assert alive_after(children, 20) == []
    fresh.lines.clear()
    fresh.start()
    headers = {"authorization": f"Bearer {key}"}
    assert httpx.get(f"{fresh.url}/v1/info", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        (signal.SIGINT, signal.SIGTERM, 1),  # at once
        (signal.SIGHUP, signal.SIGHUP, 0),  # a closing terminal sends it twice
    ],
)
def test_a_second_signal_ends_everything_at_once_unless_a_terminal_closes(
    fresh, first, second, status
):
    fresh.start()
    children = fresh.children(recursive=True)
    fresh.process.send_signal(first)
    wait_until(lambda: "Stopping." in fresh.lines)
    assert fresh.stop(second) == status
    assert alive_after(children, 20) == []


@pytest.mark.parametrize("after", ["", "data in", "postgres ", "server "])
def test_ctrl_c_during_the_start_ends_without_a_traceback_and_leaves_no_process(fresh, after):
    process = subprocess.Popen(
        [*COMMAND, "up", "--port", str(fresh.port), "--data", str(fresh.data)],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = ""
    if after:
        for line in process.stderr:
            said += line
            if after in line:
                break
    else:
        # In the middle of the imports.
        maps = Path(f"/proc/{process.pid}/maps")
        wait_until(lambda: "pydantic_core" in maps.read_text())
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    said += process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 130, said
    assert "Traceback" not in said
    assert "Error" not in said
    assert alive_after(children, 5) == []


def is_ready(running: Up) -> bool:
    try:
        return bool(httpx.get(f"{running.url}/readyz").json() == {"ready": True, "degraded": []})
    except (httpx.HTTPError, ValueError):
        return False


def test_a_taken_port_is_refused_with_the_option_to_change(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = command("up", "--port", str(port), "--data", tmp_path)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert f"Cannot use port {port}" in last
    assert "--port" in last


def test_a_second_up_with_the_same_data_is_refused(running):
    done = command("up", "--port", str(free_port()), "--data", running.data)
    assert done.returncode == 1
    assert "Another `image-categorizer up` is running" in done.stderr
    assert httpx.get(f"{running.url}/readyz").status_code == 200


def test_only_the_public_port_listens(running):
    listening = {
        connection.laddr
        for child in running.children(recursive=True)
        for connection in child.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert {(address.ip, address.port) for address in listening} == {("127.0.0.1", running.port)}


def test_a_model_that_cannot_serve_is_listed_as_failed_and_stops_nothing(fresh):
    broken = fresh.data / "models" / "broken" / "1"
    broken.mkdir(parents=True)
    (broken / "manifest.json").write_text("{}")
    fresh.start()
    assert httpx.get(f"{fresh.url}/readyz").status_code == 200
    headers = {"authorization": f"Bearer {fresh.shown_key()}"}
    models = httpx.get(f"{fresh.url}/v1/models", headers=headers).json()["models"]
    states = {model["name"]: (model["state"], model["state_message"]) for model in models}
    assert states == {
        "broken": ("FAILED", "The manifest of version 1 cannot be used; the log says why."),
        "fake": ("READY", ""),
    }


def test_a_long_data_path_works(running):
    assert len(str(running.data)) > 108  # longer than the path of a unix socket can be
    assert httpx.get(f"{running.url}/readyz").status_code == 200


def test_logs_are_readable_files_without_colours(running):
    httpx.get(f"{running.url}/v1/info")
    file = running.data / "logs" / "server.log"
    wait_until(lambda: "CREDENTIALS_MISSING" in file.read_text())
    log = file.read_text()
    assert "a model is ready" in log
    assert "\x1b[" not in log
    assert {p.name for p in (running.data / "logs").iterdir()} == {
        "gateway.log",
        "postgres.log",
        "redis.log",
        "server.log",
        "worker.log",
    }
    assert os.access(running.data / "logs" / "gateway.log", os.R_OK)


def test_nobody_else_can_read_the_data_or_connect_to_a_socket(running):
    open_to_others = [
        path
        for path in (running.data, *running.data.rglob("*"))
        if not path.is_symlink() and path.lstat().st_mode & 0o077
    ]
    assert open_to_others == []
    for child in running.children(recursive=True):
        for connection in child.net_connections("unix"):
            if connection.laddr and connection.status == psutil.CONN_LISTEN:
                assert stat.S_IMODE(Path(connection.laddr).stat().st_mode) & 0o077 == 0


async def test_postgresql_trusts_only_the_user_who_started_it(running):
    addresses = json.loads((running.data / "installation.json").read_text())
    connection = await connect_as_owner(addresses["database_url"])
    rules = await connection.fetch("SELECT type, user_name, auth_method FROM pg_hba_file_rules")
    await connection.close()
    assert [tuple(rule) for rule in rules] == [
        ("local", [role], "peer") for role in (OWNER, DATABASE_USER)
    ]


# Another user has no rights to give away: there is nothing to test.
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_even_the_user_that_postgresql_runs_as_is_not_its_superuser(running):
    (pid,) = pids_of(running, "postgres")
    owner = psutil.Process(pid)
    refused = subprocess.run(
        [Path(owner.exe()).with_name("psql"), "--host", "/proc/self/cwd", "--user", "postgres"],
        user=owner.username(),
        group=owner.gids().real,
        extra_groups=[],
        cwd=running.data / "postgres",
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Peer authentication failed" in refused.stderr
    assert owner.gids().real != 0


IS_PROCESS = {
    "server": lambda words: words[-1] == "serve",
    "worker": lambda words: words[-1] == "image_categorizer_workers",
    "gateway": lambda words: any(word.endswith("envoy.yaml") for word in words),
    "redis": lambda words: "redis-server" in words[0],
    "postgres": lambda words: words[0].endswith("/postgres"),
}


def pids_of(running: Up, name: str) -> list[int]:
    found = []
    for child in running.children():
        with contextlib.suppress(psutil.Error):
            words = child.cmdline()
            if words and IS_PROCESS[name](words):
                found.append(child.pid)
    return found


@pytest.mark.parametrize("name", IS_PROCESS)
def test_a_process_that_dies_is_started_again(running, name):
    (pid,) = pids_of(running, name)
    psutil.Process(pid).kill()
    wait_until(lambda: pids_of(running, name) not in ([], [pid]) and is_ready(running), 60, 0.1)
    assert any(f"{name} ended with status -9; starting it again" in line for line in running.lines)
