"""Requests made from the OpenAPI document, right and wrong ones, cause no server error."""

import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from image_categorizer_server.local.gateway import gateway_folder

from tests.support.pictures import jpeg
from tests.support.up import Up

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance"
)
CASES = 3000


def fuzzed(running: Up, folder: Path, *options: str, config: str = "") -> int:
    """Runs schemathesis. Returns how many cases passed; fails if one did not."""
    file = folder / "schemathesis.toml"
    file.write_text(config)
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(file)),
        *("run", str(gateway_folder() / "openapi.yaml"), "--url", running.url),
        *("--header", f"Authorization: Bearer {running.shown_key()}", "--checks", CHECKS),
        *("--phases", "coverage,fuzzing", "--seed", "1", "--no-color", "--request-timeout", "30"),
        *("--continue-on-failure", *options),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    found = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert found, done.stdout
    assert found[1] == found[2]
    return int(found[2])


def test_no_request_made_from_the_openapi_document_is_a_server_error(installation, tmp_path):
    running = installation()
    cases = fuzzed(running, tmp_path, "--max-examples", "60")
    headers = {"authorization": f"Bearer {running.shown_key()}"}
    files = [("images[]", (f"{seed}.jpg", jpeg(seed=seed))) for seed in range(2)]
    batch = httpx.post(f"{running.url}/v1/batch", files=files, headers=headers).json()
    # With names that exist, and without what would make the others fail.
    config = f'[parameters]\nmodel = "efficientnet_lite0"\nbatch_id = "{batch["batch_id"]}"\n'
    cases += fuzzed(
        running,
        tmp_path,
        *("--max-examples", "30", "--include-path-regex", "batch_id|model|classify|categories"),
        *("--exclude-path-regex", ":(un)?load|:setAlias", "--exclude-method", "DELETE"),
        config=config,
    )
    print(f"\n{cases} cases without a server error")
    assert cases >= CASES
