"""The commands of a running installation, as a person types them."""

import base64
import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile

import httpx
import pytest

from tests.support.pictures import jpeg
from tests.support.polling import wait_until
from tests.support.tiny_model import write_tiny_model
from tests.support.up import COMMAND, await_answer, command, environment

# Prints the memory that a command takes at its peak, in KiB.
MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.fixture
def pictures(tmp_path):
    files = [tmp_path / f"{seed}.jpg" for seed in range(5)]
    for seed, file in enumerate(files):
        file.write_bytes(jpeg(seed=seed))
    return files


def test_classify_needs_no_key_for_a_local_installation(up, pictures):
    done = command("classify", *pictures, "--data", up.data)
    assert done.returncode == 0, done.stderr
    assert all(str(file.name) in done.stdout for file in pictures)
    assert "%" in done.stdout
    key_file = up.data / "client.key"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600


def test_classify_as_json_prints_one_line_per_file(up, pictures):
    done = command("classify", *pictures, "--json", "--top-k", "2", "--data", up.data)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [r["filename"] for r in results] == [str(file) for file in pictures]
    assert all(len(r["predictions"]) == 2 for r in results)
    assert results[0]["category"] == results[0]["predictions"][0]["category"]


def test_one_bad_file_does_not_fail_the_others(up, pictures, tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    missing = tmp_path / "missing.jpg"
    done = command("classify", pictures[0], text, missing, "--json", "--data", up.data)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 1
    assert "notes.txt: the bytes are not an image" in done.stderr
    assert "missing.jpg" in done.stderr
    assert "2 of 3 images could not be classified." in done.stderr


def test_classify_uses_the_address_and_the_key_of_the_environment(up, admin_key, pictures):
    variables = {
        "CATEGORIZER_CLIENT__BASE_URL": f"localhost:{up.port}",
        "CATEGORIZER_CLIENT__API_KEY": admin_key,
    }
    assert command("classify", pictures[0], **variables).returncode == 0
    variables["CATEGORIZER_CLIENT__API_KEY"] = "ic_wrong"
    done = command("classify", pictures[0], **variables)
    assert (done.returncode, "the API key is not valid" in done.stderr) == (1, True)


def test_names_are_printed_as_they_are_and_never_act(up, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    content = jpeg()
    names = [b"[wedding] 001.jpg", b"[b]:smile:.jpg", b"caf\xe9.jpg", b"esc\x1b[31m.jpg"]
    for name in names:
        (folder / os.fsdecode(name)).write_bytes(content)
    (folder / "notes.txt").write_text("hello")
    broken = tmp_path / "[" / "x].jpg"  # ends in [/x].jpg
    broken.parent.mkdir()
    broken.write_text("no image")
    shown = ["[wedding] 001.jpg", "[b]:smile:.jpg", "caf\\xe9.jpg", "esc\\x1b[31m.jpg"]
    done = command("classify", folder, broken, "--data", up.data)
    assert done.returncode == 1
    assert all(name in done.stdout for name in shown)
    assert f"{broken}: the bytes are not an image" in done.stderr
    assert "1 file passed over: 1 .txt." in done.stderr
    as_json = command("classify", folder, "--json", "--data", up.data).stdout.splitlines()
    found = {json.loads(line)["filename"].rpartition("/")[2] for line in as_json}
    assert found == {*shown[:3], "esc\x1b[31m.jpg"}
    made = command("batch", "submit", folder, broken, "--data", up.data)
    batch_id = made.stdout.strip()
    watched = command("batch", "watch", batch_id, "--data", up.data)
    assert (watched.returncode, "4 of 5 images were classified" in watched.stderr) == (1, True)
    assert str(broken) in watched.stderr
    results = command("batch", "results", batch_id, "--data", up.data).stdout
    assert all(name in results for name in shown)


def test_all_options_of_the_api_are_options_of_the_command(up, pictures, tmp_path):
    options = ["--include", "tabby", "--include", "beagle", "--exclude", "beagle", "--no-cache"]
    options += ["--bounding-boxes", "--explain", "--top-k", "3", "--threshold", "0"]
    options += ["--raw-confidence"]
    options += ["--model", "efficientnet_lite0", "--version", "1"]
    done = command("classify", pictures[0], *options, "--json", "--data", up.data)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [p["category"] for p in result["predictions"]] == ["tabby"]
    (tabby,) = result["predictions"]
    assert len(tabby["bounding_box"]) == 4
    assert tabby["raw_confidence"] == tabby["confidence"]  # the packaged model has no temperature
    assert base64.b64decode(result["heat_map"]).startswith(b"\x89PNG")
    options.remove("--explain")  # which batches do not offer
    made = command("batch", "submit", pictures[0], *options, "--json", "--data", up.data)
    assert made.returncode == 0, made.stderr


def test_a_dash_is_standard_input(up, pictures):
    with pictures[0].open("rb") as content:
        done = subprocess.run(
            [*COMMAND, "classify", "-", "--json", "--data", up.data],
            env=environment(),
            stdin=content,
            capture_output=True,
            check=False,
        )
    assert json.loads(done.stdout)["filename"] == "stdin"


@pytest.fixture
def packed(tmp_path):
    """A zip file of two images, a damaged one, one that is none, and others to pass over."""
    file = tmp_path / "[b]photos.zip"
    with zipfile.ZipFile(file, "w") as written:
        for name, content in {
            "damaged.jpg": jpeg(seed=1),
            "trip/deep/[b]a.jpg": jpeg(seed=2),
            "trip/.DS_Store": b"x",
            "trip/._a.jpg": b"x",
            "no image.jpg": b"x",
            "esc\x1b[31m.jpg": jpeg(seed=3),
        }.items():
            written.writestr(name, content)
    content = bytearray(file.read_bytes())
    content[content.index(b"PK\1\2") + 16] ^= 1  # the first checksum
    file.write_bytes(content)
    return file


def test_all_kinds_of_images_are_classified_in_their_order(up, pictures, packed, receiver):
    receiver.files["/x.jpg"] = jpeg(seed=9)
    folder = pictures[4].parent / "folder"
    folder.mkdir()
    pictures[4].rename(folder / "4.jpg")
    good, bad = receiver.address + "/x.jpg", receiver.address + "/none.jpg"
    words = [pictures[0], good, packed, "-", folder, bad, pictures[0], pictures[1], "--json"]
    with pictures[2].open("rb") as content:
        done = subprocess.run(
            [*COMMAND, "classify", *map(str, words), "--data", up.data],
            env=environment(),
            stdin=content,
            capture_output=True,
            text=True,
            check=False,
        )
    assert [json.loads(line)["filename"] for line in done.stdout.splitlines()] == [
        str(pictures[0]),
        good,
        f"{packed}/trip/deep/[b]a.jpg",
        f"{packed}/esc\x1b[31m.jpg",
        "stdin",
        str(folder / "4.jpg"),
        str(pictures[0]),
        str(pictures[1]),
    ]
    assert done.returncode == 1
    said = done.stderr.splitlines()
    assert said[:2] == [
        "2 files passed over: 2 of operating systems.",
        f"{packed}/damaged.jpg: the file is damaged in the zip file",
    ]
    assert said[2].startswith(f"{packed}/no image.jpg: the bytes are not an image")
    assert said[3:] == [
        f"{bad}: the image cannot be fetched from its URI",
        "3 of 11 images could not be classified.",
    ]
    table = command("classify", packed, good, "--data", up.data).stdout
    assert f"{packed}/trip/deep/[b]a.jpg" in table
    assert f"{packed}/esc\\x1b[31m.jpg" in table
    assert good in table


def test_heat_maps_have_tame_names(up, packed, receiver, tmp_path, monkeypatch):
    path = f"/p%2F{'long' * 70}.jpg?x=a.b"
    receiver.files[path] = jpeg(seed=9)
    receiver.files["/"] = jpeg(seed=8)
    made = tmp_path / "made"
    made.mkdir()
    monkeypatch.chdir(made)
    uris = receiver.address + path, receiver.address + "/"
    command("classify", packed, *uris, "--explain", "--data", up.data)
    names = {f"{'long' * 70}"[:50], "[b]a", "esc\\x1b[31m", "image"}
    assert {file.name for file in made.iterdir()} == {f"{name}.heat-map.png" for name in names}


def test_a_zip_file_takes_no_more_memory_than_some_of_its_images(up, pictures, tmp_path):
    file = tmp_path / "large.zip"
    content = jpeg(seed=1) + bytes(1_900_000)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as written:
        for number in range(200):
            written.writestr(f"{number}.jpg", content)

    def peak_of(path):
        words = [*COMMAND, "classify", str(path), "--json", "--data", str(up.data)]
        measure = [sys.executable, "-c", MEASURE, *words]
        return int(subprocess.check_output(measure, env=environment())) * 1024

    assert peak_of(file) - peak_of(pictures[0]) < 150_000_000  # of 380 MB


def test_a_batch_takes_zip_files(up, packed, pictures):
    made = command("batch", "submit", pictures[0], packed, "--json", "--data", up.data)
    assert made.returncode == 0, made.stderr
    batch = json.loads(made.stdout)
    assert (batch["item_count"], batch["ignored_count"]) == (5, 2)
    watched = command("batch", "watch", batch["batch_id"], "--data", up.data)
    assert "3 of 5 images were classified, 2 failed" in watched.stderr
    shown = command("batch", "results", batch["batch_id"], "--json", "--data", up.data).stdout
    results = [json.loads(line) for line in shown.splitlines()]
    assert [result["filename"] for result in results] == [
        str(pictures[0]),
        "damaged.jpg",
        "trip/deep/[b]a.jpg",
        "no image.jpg",
        "esc\x1b[31m.jpg",
    ]


def test_a_batch_refuses_what_it_cannot_take_before_it_uploads(up, pictures, tmp_path):
    bad = tmp_path / "bad.zip"
    bad.write_bytes(b"no zip")
    done = command("batch", "submit", pictures[0], bad, "--data", up.data)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{bad}: the zip file is damaged.\n"
    done = command("batch", "submit", pictures[0], "https://a.example/b.jpg", "--data", up.data)
    assert (done.returncode, "not both at once" in done.stderr) == (1, True)


def test_batches_are_listed_and_deleted(up, pictures):
    batch_id = command("batch", "submit", pictures[0], "--data", up.data).stdout.strip()
    assert command("batch", "watch", batch_id, "--data", up.data).returncode == 0

    def listed(*words):
        lines = command("batch", "list", *words, "--json", "--data", up.data).stdout.splitlines()
        return {json.loads(line)["batch_id"] for line in lines}

    assert batch_id in listed("--state", "COMPLETED")
    assert batch_id not in listed("--state", "RUNNING")
    assert batch_id in command("batch", "list", "--data", up.data).stdout
    assert command("batch", "delete", batch_id, "--data", up.data).returncode == 0
    assert batch_id not in listed()
    again = command("batch", "delete", batch_id, "--data", up.data)
    assert (again.returncode, "Traceback" in again.stderr) == (1, False)


def test_models_of_a_server_elsewhere_are_listed_by_the_server(up, admin_key):
    variables = {
        "CATEGORIZER_CLIENT__BASE_URL": f"localhost:{up.port}",
        "CATEGORIZER_CLIENT__API_KEY": admin_key,
    }
    done = command("models", "list", "--json", **variables)
    assert f"Models of the server localhost:{up.port}." in done.stderr
    assert "READY" in {model["state"] for model in json.loads(done.stdout)}


def test_create_admin_prints_only_json(up):
    done = command("create-admin", "--json", "--data", up.data)
    made = json.loads(done.stdout)
    assert made["role"] == "admin"
    answer = httpx.get(f"{up.url}/v1/info", headers={"authorization": f"Bearer {made['key']}"})
    assert answer.status_code == 200


def test_keys_are_created_listed_and_revoked(up):
    made = json.loads(
        command(
            "keys", "create", "door camera", "--expires-in-days", "7", "--json", "--data", up.data
        ).stdout
    )
    assert (made["role"], made["expire_time"] is not None) == ("classifier", True)
    listed = json.loads(command("keys", "list", "--json", "--data", up.data).stdout)
    assert made["id"] in [key["id"] for key in listed]
    assert made["key"] not in json.dumps(listed)
    headers = {"authorization": f"Bearer {made['key']}"}
    assert httpx.get(f"{up.url}/v1/info", headers=headers).status_code == 200
    assert command("keys", "revoke", made["id"], "--data", up.data).returncode == 0
    with httpx.Client(base_url=up.url, headers=headers) as revoked:
        await_answer(revoked, "/v1/info", lambda answer: answer.status_code == 401)
    assert command("keys", "revoke", made["id"], "--data", up.data).returncode == 0
    unknown = command("keys", "revoke", "nobody", "--data", up.data)
    assert (unknown.returncode, "no API key" in unknown.stderr) == (1, True)


@pytest.mark.slow
def test_a_running_server_loads_an_added_model_and_unloads_a_removed_one(up, http, tmp_path):
    source = write_tiny_model(tmp_path / "source", ["rose", "tulip"])
    added = command("models", "add", "flowers", source, "--licence", "MIT", "--data", up.data)
    assert added.returncode == 0, added.stderr
    picture = jpeg()

    def ask():
        return http.post("/v1/classify?model=flowers", content=picture)

    def is_loaded():
        answer = ask()
        return answer.status_code == 200 or (
            answer.json()["details"][0]["reason"] not in ("MODEL_NOT_FOUND", "MODEL_LOADING")
        )

    wait_until(is_loaded, 30, 0.2)
    assert {p["category"] for p in ask().json()["predictions"]} == {"rose", "tulip"}
    assert "flowers" in command("models", "list", "--data", up.data).stdout
    twice = command("models", "add", "flowers", source, "--data", up.data)
    assert (twice.returncode, "has the same files already" in twice.stderr) == (1, True)
    assert command("models", "verify", "--data", up.data).returncode == 0
    assert command("models", "remove", "flowers", "--data", up.data).returncode == 0
    wait_until(lambda: ask().status_code == 404, 30, 0.2)


@pytest.mark.slow
def test_verify_finds_a_damaged_model(tmp_path):
    source = write_tiny_model(tmp_path / "source", ["rose", "tulip"])
    assert command("models", "add", "flowers", source, "--data", tmp_path / "data").returncode == 0
    config = tmp_path / "data" / "models" / "flowers" / "1" / "config.json"
    config.write_text(config.read_text() + " ")
    done = command("models", "verify", "--data", tmp_path / "data")
    assert done.returncode == 1
    assert "flowers 1: config.json does not match the manifest" in done.stdout
    assert "Damaged model versions: 1" in done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["models", "add", "x", "/nowhere"], "There is no file or folder /nowhere."),
        (["models", "remove", "nope"], "models list"),
        (["models", "remove", "efficientnet_lite0"], "ships with the program"),
        (["models", "pull", "nope"], "owner/name"),
        (["keys", "list"], "the database does not answer"),
        (["classify", "x.jpg"], "image-categorizer up"),
    ],
)
def test_errors_are_one_sentence_without_a_traceback(tmp_path, words, sentence):
    done = command(*words, "--data", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [["nope"], ["classify"], ["up", "--port", "x"], ["keys", "create", "n", "--role", "king"]],
)
def test_wrong_usage_exits_with_2(words):
    assert command(*words).returncode == 2


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (
            {"CATEGORIZER_SERVER__BLIND": "x"},
            "CATEGORIZER_SERVER__BLIND is not a setting. Did you mean CATEGORIZER_SERVER__BIND?",
        ),
        ({"DATABASE_ULR": "x"}, "DATABASE_ULR is not a setting. Did you mean DATABASE_URL?"),
        ({"MAX_IMAGE_SIZE": "huge"}, "MAX_IMAGE_SIZE"),
        ({"CATEGORIZER_LIMITS__MAX_SIDE_PX": "0"}, "CATEGORIZER_LIMITS__MAX_SIDE_PX"),
    ],
)
def test_an_invalid_setting_stops_the_start_and_is_named(variables, words):
    done = command("serve", **variables)
    assert (done.returncode, words in done.stderr) == (1, True), done.stderr


def test_pull_without_a_network_names_the_alternative(tmp_path):
    variables = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_ETAG_TIMEOUT": "1"}
    done = command("models", "pull", "resnet50", "--data", tmp_path, **variables)
    assert done.returncode == 1
    assert "image-categorizer models add resnet50 FOLDER" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_command_has_a_help_text():
    for words in ([], ["up"], ["classify"], ["models", "add"], ["keys", "create"]):
        done = command(*words, "--help")
        assert done.returncode == 0
        assert "Usage" in done.stdout
    assert command("--version").stdout.strip().count(".") == 2


def test_the_command_is_on_the_path():
    assert shutil.which("image-categorizer")
