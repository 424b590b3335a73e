"""The programs of `examples/`, as a reader starts them, against a running installation."""

import asyncio
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import httpx
import nbformat
import pytest
from image_categorizer import ImageCategorizationClient
from nbclient import NotebookClient

from tests.docs.pages import ROOT
from tests.support.object_servers import BUCKET, empty_s3_bucket, running_s3
from tests.support.pictures import jpeg
from tests.support.polling import wait_until
from tests.support.up import Up, free_port

EXAMPLES = ROOT / "examples"
CAT = EXAMPLES / "cat.jpg"
STEP_S = 60


class Program:
    """An example that runs until the test ends it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.lines: list[str] = []
        self.process = process
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            self.lines.extend(line.rstrip("\n") for line in self.process.stdout)

    def wait_for(self, count: int) -> list[str]:
        """Returns what it has printed, once there are so many lines."""
        wait_until(lambda: len(self.lines) >= count or self.process.poll() is not None, STEP_S)
        return self.lines


@contextmanager
def running(up: Up, key: str, *words: object, **variables: str) -> Iterator[Program]:
    """Runs an example during the block."""
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / str(words[0]), *map(str, words[1:])],
        env=environment(up, key, **variables),
        stdout=subprocess.PIPE,
        text=True,
    )
    program = Program(process)
    try:
        yield program
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(STEP_S) in (0, -signal.SIGINT)
        program._reader.join(STEP_S)


def environment(up: Up, key: str, **variables: str) -> dict[str, str]:
    return {**os.environ, "API_KEY": key, "BASE_URL": up.url, **variables}


def test_the_upload_form_shows_categories_and_takes_nothing_for_markup(up, admin_key):
    port = free_port()
    with (
        running(up, admin_key, "upload_form.py", "--port", port) as program,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=STEP_S) as http,
    ):

        def answers() -> bool:
            assert program.process.poll() is None
            try:
                return bool(http.get("/").status_code == 200)
            except httpx.TransportError:
                return False

        wait_until(answers, STEP_S, 0.1)
        answer = http.post("/", files={"image": ("cat.jpg", CAT.read_bytes())})
        assert answer.status_code == 200
        shares = [float(share) for share in re.findall(r'<meter value="([\d.]+)">', answer.text)]
        assert len(shares) == 5
        assert shares == sorted(shares, reverse=True)
        assert 'src="data:image/jpeg;base64,' in answer.text
        assert admin_key not in answer.text
        refused = http.post("/", files={"image": ("<script>.jpg", b"<script>alert(1)</script>")})
        assert refused.status_code == 400
        assert "<script>" not in refused.text
        assert "role=" in refused.text
        large = http.post("/", files={"image": ("a.jpg", bytes(11 * 2**20))})
        assert large.status_code == 413


@pytest.mark.slow
def test_pictures_of_the_folder_are_classified_when_they_appear(up, admin_key, tmp_path):
    (tmp_path / "old.jpg").write_bytes(jpeg(seed=1))
    with running(up, admin_key, "watch_folder.py", tmp_path) as program:
        [first] = program.wait_for(1)
        (tmp_path / "notes.txt").write_text("no picture")
        (tmp_path / "half.jpg.part").write_bytes(jpeg(seed=2))
        (tmp_path / "half.jpg.part").rename(tmp_path / "half.jpg")
        program.wait_for(2)
        (tmp_path / "bad.jpg").write_text("no picture either")
        found = [json.loads(line) for line in program.wait_for(3)]
    assert json.loads(first)["file"] == str(tmp_path / "old.jpg")
    assert [Path(one["file"]).name for one in found] == ["old.jpg", "half.jpg", "bad.jpg"]
    assert all(one["category"] for one in found[:2])
    assert "not an image" in found[2]["error"]


@pytest.mark.slow
async def test_a_bucket_is_labelled_and_a_second_run_begins_no_second_batch(up, admin_key):
    async with running_s3() as url:
        await empty_s3_bucket(url)
        await asyncio.to_thread(_label, up, admin_key, url)


def _label(up, admin_key, url):
    store = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    s3 = boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id="k",
        aws_secret_access_key="s",
        region_name="us-east-1",
    )
    for seed in range(20):
        s3.put_object(Bucket=BUCKET, Key=f"photos/{seed:02}.jpg", Body=jpeg(seed=seed))
    s3.put_object(Bucket=BUCKET, Key="photos/large.jpg", Body=bytes(3 * 2**20))
    s3.put_object(Bucket=BUCKET, Key="photos/notes.txt", Body=b"no picture")
    s3.put_object(Bucket=BUCKET, Key="others/a.jpg", Body=jpeg())

    def run() -> str:
        words = [sys.executable, str(EXAMPLES / "label_bucket.py"), BUCKET, "photos/", "labels.csv"]
        done: subprocess.CompletedProcess[str] = subprocess.run(
            words,
            env=environment(up, admin_key, **store),
            capture_output=True,
            text=True,
            timeout=STEP_S,
            check=True,
        )
        return done.stdout

    said = run()
    assert "'photos/large.jpg' is larger than the server accepts" in said
    assert "20 classified, 0 failed" in said
    text = s3.get_object(Bucket=BUCKET, Key="labels.csv")["Body"].read().decode()
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["filename"] for row in rows] == [f"photos/{seed:02}.jpg" for seed in range(20)]
    assert batch_of(said) == batch_of(run())
    s3.put_object(Bucket=BUCKET, Key="photos/20.jpg", Body=jpeg(seed=20))
    assert batch_of(said) != batch_of(run())


def batch_of(said: str) -> str:
    found = re.search(r"^(b-\S+): \d+ pictures$", said, re.MULTILINE)
    assert found
    return found[1]


@pytest.mark.slow
def test_webhooks_are_verified_and_the_results_of_the_batch_are_read(up, admin_key):
    url = f"http://127.0.0.1:{up.receiver_port}/"
    with ImageCategorizationClient(admin_key, up.url) as client:
        hook = client.webhooks.create(url)
        secret = {"WEBHOOK_SECRET": hook.secret, "PYTHONUNBUFFERED": "1"}
        words = "receive_webhooks.py", "--port", up.receiver_port
        try:
            with running(up, admin_key, *words, **secret) as program:
                wait_until(lambda: _refuses_a_forgery(url), STEP_S, 0.2)
                batch = client.batches.submit([("a.jpg", jpeg()), ("b.jpg", b"no picture")])
                lines = program.wait_for(3)
                [delivery] = client.webhooks.deliveries(hook.webhook_id)
                client.webhooks.redeliver(hook.webhook_id, delivery.delivery_id)
                assert delivery.batch_id == batch.batch_id
                wait_until(lambda: len(_attempts(client, hook)) == 2, STEP_S, 0.2)
        finally:
            client.webhooks.delete(hook.webhook_id)
    assert lines[0] == f"batch.completed {batch.batch_id}"
    assert lines[1].startswith("'a.jpg': ")
    assert "not an image" in lines[2]
    assert len(program.lines) == 3  # the repetition was ignored


def _refuses_a_forgery(url: str) -> bool:
    headers = {"webhook-id": "m", "webhook-timestamp": "1", "webhook-signature": "v1,eA=="}
    try:
        return bool(httpx.post(url, headers=headers, content=b"{}").status_code == 400)
    except httpx.TransportError:
        return False


def _attempts(client, hook):
    deliveries = client.webhooks.deliveries(hook.webhook_id)
    return [attempt for delivery in deliveries for attempt in delivery.attempts]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of Jupyter's packages
def test_the_notebook_runs_and_shows_pictures(up, admin_key, tmp_path, monkeypatch):
    shutil.copy(CAT, tmp_path)
    for name, value in environment(up, admin_key, IPYTHONDIR=str(tmp_path / "ipython")).items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "it is kept without outputs"
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=STEP_S, resources=resources).execute()
    shown = [
        output.data["text/html"]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "text/html" in output.get("data", {})
    ]
    assert len(shown) == 5
    assert 'src="data:image/jpeg;base64,' in shown[0]
    assert shown[0].count("<tr>") == 5
    assert "<table" in shown[1]
    assert "succeeded" in shown[3]
