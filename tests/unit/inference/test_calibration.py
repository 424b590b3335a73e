"""Calibration: the temperatures that are fitted, and when there is one for each group."""

from pathlib import Path

import numpy as np
import pytest
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.evaluation.answers import Answered
from image_categorizer_server.inference.evaluation.calibration import fit_calibration
from image_categorizer_server.inference.evaluation.dataset import LabelledPicture
from image_categorizer_server.inference.models.manifest import CategoryEntry

ANIMALS = [CategoryEntry(name=f"animal {i}", ancestors=("animal",)) for i in range(6)]
THINGS = [CategoryEntry(name=f"thing {i}", ancestors=("tool", "thing")) for i in range(6)]
CATEGORIES = [*ANIMALS, *THINGS]
COUNT = len(CATEGORIES)


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def pictures(count, sharpness, seed=3):
    """Returns answers whose logits are too large by the sharpness of their first category."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, (count, COUNT))
    right = [random.choice(COUNT, p=row) for row in softmax(logits)]
    factors = np.array(sharpness)[logits.argmax(1)]
    return answered(softmax(logits * factors[:, None]).astype(np.float32), right)


def answered(rows, right):
    """Returns what a model says about as many pictures as there are rows."""
    found = []
    for number, (row, category) in enumerate(zip(rows, right, strict=True)):
        top = np.argsort(-row)[:5]
        found.append(
            Answered(
                LabelledPicture(Path(f"{number}.jpg"), f"{number}.jpg", (str(category),)),
                int(category),
                tuple(map(int, top)),
                tuple(float(row[index]) for index in top),
                int((row > row[category]).sum()),
                row,
            )
        )
    return found


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_confidences_wrong_is_found(temperature):
    fitted = fit_calibration(pictures(6_000, [temperature] * COUNT), "softmax", CATEGORIES, "none")
    assert fitted.temperature == pytest.approx(temperature, rel=0.06)
    assert fitted.after.ece < 0.02
    assert fitted.after.ece <= fitted.before.ece + 0.01
    assert (fitted.fitted, fitted.held_out) == (3_000, 3_000)
    assert fitted.temperatures == {}


@pytest.mark.parametrize("count", [400, 4_000])
def test_groups_that_are_wrong_in_different_ways_get_a_temperature_each(count):
    some = pictures(count, [0.6] * 6 + [2.0] * 6)
    fitted = fit_calibration(some, "softmax", CATEGORIES)
    assert fitted.temperatures == {
        "animal": pytest.approx(0.6, rel=0.3),
        "thing": pytest.approx(2.0, rel=0.3),
    }
    assert sum(fitted.pictures.values()) == fitted.fitted
    one = fit_calibration(some, "softmax", CATEGORIES, "none")
    assert fitted.after.log_loss < one.after.log_loss
    excess = [each.ece - each.ece_by_chance for each in (fitted.before, fitted.after)]
    assert excess[1] < 0.5 * excess[0]
    assert fitted.helps
    assert fitted.choice.startswith("Groups: in cross-validation, one for each upper category")


@pytest.mark.parametrize("count", [200, 600, 4_000])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_groups_that_are_wrong_in_one_way_get_one_temperature(count, seed):
    fitted = fit_calibration(pictures(count, [1.5] * COUNT, seed), "softmax", CATEGORIES)
    assert fitted.temperatures == {}
    assert fitted.choice.startswith("One temperature: in cross-validation")
    assert fitted.temperature == pytest.approx(1.5, rel=0.4)


def test_categories_that_differ_below_one_upper_category_are_groups_themselves():
    some = pictures(8_000, [0.5, 2.5] * 6)
    fitted = fit_calibration(some, "softmax", CATEGORIES)
    assert set(fitted.temperatures) == {entry.name for entry in CATEGORIES}
    assert fitted.temperatures["animal 0"] < 1 < fitted.temperatures["animal 1"]


def test_a_group_with_few_pictures_has_the_temperature_of_all():
    rare = [CategoryEntry(name="cloud", ancestors=("weather",)), *CATEGORIES[1:]]
    some = pictures(400, [1.0] + [0.6] * 5 + [2.0] * 6)
    fitted = fit_calibration(some, "softmax", rare)
    assert set(fitted.temperatures) == {"animal", "thing"}


def test_a_temperature_of_few_pictures_is_drawn_towards_that_of_all():
    few = pictures(200, [0.3] * 6 + [3.0] * 6)
    many = pictures(8_000, [0.3] * 6 + [3.0] * 6)
    drawn, free = (fit_calibration(some, "softmax", CATEGORIES, "upper") for some in (few, many))
    assert free.temperatures["animal"] == pytest.approx(0.3, rel=0.1)
    assert drawn.temperatures["animal"] > 1.1 * free.temperatures["animal"]


def test_after_a_sigmoid_groups_are_found_too():
    random = np.random.default_rng(5)
    logits = random.normal(-3, 1, (3_000, COUNT))
    first = random.integers(0, COUNT, 3_000)
    logits[np.arange(3_000), first] = random.normal(1.5, 1, 3_000)
    honest = 1 / (1 + np.exp(-logits))
    is_honest = random.random(3_000) < honest[np.arange(3_000), first]
    right = np.where(is_honest, first, (first + 1) % COUNT)
    factors = np.array([0.5] * 6 + [2.5] * 6)[logits.argmax(1)]
    said = (1 / (1 + np.exp(-logits * factors[:, None]))).astype(np.float32)
    fitted = fit_calibration(answered(said, right), "sigmoid", CATEGORIES)
    assert fitted.temperatures["animal"] < fitted.temperatures["thing"]
    assert fitted.helps


def test_what_cannot_be_fitted_is_refused():
    some = pictures(99, [1.0] * COUNT)
    with pytest.raises(OperatorError, match="99 pictures are too few: at least 100"):
        fit_calibration(some, "softmax", CATEGORIES)
    with pytest.raises(OperatorError, match="no softmax or sigmoid"):
        fit_calibration(some, "none", CATEGORIES)
    flat = [CategoryEntry(name=entry.name) for entry in CATEGORIES]
    with pytest.raises(OperatorError, match="fewer than two groups of categories have 30"):
        fit_calibration(pictures(100, [1.0] * COUNT), "softmax", flat, "category")
