"""evaluate and models compare: what they print, their exit codes and their reports."""

import json
import os
import re
from html.parser import HTMLParser

import pytest
from image_categorizer_server.cli.evaluate import reliability_lines
from image_categorizer_server.inference.evaluation.metrics import Bin, Calibration

from tests.support.colour_model import GREENISH, write_colour_model, write_colours
from tests.unit.inference.test_onnx import add_onnx

FRUIT = ["tomato", "lime", "plum"]
# Names that would end an element, an attribute, the page's encoding or the terminal's line.
HOSTILE = (
    "<script>alert(1)</script>.png",
    "\"><img src=x onerror='alert(1)'>.png",
    "&lt;b&gt;.png",
    "\x1b[31mred\n.png",
    "\u202egnp.exe.png",
    "</style></title><svg onload=alert(1)>.png",
    "javascript:alert(1).png",
)
SHOWN = 4  # so many examples a pair has; the other files are damaged, and listed
# Of elements that load or run something.
ALLOWED_TAGS = frozenset(
    {"html", "head", "meta", "title", "style", "body", "main", "header", "footer", "section", "div"}
    | {"p", "h1", "h2", "h3", "b", "br", "span", "bdi", "code", "details", "summary"}
    | {"table", "thead", "tbody", "tr", "th", "td", "dl", "dt", "dd"}
    | {"figure", "figcaption", "img", "svg", "rect", "line", "text", "circle", "polyline"}
)


class Page(HTMLParser):
    """The elements and the text of a report."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.texts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    def images(self):
        return [attributes for tag, attributes in self.elements if tag == "img"]


def checked(file):
    """Reads a report, and checks that nothing in it loads or runs anything."""
    text = file.read_bytes().decode("utf-8")
    page = Page(text)
    assert {tag for tag, _ in page.elements} <= ALLOWED_TAGS
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        for name in ("src", "href", "data", "action"):
            assert attributes.get(name, "data:image/jpeg;base64,").startswith(
                "data:image/jpeg;base64,"
            )
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)
    return page


@pytest.fixture
def models(repository, tmp_path, monkeypatch):
    """Two versions of `mine`, of which the second takes teal for lime."""
    monkeypatch.setenv("MODEL_PATH", str(tmp_path / "models"))
    monkeypatch.setenv("CATEGORIZER_MODELS__PACKAGED", "false")
    add_onnx(repository, write_colour_model(tmp_path / "a", FRUIT) / "model.onnx")
    add_onnx(repository, write_colour_model(tmp_path / "b", FRUIT, GREENISH) / "model.onnx")
    return repository


@pytest.fixture
def pictures(tmp_path):
    return write_colours(
        tmp_path / "set",
        {
            "tomato": ["tomato", "tomato", "lime"],
            "lime": ["lime", "teal"],
            "plum": ["plum", "teal", "teal"],
        },
    )


def test_evaluate_prints_figures_as_text_and_as_json(models, run, pictures):
    done = run("evaluate", "--model", "mine", "--version", "1", "--dataset", pictures)
    assert done.status == 0, done.err
    assert "mine, version 1, on 8 pictures of set" in done.out
    assert "top-1     75.0% (40.9 to 92.9), 6 of 8" in done.out
    assert "top-5" not in done.out
    for words in ("ECE", "images/s", "Reliability", "tomato/2-lime.png"):
        assert words in done.out
    found = json.loads(
        run("evaluate", "--model", "mine", "--version", "1", "--dataset", pictures, "--json").out
    )
    assert found["model"] == {
        "name": "mine",
        "version": 1,
        "digest": json.loads(run("models", "list", "--json").out)[0]["digest"],
    }
    assert (found["dataset"]["name"], found["dataset"]["pictures"]) == ("set", 8)
    assert (found["top_1"]["count"], found["top_1"]["share"], found["top_5"]) == (6, 0.75, None)
    assert found["top_1"]["interval_95"] == pytest.approx([0.409, 0.929], abs=1e-3)
    plum = next(c for c in found["categories"] if c["category"] == "plum")
    assert (plum["recall"]["share"], plum["precision"]["share"]) == (1, 0.75)
    assert {(c["category"], c["predicted"], c["count"]) for c in found["confusions"]} == {
        ("tomato", "lime", 1),
        ("lime", "plum", 1),
    }
    assert found["confusions"][0]["examples"][0]["file"].startswith(("tomato/", "lime/"))
    assert sum(each["count"] for each in found["calibration"]["bins"]) == 8
    assert 0 <= found["calibration"]["ece"] <= 1
    assert found["coverage"][0]["answered"]["count"] == 8


def test_the_version_that_answers_is_evaluated_unless_another_is_named(models, run, pictures):
    def version(*words):
        words = ("evaluate", "--model", "mine", "--dataset", pictures, "--json", *words)
        return json.loads(run(*words).out)["model"]["version"]

    assert version() == 2
    assert run("models", "alias", "mine", "stable", 1).status == 0
    assert (version(), version("--version", "2"), version("--version", "stable")) == (1, 2, 1)
    missing = run("evaluate", "--model", "mine", "--dataset", pictures, "--version", "old")
    assert (missing.status, "There is no model mine version old" in missing.err) == (1, True)
    none = run("evaluate", "--dataset", pictures)
    assert (none.status, "There is no model efficientnet_lite0." in none.err) == (1, True)


def test_what_is_left_out_is_said_by_text_json_and_report(models, run, pictures, tmp_path):
    (pictures / "kiwi").mkdir()
    (pictures / "kiwi" / "green.png").write_bytes((pictures / "lime" / "0-lime.png").read_bytes())
    (pictures / "plum" / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (pictures / "stray.png").write_bytes(b"")
    done = run(
        *("evaluate", "--model", "mine", "--version", 1, "--dataset", pictures, "--json"),
        *("--html", tmp_path / "r.html"),
    )
    assert done.status == 0, done.err
    sentences = (
        "1 picture is unreadable and left out.",
        "1 picture is of categories that the model does not have (kiwi) and left out.",
        "Counted as wrong, top-1 is 66.7%.",
        "1 file is hidden or in no category's folder, and left out.",
    )
    for sentence in sentences:
        assert sentence in done.err
    found = json.loads(done.out)
    assert [each["file"] for each in found["unreadable"]] == ["plum/damaged.png"]
    assert found["unknown_categories"] == {"kiwi": 1}
    assert found["ignored_files"] == ["stray.png"]
    assert found["top_1"]["total"] == 8
    text = "".join(checked(tmp_path / "r.html").texts)
    for words in (*sentences, "plum/damaged.png", "kiwi/green.png", "stray.png"):
        assert words in text


def test_the_report_is_one_file_that_hostile_names_cannot_break(models, run, tmp_path):
    folder = write_colours(tmp_path / "set <b>&", {"lime": ["lime"]})
    more = write_colours(tmp_path / "more", {"x": ["tomato"]})
    content = (more / "x" / "0-tomato.png").read_bytes()
    for number, name in enumerate(HOSTILE):
        file = folder / "lime" / f"{number}{name.replace('/', chr(0x2215))}"
        file.write_bytes(content if number < SHOWN else b"")
    (folder / "lime" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    report = tmp_path / "report.html"
    given = ("--model", "mine", "--version", 1, "--dataset", folder)
    done = run("evaluate", *given, "--html", report)
    assert done.status == 0, done.err
    page = checked(report)
    text = "".join(page.texts)
    for shown in (
        "<script>alert(1)<",
        "&lt;b&gt;.png",
        "\\x1b[31mred\\x0a.png",
        "\\u202egnp",
        "\\xe9",
    ):
        assert shown in text
    assert "set <b>&" in text
    assert len(page.images()) == SHOWN
    for image in page.images():
        assert image["src"].startswith("data:image/jpeg;base64,")
    entries = [{"file": f"lime/{n}{HOSTILE[n]}", "category": HOSTILE[n]} for n in range(2)]
    entries.append({"file": "lime/0-lime.png", "category": "lime"})
    (folder / "set.json").write_text(json.dumps({"images": entries}))
    given_json = ("--model", "mine", "--dataset", folder / "set.json")
    assert run("evaluate", *given_json, "--html", report).status == 0
    assert f"category {HOSTILE[1]}, which the model lacks" in "".join(checked(report).texts)
    json_page = run("evaluate", *given, "--json")
    assert len(json.loads(json_page.out)["confusions"][0]["examples"]) == SHOWN


def test_categories_of_a_model_cannot_break_a_report_either(repository, run, tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_PATH", str(tmp_path / "models"))
    names = ["<script>alert(1)</script>", '"><img src=x>', "plum"]
    add_onnx(repository, write_colour_model(tmp_path / "a", names) / "model.onnx")
    add_onnx(repository, write_colour_model(tmp_path / "b", names, GREENISH) / "model.onnx")
    folder = write_colours(tmp_path / "set", {"plum": ["tomato", "lime", "teal"]})
    report = tmp_path / "report.html"
    given = ("--dataset", folder, "--html", report)
    assert run("evaluate", "--model", "mine", *given).status == 0
    assert names[0] in "".join(checked(report).texts)
    assert run("models", "compare", "mine", 1, 2, *given).status == 0
    assert names[1] in "".join(checked(report).texts)


def test_a_report_that_cannot_be_written_is_refused_before_the_work(models, run, pictures):
    given = ("--model", "mine", "--dataset", pictures)
    done = run("evaluate", *given, "--html", "nowhere/report.html")
    assert (done.status, done.out) == (1, "")
    assert "Cannot write nowhere/report.html: there is no folder nowhere." in done.err


def test_compare_shows_flips_both_ways_and_ends_by_their_number(models, run, pictures, tmp_path):
    report = tmp_path / "flips.html"
    given = ("models", "compare", "mine", "1", "2", "--dataset", pictures)
    done = run(*given, "--html", report)
    assert done.status == 0, done.err
    assert "2 lost (right by mine 1, wrong by mine 2), 1 gained" in done.out
    for name in ("plum/1-teal.png", "plum/2-teal.png", "lime/1-teal.png"):
        assert name in done.out
    page = checked(report)
    assert [image["alt"] for image in page.images()] == [
        "plum/1-teal.png",
        "plum/2-teal.png",
        "lime/1-teal.png",
    ]
    found = json.loads(run(*given, "--json").out)
    assert [len(found[key]) for key in ("lost", "gained", "wrong_in_two_ways")] == [2, 1, 0]
    assert found["lost"][0]["after"]["category"] == "lime"
    assert found["lost_by_category"] == {"plum": 2}
    assert run(*given, "--max-flips", 2).status == 0
    over = run(*given, "--max-flips", 1)
    assert over.status == 1
    assert "2 pictures are right by mine 1 and wrong by mine 2; at most 1 may be." in over.err
    back = ("models", "compare", "mine:2", "mine:1", "--dataset", pictures, "--max-flips", 1)
    assert run(*back).status == 0


def test_compare_takes_aliases_and_pairs_of_models(models, run, pictures):
    assert run("models", "alias", "mine", "stable", 1).status == 0
    for words in (["mine", "stable", "2"], ["mine", "mine:2"], ["mine:stable", "mine:2"]):
        done = run("models", "compare", *words, "--dataset", pictures, "--json")
        found = json.loads(done.out)
        assert (found["before"]["version"], found["after"]["version"]) == (1, 2)
    for words in (["mine"], ["mine", "1", "2", "3"]):
        assert run("models", "compare", *words, "--dataset", pictures).status == 2


def test_the_reliability_diagram_of_a_terminal_shows_each_bin():
    bins = (
        Bin(0.0, 0.5, 0, 0.25, 0),
        Bin(0.5, 0.75, 4, 0.6, 1),
        Bin(0.75, 1.0, 2, 1.0, 2),
    )
    plain = reliability_lines(Calibration(bins, 0.0), is_plain=True)
    assert plain == [
        f" 50% to  75% {'#' * 10}{' ' * 14}|{' ' * 15}  25% of 4 right, 60% said",
        f" 75% to 100% {'#' * 39}| 100% of 2 right, 100% said",
    ]
    assert "█" in reliability_lines(Calibration(bins, 0.0), is_plain=False)[0]
