"""The JavaScript SDK, as it is built, in each runtime against a running installation."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from image_categorizer import ImageCategorizationClient

from tests.docs import pages
from tests.docs.pages import ROOT
from tests.support.pictures import jpeg

PACKAGE = ROOT / "clients" / "js"
BUILT = PACKAGE / "dist" / "esm" / "index.js"
RUNTIMES = PACKAGE / "runtimes" / "node_modules" / ".bin"
OWN = "the machine's Node.js"
PROGRAMS: dict[str, list[str | Path]] = {
    OWN: ["node"],
    "Node.js 24": [RUNTIMES / "node"],
    "Bun": [RUNTIMES / "bun"],
    "Deno": [RUNTIMES / "deno", "run", "--allow-all", "--node-modules-dir=manual"],
}
# Chromium's sandbox needs a user of its own, its GPU process a GPU.
CHROMIUM = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
DEADLINE_S = 120
# What the journey through the resources of the second entry finds.
RESOURCES = {
    "upload": ["cat.jpg", ["js"], 100],
    "category": ["js thing", True, "MEANS"],
    "reviews": [True, True, 0],
    "subject": [True, True],
    "audit": ["OK", True],
}

pytestmark = pytest.mark.skipif(
    not BUILT.exists(), reason="the JavaScript SDK is not built: `make js` does it, with Node.js 20"
)


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    file: Path = tmp_path_factory.mktemp("javascript") / "cat.jpg"
    file.write_bytes(jpeg(100, 80, 15))
    return file


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A project that depends on the package, also under a name of its own."""
    folder: Path = tmp_path_factory.mktemp("project")
    names = ("@image-categorizer/client", "@acme/image-categorizer")
    for name in names:
        link = folder / "node_modules" / name
        link.parent.mkdir(parents=True)
        link.symlink_to(PACKAGE)
    manifest = {"type": "module", "dependencies": dict.fromkeys(names, "*")}
    (folder / "package.json").write_text(json.dumps(manifest))
    for file in ("run.mjs", "journey.mjs", "resources.mjs"):
        shutil.copy(PACKAGE / "tests" / file, folder)
    shutil.copytree(ROOT / "examples", folder / "examples")
    return folder


def is_right(found, up, admin_key, picture: Path) -> None:
    """Checks what a journey found; the Python SDK must have found the same."""
    with ImageCategorizationClient(admin_key, up.url) as client:
        expected = client.classify_image(picture, top_k=2)
        located = client.classify_image(picture, bounding_boxes=True).predictions[0]
        models = [[model.name, model.state] for model in client.models.list()]
    assert "error" not in found, found["error"]
    assert found["caller"] == "admin"
    assert {"JPEG", "PNG"} <= set(found["formats"])
    for name, (filename, category, confidence, count, model) in found["answers"].items():
        names = {"file": "cat.jpg", "named": "cat.jpg", "path": str(picture), "url": str(picture)}
        assert filename == names.get(name, ""), name
        assert (category, count) == (expected.category, 2), name
        assert confidence == pytest.approx(expected.confidence, abs=1e-5), name
        assert model == expected.model.name
    assert located.bounding_box is not None
    assert found["box"] == list(located.bounding_box)
    invalid = "INVALID_ARGUMENT"
    assert found["refused"] == ["UndecodableImage", "IMAGE_UNDECODABLE", invalid, [], True]
    refusal = ["CredentialsInvalid", "CREDENTIALS_INVALID", "UNAUTHENTICATED", [], True]
    assert found["stranger"] == refusal
    assert found["invalid"] == ["InvalidRequest", "FIELD_INVALID", invalid, ["top_k"], True]
    late = "DEADLINE_EXCEEDED"
    assert found["late"] == ["DeadlineExceeded", late, late, [], False]
    items = [["0", 'a "1".jpg', expected.category], ["1", "b.jpg", expected.category]]
    bad = ["2", "bad.jpg", "IMAGE_UNDECODABLE"]
    assert found["batch"] == ["COMPLETED", 2, [bad]]
    assert found["results"] == [*items, bad]
    assert found["csv"] == 4
    assert found["lazy"] == [[str(n), f"{n}.jpg", expected.category] for n in range(3)]
    assert found["thumbnail"] == "image/png"
    assert sorted(found["tags"][0]) == ["cat", "js"]
    assert found["correction"][0] == "CORRECTION"
    assert found["feedback"] >= 1
    assert found["dimensions"] == 1280
    assert found["gone"][:2] == ["ImageNotFound", "IMAGE_NOT_FOUND"]
    assert found["models"] == models
    assert found["webhook"] == "DISABLED"
    assert found["viewer"][:2] == ["RoleInsufficient", "ROLE_INSUFFICIENT"]
    assert found["key"] == "REVOKED"


def run(folder: Path, *words: str | Path, **variables: str) -> str:
    """Runs a program to its end and returns what it printed."""
    ended = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.parametrize(
    "runtime",
    # The examples below run in the machine's own, too.
    [pytest.param(OWN, marks=pytest.mark.slow), *(name for name in PROGRAMS if name != OWN)],
)
def test_the_client_works_in(runtime, up, admin_key, receiver, picture, project):
    program, *words = PROGRAMS[runtime]
    if shutil.which(program) is None:
        pytest.skip(f"{runtime} is not installed: `make js` installs it")
    where = (up.url, admin_key, picture, picture.parent, receiver.url)
    found = json.loads(run(project, program, *words, "run.mjs", *where))
    assert found["folder"] == [str(picture)]
    assert found["missing"] == "ENOENT"
    is_right(found, up, admin_key, picture)


@pytest.mark.parametrize(
    "runtime",
    [OWN, *(pytest.param(name, marks=pytest.mark.slow) for name in PROGRAMS if name != OWN)],
)
def test_the_resources_of_the_second_entry_work_in(runtime, up, admin_key, picture, project):
    program, *words = PROGRAMS[runtime]
    if shutil.which(program) is None:
        pytest.skip(f"{runtime} is not installed: `make js` installs it")
    found = run(project, program, *words, "run.mjs", up.url, admin_key, picture)
    assert json.loads(found) == RESOURCES


def in_browser(given, receiver, picture: Path, folder: Path) -> Any:
    """Returns what a page with the journey found."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed: `apt-get install chromium` does it on Debian")
    served = {
        "page.html": PACKAGE / "tests" / "page.html",
        "journey.mjs": PACKAGE / "tests" / "journey.mjs",
        "resources.mjs": PACKAGE / "tests" / "resources.mjs",
        "resources.js": BUILT.with_name("resources.js"),
        "index.js": BUILT,
        "picture.jpg": picture,
    }
    path = f"{receiver.path}/"
    receiver.files |= {path + name: file.read_bytes() for name, file in served.items()}
    receiver.files[f"{path}given.json"] = json.dumps({**given, "hook": receiver.url}).encode()
    words = [*CHROMIUM, f"--user-data-dir={folder}", f"{receiver.url}/page.html"]
    with subprocess.Popen([chromium, *words], stderr=subprocess.DEVNULL) as browser:
        try:
            [(_, body)] = receiver.wait_for(1)
        finally:
            browser.terminate()
    return json.loads(body)


def test_the_client_works_in_a_browser(up, admin_key, receiver, picture, tmp_path):
    given = {"url": up.url, "key": admin_key}
    is_right(in_browser(given, receiver, picture, tmp_path), up, admin_key, picture)


@pytest.mark.slow
def test_the_resources_of_the_second_entry_work_in_a_browser(
    up, admin_key, receiver, picture, tmp_path
):
    given = {"url": up.url, "key": admin_key, "resources": True}
    assert in_browser(given, receiver, picture, tmp_path) == RESOURCES


def test_require_gives_the_client(up, admin_key, project):
    """Also under the name of a package that stands for it."""
    program = """
        const { ImageCategorizer } = require("@acme/image-categorizer");
        const { Reviews } = require("@acme/image-categorizer/resources");
        const { API_KEY: apiKey, URL: baseUrl } = process.env;
        const client = new ImageCategorizer({ apiKey, baseUrl });
        new Reviews(client);
        client.classifyImage("examples/cat.jpg").then((result) => {
          console.log(result.category, result.confidence > 0);
        });
    """
    (project / "require.cjs").write_text(program)
    said = run(project, "node", "require.cjs", API_KEY=admin_key, URL=up.url)
    assert said.split()[-1] == "true"


@pytest.mark.parametrize("page", ["clients/js/README.md", "docs/clients.md"])
def test_the_examples_of_the_page_run(page, up, admin_key, project):
    blocks = [
        block
        for block in pages.blocks(page)
        if block.language == "js" and "@image-categorizer/client" in block.text
    ]
    assert blocks
    ran = 0
    for block in blocks:
        if block.not_run:
            continue
        text = block.text.replace("localhost:8080", f"127.0.0.1:{up.port}")
        (project / "example.mjs").write_text(text)
        assert run(project, "node", "example.mjs", API_KEY=admin_key), block.line
        ran += 1
    assert ran
