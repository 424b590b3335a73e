"""Clients that tools generate from the OpenAPI document classify and upload."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.support.pictures import jpeg

OPENAPI = ROOT / "gateway" / "openapi.yaml"
TYPESCRIPT = ROOT / ".build" / "typescript" / "node_modules"
PACKAGES = "openapi-typescript openapi-fetch typescript@5 @types/node@20"
HINT = f"npm install --prefix .build/typescript {PACKAGES}"

PYTHON_PROGRAM = """
import io, sys
from generated import AuthenticatedClient
from generated.api.batch_service import create_batch, get_batch
from generated.api.classify_service import classify
from generated.models import ClassifyFilesBody, CreateBatchFilesBody
from generated.types import File

url, key, picture = sys.argv[1:]
with open(picture, "rb") as file:
    content = file.read()
with AuthenticatedClient(base_url=url, token=key) as client:
    bodies = [
        ClassifyFilesBody(image=File(io.BytesIO(content), "a.jpg", "image/jpeg"), top_k=2),
        File(io.BytesIO(content)),
    ]
    for body in bodies:
        answer = classify.sync(client=client, body=body, top_k=2)
        print(len(answer.predictions), answer.predictions[0].category, answer.model.name)
    files = [File(io.BytesIO(content), name, "image/jpeg") for name in ("a.jpg", "b.jpg")]
    batch = create_batch.sync(client=client, body=CreateBatchFilesBody(images=files, priority=1))
    print(batch.item_count, get_batch.sync(batch.batch_id, client=client).options.top_k)
"""

TYPESCRIPT_PROGRAM = """
import createClient from "openapi-fetch";
import { readFileSync } from "node:fs";
import type { components, paths } from "./schema.js";

const [url, key, picture] = process.argv.slice(2) as [string, string, string];
const client = createClient<paths>({ baseUrl: url, headers: { authorization: `Bearer ${key}` } });
const image = new Blob([readFileSync(picture)], { type: "image/jpeg" });

function form(fields: Record<string, string | Blob>): FormData {
  const found = new FormData();
  for (const [name, value] of Object.entries(fields)) found.append(name, value);
  return found;
}

async function main(): Promise<void> {
  const classified = await client.POST("/v1/classify", {
    params: { query: { top_k: 2 } },
    body: { image: readFileSync(picture).toString("base64"), options: { top_k: 2 } },
  });
  if (!classified.data) throw new Error(classified.error.message);
  const predictions: components["schemas"]["Prediction"][] = classified.data.predictions;
  console.log(predictions.length, predictions[0]?.category, classified.data.model.name);
  const created = await client.POST("/v1/batch", {
    body: { priority: 1 },
    bodySerializer: (fields: { priority?: number }) =>
      form({ priority: String(fields.priority), images: image }),
  });
  if (!created.data) throw new Error(created.error.message);
  const path = { batch_id: created.data.batch_id };
  const batch = await client.GET("/v1/batch/{batch_id}", { params: { path } });
  console.log(batch.data?.item_count, batch.data?.options.top_k);
}

void main();
"""


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    file: Path = tmp_path_factory.mktemp("picture") / "a.jpg"
    file.write_bytes(jpeg(100, 80))
    return file


def run(folder: Path, *words: str | Path) -> str:
    """Runs a command to its end and returns what it printed."""
    ended = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_a_python_client_classifies_and_uploads(up, admin_key, tmp_path, picture):
    generator = Path(sys.executable).parent / "openapi-python-client"
    if not generator.exists():
        pytest.skip("openapi-python-client is not installed")
    words = ("--path", OPENAPI, "--output-path", tmp_path / "generated", "--meta", "none")
    run(tmp_path, generator, "generate", *words)
    (tmp_path / "program.py").write_text(PYTHON_PROGRAM)
    said = run(tmp_path, sys.executable, "program.py", up.url, admin_key, picture).splitlines()
    assert [line.split()[0] for line in said] == ["2", "2", "2"]
    assert [line.split()[2:] for line in said[:2]] == [
        ["efficientnet_lite0"],
        ["efficientnet_lite0"],
    ]
    assert said[2] == "2 5"


# Packages of npm are no dependency of this project; CONTRIBUTING.md says how to install them.
@pytest.mark.skipif(not TYPESCRIPT.exists(), reason=f"openapi-typescript is not installed: {HINT}")
def test_a_typescript_client_classifies_and_uploads(up, admin_key, tmp_path, picture):
    (tmp_path / "node_modules").symlink_to(TYPESCRIPT)
    node = shutil.which("node")
    assert node is not None
    bins = TYPESCRIPT / ".bin"
    run(tmp_path, bins / "openapi-typescript", OPENAPI, "--output", "schema.d.ts")
    (tmp_path / "program.ts").write_text(TYPESCRIPT_PROGRAM)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    options = ("--strict", "--target", "es2022", "--module", "nodenext", "--outDir", "out")
    run(tmp_path, bins / "tsc", *options, "--types", "node", "program.ts")
    said = run(tmp_path, node, "out/program.js", up.url, admin_key, picture).splitlines()
    assert said == [said[0], "1 5"]
    assert said[0].split()[0::2] == ["2", "efficientnet_lite0"]
