"""Evaluation: labelled sets, what a model says about them, and the figures."""

import json
import math
from threading import BoundedSemaphore

import numpy as np
import pytest
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.evaluation.answers import (
    Answered,
    Evaluator,
    Part,
    Unreadable,
)
from image_categorizer_server.inference.evaluation.comparison import compare_answers, sign_test
from image_categorizer_server.inference.evaluation.dataset import (
    LabelledPicture,
    digest_of_set,
    file_hash,
    read_labelled_set,
)
from image_categorizer_server.inference.evaluation.metrics import (
    by_category,
    calibration_of,
    confusions,
    coverage_curve,
    coverage_of,
    error_by_chance,
    evaluation_of,
    interval_95,
    top_share,
)
from image_categorizer_server.inference.images.decode import Decoder
from image_categorizer_server.inference.images.preprocess import InputSpec, Preprocessor
from image_categorizer_server.inference.runtimes import Answer
from image_categorizer_server.settings.inference import InferenceSettings
from image_categorizer_server.settings.model import ModelSettings

from tests.conftest import EXPORTS
from tests.support.colour_model import GREENISH, write_colour_model, write_colours
from tests.unit.conftest import LIMITS
from tests.unit.inference.test_onnx import add_onnx

FRUIT = ["tomato", "lime", "plum"]


@pytest.fixture
def evaluator():
    models, steps = ModelSettings(cache_path=EXPORTS), []
    made = Evaluator(
        Decoder(LIMITS),
        LIMITS.max_bytes,
        InferenceSettings(device="cpu"),
        models,
        lambda *step: steps.append(step),
    )
    return made, steps


@pytest.fixture
def fruit(repository, tmp_path):
    """Two versions, of which the second takes teal for lime."""
    add_onnx(repository, write_colour_model(tmp_path / "a", FRUIT) / "model.onnx")
    add_onnx(repository, write_colour_model(tmp_path / "b", FRUIT, GREENISH) / "model.onnx")
    return repository


def answered(name, category, confidences):
    """An answer with these confidences for categories 0, 1, 2 and so on."""
    top = sorted(range(len(confidences)), key=lambda index: -confidences[index])[:5]
    rank = None if category is None else sum(c > confidences[category] for c in confidences)
    shown = tuple(confidences[index] for index in top)
    return Answered(
        LabelledPicture(name, name, (str(category),)), category, tuple(top), shown, rank
    )


# Labelled sets.


def test_a_folder_has_a_category_for_each_folder_and_says_what_it_ignores(tmp_path):
    write_colours(tmp_path, {"lime": ["lime"], "plum": ["plum", "teal"]})
    (tmp_path / "lime" / "deep").mkdir()
    (tmp_path / "lime" / "deep" / "x.png").write_bytes(b"x")
    for ignored in ("notes.txt", "lime/.hidden.png"):
        (tmp_path / ignored).write_bytes(b"")
    found = read_labelled_set(tmp_path)
    assert [(p.name, p.label) for p in found.pictures] == [
        ("lime/0-lime.png", "lime"),
        ("lime/deep/x.png", "lime"),
        ("plum/0-plum.png", "plum"),
        ("plum/1-teal.png", "plum"),
    ]
    assert sorted(found.ignored) == ["lime/.hidden.png", "notes.txt"]
    assert found.name == tmp_path.name


def test_links_to_folders_are_followed_but_not_in_circles_and_links_to_nowhere_are_kept(tmp_path):
    write_colours(tmp_path / "elsewhere", {"x": ["plum"]})
    folder = write_colours(tmp_path / "set", {"lime": ["lime"]})
    for category in ("plum", "teal"):
        (folder / category).symlink_to(tmp_path / "elsewhere" / "x")
    (folder / "lime" / "circle").symlink_to(folder)
    (folder / "lime" / "nowhere.png").symlink_to(tmp_path / "nowhere")
    found = read_labelled_set(folder)
    assert [picture.name for picture in found.pictures] == [
        "lime/0-lime.png",
        "lime/nowhere.png",
        "plum/0-plum.png",
        "teal/0-plum.png",
    ]


def test_the_digest_of_a_set_follows_labels_names_and_contents_but_not_the_order(tmp_path):
    folder = write_colours(tmp_path / "set", {"lime": ["lime"], "plum": ["plum", "teal"]})

    def digest(reverse=False):
        pictures = sorted(read_labelled_set(folder).pictures, key=str, reverse=reverse)
        return digest_of_set((picture, file_hash(picture.file)) for picture in pictures)

    first = digest()
    assert first == digest(reverse=True)
    seen = {first}
    (folder / "plum" / "1-teal.png").write_bytes(b"other")
    seen.add(digest())
    (folder / "plum" / "1-teal.png").rename(folder / "plum" / "2.png")
    seen.add(digest())
    (folder / "plum" / "2.png").rename(folder / "lime" / "2.png")
    seen.add(digest())
    (folder / "lime" / "2.png").unlink()
    seen.add(digest())
    assert len(seen) == 5


@pytest.mark.parametrize("name", ["missing.png", "\0", "folder", "."])
def test_what_is_no_file_has_no_hash(tmp_path, name):
    (tmp_path / "folder").mkdir()
    assert file_hash(tmp_path / name) == ""


def test_json_nested_too_deeply_is_refused(tmp_path):
    file = tmp_path / "set.json"
    file.write_text("[" * 100_000)
    with pytest.raises(OperatorError, match="is not a labelled set"):
        read_labelled_set(file)


# Answers.


def test_a_model_is_asked_about_every_picture_and_what_fails_is_counted(fruit, tmp_path, evaluator):
    folder = write_colours(
        tmp_path / "set",
        {"tomato": ["tomato"] * 9, "lime": ["lime", "tomato"], "plum": ["teal"], "kiwi": ["lime"]},
    )
    (folder / "lime" / "damaged.png").write_bytes(
        (folder / "lime" / "0-lime.png").read_bytes()[:40]
    )
    (folder / "plum" / "text.png").write_text("no picture")
    made, steps = evaluator
    dataset = read_labelled_set(folder)
    answers = made.ask(fruit.find("mine", "1"), dataset)
    assert [each.picture.name for each in answers.known] == sorted(
        [f"tomato/{n}-tomato.png" for n in range(9)]
        + ["lime/0-lime.png", "lime/1-tomato.png", "plum/0-teal.png"]
    )
    wrong = [each for each in answers.known if not each.is_right]
    assert [each.picture.name for each in wrong] == ["lime/1-tomato.png"]
    assert [each.picture.label for each in answers.unknown] == ["kiwi"]
    assert [each.picture.name for each in answers.unreadable] == [
        "lime/damaged.png",
        "plum/text.png",
    ]
    assert all(each.reason for each in answers.unreadable)
    total = len(dataset.pictures)
    assert len(answers.known) + len(answers.unknown) + len(answers.unreadable) == total
    assert steps[-1] == ("mine 1", total, total)
    assert answers.images_per_s > 0
    expected = digest_of_set((picture, file_hash(picture.file)) for picture in dataset.pictures)
    assert answers.dataset_digest == expected
    figures = evaluation_of(answers)
    assert (figures.top_1.count, figures.top_1.total) == (11, 12)
    assert (figures.top_1_of_all.count, figures.top_1_of_all.total) == (11, 13)
    assert (figures.unknown_labels, figures.top_5) == ({"kiwi": 1}, None)


def test_files_that_are_missing_no_files_or_too_large_are_unreadable(fruit, tmp_path, evaluator):
    folder = write_colours(tmp_path / "set", {"lime": ["lime"]})
    with (folder / "large.png").open("wb") as large:
        large.truncate(LIMITS.max_bytes + 1)
    names = ["lime/0-lime.png", "gone.png", "lime", "large.png", "nul\0.png"]
    entries = [{"file": name, "category": "lime"} for name in names]
    (folder / "set.json").write_text(json.dumps({"images": entries}))
    answers = evaluator[0].ask(fruit.find("mine"), read_labelled_set(folder / "set.json"))
    assert [each.picture.name for each in answers.known] == names[:1]
    reasons = {each.picture.name: each.reason for each in answers.unreadable}
    assert list(reasons) == names[1:]
    assert reasons["gone.png"] == "No such file or directory"
    assert reasons["lime"] == "Not a file"
    assert "more than" in reasons["large.png"]


def test_an_empty_set_a_damaged_version_and_a_set_of_other_categories_are_refused(
    fruit, tmp_path, evaluator
):
    (tmp_path / "empty").mkdir()
    with pytest.raises(OperatorError, match="has no labelled pictures"):
        evaluator[0].ask(fruit.find("mine"), read_labelled_set(tmp_path / "empty"))
    kiwis = read_labelled_set(write_colours(tmp_path / "set", {"kiwi": ["lime"]}))
    with pytest.raises(OperatorError, match="0 are unreadable, and 1 are of categories"):
        evaluation_of(evaluator[0].ask(fruit.find("mine"), kiwis))
    found = fruit.find("mine", "1")
    (found.folder / "model.onnx").write_bytes(b"")
    with pytest.raises(OperatorError, match=r"mine version 1 is damaged: model\.onnx"):
        evaluator[0].ask(found, kiwis)


def test_a_picture_that_the_model_fails_on_is_counted_and_costs_no_other(tmp_path):
    class Failing:
        """Refuses what is green."""

        def predict(self, inputs):
            assert not any(each[0, 0, 1] > 200 for each in inputs)
            return Answer(np.array([[0.7, 0.2, 0.1]] * len(inputs), np.float32))

    class Undefined:
        """Answers what is no number."""

        def predict(self, inputs):
            return Answer(np.full((len(inputs), 3), np.nan, np.float32))

    folder = write_colours(tmp_path, {"tomato": ["tomato"] * 3, "lime": ["lime"], "plum": ["plum"]})
    pictures = read_labelled_set(folder).pictures
    size = {"width_px": 8, "height_px": 8, "resize": "exact", "resample": "bilinear"}
    spec = InputSpec(**size, scale=(1, 1, 1), bias=(0, 0, 0))
    preprocessor = Preprocessor(Decoder(LIMITS), spec)
    known = {name: index for index, name in enumerate(FRUIT)}

    def reasons(runtime):
        part = Part(preprocessor, runtime, known, LIMITS.max_bytes, BoundedSemaphore())
        answers = [each.answer for each in part.read(pictures)]
        return [each.reason if isinstance(each, Unreadable) else each.rank for each in answers]

    assert reasons(Failing()) == ["the model fails on it", 2, 0, 0, 0]
    assert reasons(Undefined()) == ["the model's answer is not a number"] * 5


# Figures.

ANSWERS = [
    answered("a", 0, [0.9, 0.1, 0.0]),
    answered("b", 0, [0.2, 0.7, 0.1]),
    answered("c", 1, [0.0, 0.95, 0.05]),
    answered("d", 0, [0.3, 0.6, 0.1]),
    answered("e", 2, [0.5, 0.2, 0.3]),
]


def test_top_shares_count_the_ranks():
    assert [top_share(ANSWERS, k).count for k in (1, 2, 3)] == [2, 5, 5]
    many = [answered("x", wanted, [0.3, 0.2, 0.2, 0.1, 0.1, 0.05, 0.05]) for wanted in (0, 6)]
    assert (top_share(many, 1).count, top_share(many, 5).count) == (1, 1)


def test_categories_and_confusions_are_counted_the_worst_first():
    figures = by_category(ANSWERS, FRUIT)
    assert [(f.name, f.pictures, f.predicted, f.right) for f in figures] == [
        ("plum", 1, 0, 0),
        ("tomato", 3, 2, 1),
        ("lime", 1, 3, 1),
    ]
    assert (figures[0].precision, figures[1].recall.value) == (None, pytest.approx(1 / 3))
    assert figures[2].precision.interval == interval_95(1, 3)
    pairs = confusions(ANSWERS, FRUIT)
    assert [(p.category, p.predicted, [a.picture.name for a in p.pictures]) for p in pairs] == [
        ("tomato", "lime", ["b", "d"]),
        ("plum", "tomato", ["e"]),
    ]


def test_the_calibration_error_is_that_of_the_definition():
    random = np.random.default_rng(3)
    confidences = random.uniform(0.34, 1, 400)
    right = random.uniform(0, 1, 400) < confidences**2
    answers = [
        answered(str(n), 0 if is_right else 1, [float(c), (1 - c) / 2, (1 - c) / 2])
        for n, (c, is_right) in enumerate(zip(confidences, right, strict=True))
    ]
    edges = np.minimum((confidences * 15).astype(int), 14)
    expected = sum(
        (edges == k).mean() * abs(right[edges == k].mean() - confidences[edges == k].mean())
        for k in range(15)
        if (edges == k).any()
    )
    found = calibration_of(answers)
    assert found.ece == pytest.approx(expected)
    assert (len(found.bins), sum(each.count for each in found.bins)) == (15, 400)
    certain = calibration_of([answered("x", 0, [1.0, 0.0])])
    assert (certain.ece, certain.bins[-1].count) == (0, 1)
    assert certain.ece_by_chance == 0


def test_chance_makes_the_calibration_error_of_few_pictures_large():
    # One bin: the mean distance of a binomial share from its expectation, n = 100, p = 0.62.
    n, p = 100, 0.62
    terms = (math.comb(n, k) * p**k * (1 - p) ** (n - k) * abs(k / n - p) for k in range(n + 1))
    assert error_by_chance([p] * n) == pytest.approx(sum(terms), rel=0.1)
    confidences = np.random.default_rng(0).random(40_000)
    assert error_by_chance(confidences[:80]) > 0.05
    assert error_by_chance(confidences) < 0.01


def test_coverage_falls_and_precision_follows_the_threshold():
    found = coverage_of(ANSWERS, [0, 0.65, 0.9, 0.99])
    assert [(c.answered.count, c.right and c.right.count) for c in found] == [
        (5, 2),
        (3, 2),
        (2, 2),
        (0, None),
    ]
    curve = coverage_curve(ANSWERS)
    assert [x for x, _ in curve] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1])
    assert [y for _, y in curve] == pytest.approx([1, 1, 2 / 3, 0.5, 0.4])
    equal = [answered("x", n % 2, [0.75, 0.25]) for n in range(1000)]
    assert coverage_curve(equal) == [(1.0, 0.5)]
    many = [answered("x", 0, [0.5 + n / 4000, 0.1]) for n in range(1000)]
    assert len(coverage_curve(many)) <= 201


@pytest.mark.parametrize(
    ("lost", "gained", "p"), [(0, 0, 1), (1, 1, 1), (0, 6, 0.03125), (2, 8, 0.109375)]
)
def test_the_sign_test_is_exact(lost, gained, p):
    assert sign_test(lost, gained) == sign_test(gained, lost) == pytest.approx(p)


# Comparison.


def test_flips_are_found_both_ways(fruit, repository, tmp_path, evaluator):
    folder = write_colours(
        tmp_path / "set",
        {"plum": ["teal", "teal", "plum"], "lime": ["teal", "lime"], "tomato": ["teal"]},
    )
    (folder / "plum" / "damaged.png").write_bytes(b"")
    dataset = read_labelled_set(folder)
    before, after = (evaluator[0].ask(fruit.find("mine", v), dataset) for v in ("1", "2"))
    compared = compare_answers(before, after)
    assert [flip.picture.name for flip in compared.lost] == ["plum/0-teal.png", "plum/1-teal.png"]
    assert [flip.picture.name for flip in compared.gained] == ["lime/0-teal.png"]
    (other,) = compared.other
    assert (other.picture.label, other.predicted_before, other.predicted_after) == (
        "tomato",
        "plum",
        "lime",
    )
    assert compared.lost_by_category == {"plum": 2}
    assert (compared.right_before.count, compared.right_after.count) == (4, 3)
    assert (compared.right_before.total, compared.left_out, compared.p_value) == (6, 1, 1)
    back = compare_answers(after, before)
    assert ([f.picture for f in back.lost], [f.picture for f in back.gained]) == (
        [f.picture for f in compared.gained],
        [f.picture for f in compared.lost],
    )


def test_a_category_that_only_one_model_has_counts_against_the_other(fruit, tmp_path, evaluator):
    add_onnx(fruit, write_colour_model(tmp_path / "c", ["tomato", "lime", "fig"]) / "model.onnx")
    folder = write_colours(tmp_path / "set", {"plum": ["plum"], "fig": ["plum"], "kiwi": ["lime"]})
    dataset = read_labelled_set(folder)
    before, after = (evaluator[0].ask(fruit.find("mine", v), dataset) for v in ("1", "3"))
    compared = compare_answers(before, after)
    assert [flip.picture.label for flip in compared.lost] == ["plum"]
    assert [flip.picture.label for flip in compared.gained] == ["fig"]
    assert compared.left_out == 1
