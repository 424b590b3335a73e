"""Broader categories: their confidences, the deepest that is certain enough, filters."""

from dataclasses import replace

import numpy as np
import pytest
from image_categorizer_server.inference.classifier import top_predictions
from image_categorizer_server.inference.models.category_tree import CategoryTree, Filters
from image_categorizer_server.inference.models.manifest import CategoryEntry

ALL = Filters()
# Two levels above the first two, two parents above the mushroom, nothing above the brick.
ENTRIES = (
    CategoryEntry(name="tabby", id="n1", ancestors=("cat", "animal"), ancestor_ids=("n5", "n6")),
    CategoryEntry(name="lynx", ancestors=("cat", "animal")),
    CategoryEntry(name="beagle", ancestors=("dog", "animal")),
    CategoryEntry(name="mushroom", ancestors=("vegetable", "fungus", "food")),
    CategoryEntry(name="pizza", ancestors=("food",)),
    CategoryEntry(name="bolete", ancestors=("fungus",)),
    CategoryEntry(name="leek", ancestors=("vegetable", "food")),
    CategoryEntry(name="brick"),
)
TREE = CategoryTree(ENTRIES, "softmax")


def answer(**confidences):
    return np.array([confidences.get(entry.name, 0) for entry in ENTRIES], np.float32)


def rolled(confidences, threshold=0.8, filters=ALL, tree=TREE, top_k=5):
    found = tree.roll_up(confidences, threshold, top_k, filters)
    return [(p.category.name, round(p.confidence, 4)) for p in found]


def test_the_outputs_come_first_and_broader_categories_know_what_is_above_them():
    assert [c.name for c in TREE.categories[: len(ENTRIES)]] == [e.name for e in ENTRIES]
    categories = {category.name: category for category in TREE.categories}
    cat, tabby, vegetable = categories["cat"], categories["tabby"], categories["vegetable"]
    assert (cat.category_id, cat.ancestors) == ("n5", ("animal",))
    assert (tabby.category_id, tabby.ancestors) == ("n1", ("cat", "animal"))
    assert (vegetable.category_id, vegetable.ancestors) == ("", ("food",))
    assert categories["fungus"].ancestors == ()
    assert all(TREE.categories[TREE.positions[name]].name == name for name in TREE.positions)


def test_every_output_is_counted_once_in_each_category_above_it():
    values = TREE.confidences(answer(mushroom=0.5, leek=0.2, bolete=0.1, pizza=0.1))
    found = {
        name: round(values[position], 6)
        for name, position in TREE.positions.items()
        if name in ("food", "fungus", "vegetable", "animal", "mushroom")
    }
    assert found == {
        "food": 0.8,
        "fungus": 0.6,
        "vegetable": 0.7,
        "animal": 0,
        "mushroom": 0.5,
    }


@pytest.mark.parametrize(
    ("confidences", "first"),
    [
        (answer(tabby=0.9, lynx=0.05), ("tabby", 0.9)),
        (answer(tabby=0.5, lynx=0.45, brick=0.05), ("cat", 0.95)),
        (answer(tabby=0.4, lynx=0.2, beagle=0.3, brick=0.1), ("animal", 0.9)),
        (answer(mushroom=0.5, bolete=0.4, pizza=0.1), ("fungus", 0.9)),
        (answer(mushroom=0.5, leek=0.4, pizza=0.1), ("vegetable", 0.9)),
        (answer(mushroom=0.5, leek=0.2, pizza=0.15, bolete=0.15), ("food", 0.85)),
        (answer(brick=0.5, tabby=0.5), ("UNKNOWN", 0)),
    ],
)
def test_the_answer_is_the_deepest_category_that_reaches_the_threshold(confidences, first):
    assert rolled(confidences)[0] == first


def test_the_threshold_is_inclusive():
    assert rolled(answer(tabby=0.5, lynx=0.25), 0.75)[0] == ("cat", 0.75)
    assert rolled(answer(tabby=0.5, lynx=0.25), 0.7501)[0] == ("UNKNOWN", 0)


def test_unknown_has_neither_identifier_nor_ancestors_nor_company():
    (only,) = TREE.roll_up(answer(brick=0.5), 0.8, 5, ALL)
    assert (only.category.category_id, only.category.ancestors) == ("", ())
    assert only.bounding_box is None


def test_the_categories_below_the_answer_follow_by_confidence():
    confidences = answer(tabby=0.4, lynx=0.5, beagle=0.1)
    assert rolled(confidences) == [("cat", 0.9), ("lynx", 0.5), ("tabby", 0.4)]
    assert rolled(confidences, top_k=2) == [("cat", 0.9), ("lynx", 0.5)]
    assert rolled(confidences, top_k=1) == [("cat", 0.9)]
    equal = answer(tabby=0.45, lynx=0.45)
    assert [name for name, _ in rolled(equal)] == ["cat", "tabby", "lynx"]


def test_of_several_deepest_categories_the_most_confident_is_the_answer():
    assert rolled(answer(tabby=0.3, brick=0.31, beagle=0.39), 0.3)[0][0] == "beagle"
    assert rolled(answer(tabby=0.25, lynx=0.25, brick=0.4), 0.3)[0] == ("cat", 0.5)


def test_of_equally_confident_ones_the_answer_is_the_one_below_more_then_the_first():
    assert rolled(answer(pizza=0.5, leek=0.5), 0.5)[0][0] == "leek"
    assert rolled(answer(lynx=0.5, beagle=0.5), 0.5)[0][0] == "lynx"
    # Both have the same output; the one that is named first is below.
    chain = CategoryTree([CategoryEntry(name="sorrel", ancestors=("horse", "mount"))], "softmax")
    assert chain.roll_up(np.array([1], np.float32), 0.8, 1, ALL)[0].category.name == "sorrel"
    assert [c.ancestors for c in chain.categories] == [("horse", "mount"), ("mount",), (), ()]


def test_confidences_of_categories_that_do_not_exclude_each_other_are_not_added():
    tree = CategoryTree(ENTRIES, "sigmoid")
    assert rolled(answer(tabby=0.5, lynx=0.5, beagle=0.5), tree=tree) == [("UNKNOWN", 0)]
    both = answer(tabby=0.7, lynx=0.6, beagle=0.9)
    assert rolled(both, tree=tree)[0] == ("beagle", 0.9)
    # A broader category is as confident as its best output, which is deeper.
    assert rolled(both, filters=Filters(included=TREE.outputs(["cat"])), threshold=0.65, tree=tree)[
        0
    ] == ("tabby", 0.7)


def test_an_output_may_be_a_broader_category_too():
    entries = [
        CategoryEntry(name="dog", id="n1", ancestors=("animal",)),
        CategoryEntry(name="poodle", ancestors=("dog", "animal")),
        CategoryEntry(name="cat", ancestors=("animal", "cat")),
    ]
    tree = CategoryTree(entries, "softmax")
    found = tree.roll_up(np.array([0.5, 0.4, 0.1], np.float32), 0.8, 5, ALL)
    assert [(p.category.name, round(p.confidence, 4)) for p in found] == [
        ("dog", 0.9),
        ("poodle", 0.4),
    ]
    assert found[0].category.category_id == "n1"
    assert tree.outputs(["dog"]) == {0, 1}
    assert tree.outputs(["cat"]) == {2}


def test_confidences_never_exceed_one():
    values = TREE.confidences(answer(tabby=0.7, lynx=0.300001))
    assert values.max() == 1


def test_a_broader_category_stands_for_all_outputs_below_it():
    assert TREE.outputs(["cat", "brick"]) == {0, 1, 7}
    assert TREE.outputs(["fungus"]) == {3, 5}
    for name in ("emu", "UNKNOWN"):
        with pytest.raises(KeyError):
            TREE.outputs([name])


def test_only_included_categories_and_those_below_them_are_answers():
    cats = Filters(included=TREE.outputs(["cat"]))
    assert rolled(answer(tabby=0.5, lynx=0.45), filters=cats)[0] == ("cat", 0.95)
    # Of the animals only cats are wanted, so the animal is no answer.
    assert rolled(answer(tabby=0.5, beagle=0.45), filters=cats) == [("UNKNOWN", 0)]
    one = Filters(included=TREE.outputs(["tabby", "beagle"]))
    assert rolled(answer(tabby=0.5, lynx=0.45), filters=one) == [("UNKNOWN", 0)]


def test_excluded_categories_and_those_below_them_are_no_answers_and_change_no_confidence():
    no_cats = Filters(excluded=TREE.outputs(["cat"]))
    assert rolled(answer(tabby=0.5, lynx=0.45), filters=no_cats) == [
        ("animal", 0.95),
        ("beagle", 0),
    ]
    no_tabby = Filters(excluded=TREE.outputs(["tabby"]))
    assert rolled(answer(tabby=0.9), filters=no_tabby) == [("cat", 0.9), ("lynx", 0)]


def raw_of(predictions, raw, is_rolled_up=True, tree=TREE):
    found = tree.with_raw_confidences(predictions, raw, is_rolled_up=is_rolled_up)
    assert [replace(p, raw_confidence=None) for p in found] == list(predictions)
    return {p.category.name: round(p.raw_confidence or 0.0, 6) for p in found}


def test_raw_confidences_are_summed_like_those_that_the_answer_goes_by():
    predictions = TREE.roll_up(answer(tabby=0.5, lynx=0.4, pizza=0.1), 0.8, 5, ALL)
    raw = answer(tabby=0.3, lynx=0.25, pizza=0.45)
    # Calibrated, it is a cat; by the raw ones it would be none.
    assert raw_of(predictions, raw) == {"cat": 0.55, "tabby": 0.3, "lynx": 0.25}
    unknown = TREE.roll_up(answer(brick=0.5), 0.8, 5, ALL)
    assert raw_of(unknown, answer(brick=0.9)) == {"UNKNOWN": 0}


def test_the_raw_confidence_of_categories_that_do_not_exclude_each_other_is_the_largest():
    tree = CategoryTree(ENTRIES, "sigmoid")
    no_tabby = Filters(excluded=TREE.outputs(["tabby"]))
    predictions = tree.roll_up(answer(tabby=0.9, lynx=0.6), 0.8, 5, no_tabby)
    raw = answer(tabby=0.7, lynx=0.65)
    assert raw_of(predictions, raw, tree=tree) == {"cat": 0.7, "lynx": 0.65}


@pytest.mark.parametrize("seed", range(5))
def test_without_a_temperature_raw_confidences_are_equal(seed):
    entries = [
        CategoryEntry(name="dog", ancestors=("animal",)),
        CategoryEntry(name="poodle", ancestors=("dog", "animal")),
        CategoryEntry(name="cat", ancestors=("animal",)),
    ]
    tree = CategoryTree(entries, "softmax")
    values = np.random.default_rng(seed).dirichlet([1, 1, 1]).astype(np.float32)
    for is_rolled_up, predictions in (
        (True, tree.roll_up(values, 0.5, 5, ALL)),
        (False, top_predictions(values, tree.categories[:3], 5, 0.0, None)),
    ):
        found = tree.with_raw_confidences(predictions, values, is_rolled_up=is_rolled_up)
        assert [p.raw_confidence for p in found] == [p.confidence for p in predictions]


def test_the_strongest_output_stands_for_a_broader_category():
    confidences = answer(tabby=0.4, lynx=0.5, beagle=0.1)
    predictions = TREE.roll_up(confidences, 0.8, 5, ALL)
    assert TREE.strongest(confidences, predictions) == {"cat": 1, "lynx": 1, "tabby": 0}


def test_the_digest_depends_on_names_and_on_what_is_above_them():
    assert TREE.digest == CategoryTree(ENTRIES, "softmax").digest
    moved = (*ENTRIES[:-1], CategoryEntry(name="brick", ancestors=("food",)))
    assert TREE.digest != CategoryTree(moved, "softmax").digest
