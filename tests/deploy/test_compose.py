"""`deploy/compose`: a whole installation in containers, as the page says it.

Podman runs it: docker does not run everywhere.  What the two understand differently is checked by
docker-compose, which reads the file without an engine.
"""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.deploy.conftest import COMPOSE, OURS, ROOT, podman
from tests.support.polling import wait_until
from tests.support.up import free_port

START_S = 300.0
ANSWER_S = 60.0
EXAMPLE = ROOT / "examples" / "cat.jpg"
VARIABLE = re.compile(r"[$][{](\w+):[?]")


def test_docker_compose_accepts_the_file(tmp_path):
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("docker-compose is not installed")
    needed = sorted(set(VARIABLE.findall(COMPOSE.read_text())))
    file = tmp_path / "variables"
    file.write_text("".join(f"{name}=secret\n" for name in needed))
    command = [program, "--file", COMPOSE, "--env-file", file, "config", "--quiet"]
    subprocess.run(command, check=True)
    file.write_text("")
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode
    assert "run ./prepare.sh" in done.stderr


def test_the_variables_that_prepare_makes_are_those_that_the_file_needs(tmp_path):
    copied = shutil.copy(COMPOSE.parent / "prepare.sh", tmp_path)
    subprocess.run([copied], check=True, stdout=subprocess.DEVNULL)
    made = dict(line.split("=") for line in (tmp_path / ".env").read_text().splitlines())
    assert set(made) == set(VARIABLE.findall(COMPOSE.read_text()))
    assert min(map(len, made.values())) >= 32
    assert len(set(made.values())) == len(made)
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0
    again = subprocess.run([copied], check=False, capture_output=True)
    assert again.returncode == 1


@dataclass(frozen=True)
class Composed:
    """A running installation."""

    folder: Path
    port: int
    prometheus_port: int

    def compose(self, *words: str) -> str:
        done = subprocess.run(
            ["podman-compose", *words], cwd=self.folder, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def container(self, service: str) -> str:
        return f"compose_{service}_1"

    def is_answering(self, path: str) -> bool:
        try:
            return bool(httpx.get(f"http://127.0.0.1:{self.port}{path}").status_code == 200)
        except httpx.TransportError:
            return False

    def has_ended(self, service: str) -> bool:
        (state,) = json.loads(podman("inspect", self.container(service)))
        return bool(state["State"]["Status"] == "exited" and state["State"]["ExitCode"] == 0)

    def is_healthy(self, service: str) -> bool:
        command = ["podman", "healthcheck", "run", self.container(service)]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def composed(images, others, tmp_path_factory):
    if not shutil.which("podman-compose"):
        pytest.skip("podman-compose is not installed")
    folder = shutil.copytree(ROOT / "deploy", tmp_path_factory.mktemp("deploy") / "deploy")
    running = Composed(folder / "compose", free_port(), free_port())
    subprocess.run([running.folder / "prepare.sh"], check=True)
    with (running.folder / ".env").open("a") as file:
        file.write(f"PORT={running.port}\nPROMETHEUS_PORT={running.prometheus_port}\n")
        file.write(f"GRAFANA_PORT={free_port()}\n")
        # Names of images without a registry are those of this machine.
        file.write(f"REGISTRY={images['server'].rpartition('/')[0]}\n")
    try:
        # Podman-compose would start the services of all profiles.
        # Its podman-compose knows no conditions, so the test waits for what the servers need.
        running.compose("up", "-d", "postgres", "redis", "minio", "bucket", "setup")
        wait_until(lambda: running.has_ended("setup"), START_S, 1)
        wait_until(lambda: running.has_ended("bucket"), START_S, 1)
        running.compose("up", "-d", "server", "worker", "gateway", "prometheus", "grafana")
        wait_until(lambda: running.is_answering("/readyz"), START_S, 1)
        yield running
    finally:
        for service in (*OURS, "setup", "bucket"):
            print(podman("logs", "--tail", "40", running.container(service), check=False))
        subprocess.run(["podman-compose", "down", "-v"], cwd=running.folder, check=False)


@pytest.mark.slow
@pytest.mark.timeout(1800)
class TestInstallation:
    """One installation, for all of these."""

    def test_a_photograph_is_classified_and_a_batch_goes_through_the_bucket(self, composed):
        command = ["exec", composed.container("server"), "image-categorizer", "create-admin"]
        key = podman(*command).splitlines()[-1]
        headers = {"authorization": f"Bearer {key}"}
        url = f"http://127.0.0.1:{composed.port}"
        with httpx.Client(base_url=url, headers=headers, timeout=ANSWER_S) as http:
            answer = http.post("/v1/classify", files={"image": EXAMPLE.read_bytes()})
            assert answer.status_code == 200, answer.text
            category = answer.json()["predictions"][0]["category"]
            assert "cat" in category
            files = [("images[]", ("cat.jpg", EXAMPLE.read_bytes()))] * 3
            sent = http.post("/v1/batch", files=files)
            assert sent.status_code == 200, sent.text
            batch = f"/v1/batch/{sent.json()['batch_id']}"
            wait_until(lambda: http.get(batch).json()["state"] == "COMPLETED", ANSWER_S, 0.5)
            assert http.get(batch).json()["succeeded_count"] == 3
            assert http.get(f"{batch}/results").text.count(category) >= 3

    def test_each_container_is_healthy_and_can_change_nothing(self, composed):
        for service in OURS:
            wait_until(lambda service=service: composed.is_healthy(service), ANSWER_S, 1)
            (state,) = json.loads(podman("inspect", composed.container(service)))
            assert state["HostConfig"]["ReadonlyRootfs"] is True
            assert state["Config"]["User"] == "10001:10001"
            touch = ["exec", composed.container(service), "touch", "/opt/image-categorizer/x"]
            assert subprocess.run(["podman", *touch], check=False, capture_output=True).returncode

    def test_prometheus_reads_every_service(self, composed):
        def up():
            url = f"http://127.0.0.1:{composed.prometheus_port}/api/v1/targets"
            targets = httpx.get(url).json()["data"]["activeTargets"]
            return {target["labels"]["job"] for target in targets if target["health"] == "up"}

        wait_until(lambda: up() == {"server", "worker", "gateway"}, ANSWER_S, 1)

    def test_each_container_ends_by_itself_on_sigterm(self, composed):
        for service in ("worker", "gateway", "server"):
            name = composed.container(service)
            podman("stop", "--time", "60", name)
            (state,) = json.loads(podman("inspect", name))
            assert state["State"]["ExitCode"] == 0, service


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("image", "most_mb"), [("server", 575), ("worker", 130), ("gateway", 150)])
def test_images_are_small(images, image, most_mb):
    """Without their base, which the Python project publishes with about 125 MB."""
    base = "docker.io/library/python:3.11-slim-bookworm"
    sizes = [
        int(podman("image", "inspect", "--format", "{{.Size}}", name))
        for name in (images[image], base)
    ]
    assert (sizes[0] - sizes[1]) / 1e6 <= most_mb


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("image", OURS)
def test_images_have_labels_and_no_root(images, image):
    (found,) = json.loads(podman("image", "inspect", images[image]))
    labels = found["Config"]["Labels"]
    assert labels["org.opencontainers.image.title"] == f"image-categorizer-{image}"
    assert re.fullmatch("[0-9a-f]{40}", labels["org.opencontainers.image.revision"])
    assert found["Config"]["User"] == "10001:10001"
    assert found["Healthcheck"]["Test"]  # where podman shows it
