"""Means, regressions, and the trial between them, on made-up embeddings."""

import numpy as np
import pytest
from image_categorizer_server.inference.heads.examples import OTHER, Labelled, unit
from image_categorizer_server.inference.heads.linear import C, fit_linear
from image_categorizer_server.inference.heads.means import Means
from image_categorizer_server.inference.heads.trial import compared, folds_of
from sklearn.linear_model import LogisticRegression

SIZE = 32
LEAST = 0.3


def made(count, seed=0, spread=0.8, categories=3):
    """Examples around the axes of a space, `count` of each category."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(categories), count)
    vectors = np.eye(SIZE)[labels] + rng.normal(0, spread / SIZE**0.5, (len(labels), SIZE))
    return Labelled(unit(vectors.astype(np.float32)), labels, categories)


@pytest.mark.parametrize("count", [5, 40])
def test_the_regression_is_that_of_scikit_learn(count):
    every, asked = made(count), made(50, seed=1)
    uneven = (every.labels > 0) | (np.arange(len(every)) % 2 == 0)
    examples = every.of(uneven)
    ours = fit_linear(examples)
    theirs = LogisticRegression(C=C, class_weight="balanced", max_iter=1000, tol=1e-6)
    theirs.fit(examples.vectors, examples.labels)
    logits = ours.logits(asked.vectors)
    expected = theirs.decision_function(asked.vectors)
    assert np.abs((logits - logits.mean(axis=1, keepdims=True)) - expected).max() < 0.05
    assert (logits.argmax(axis=1) == theirs.predict(asked.vectors)).mean() > 0.98


def test_pictures_of_a_category_reach_its_threshold_and_others_do_not():
    means = Means.of(made(20), LEAST)
    assert (means.thresholds >= LEAST).all()
    alike = means.similarities(made(50, seed=1).vectors) >= means.thresholds
    assert alike.any(axis=1).mean() > 0.95
    elsewhere = unit(np.eye(SIZE, dtype=np.float32)[10:])
    assert not (means.similarities(elsewhere) >= means.thresholds).any()


def test_one_example_is_enough_and_then_the_least_similarity_decides():
    means = Means.of(made(1), LEAST)
    assert means.thresholds.tolist() == pytest.approx([LEAST] * 3)
    assert means.logits(made(1).vectors).argmax(axis=1).tolist() == [0, 1, 2]


def test_examples_of_no_category_are_an_answer_of_their_own():
    four = made(20, categories=4)
    labels = np.where(four.labels == 3, OTHER, four.labels)
    examples, asked = Labelled(four.vectors, labels, 3), made(20, seed=1, categories=4)
    for head in (Means.of(examples, LEAST), fit_linear(examples)):
        logits = head.logits(asked.vectors)
        assert logits.shape == (80, 4)
        assert (logits.argmax(axis=1) == asked.labels).mean() > 0.9


def test_every_example_is_held_out_once_and_each_category_is_in_every_fold():
    folds = folds_of(np.repeat([0, 1, OTHER], 5))
    assert folds.tolist() == [0, 1, 2, 3, 4] * 3


def test_a_regression_that_has_no_more_right_is_refused():
    noise = np.random.default_rng(0).normal(size=(30, SIZE)).astype(np.float32)
    examples = Labelled(unit(noise), np.repeat([0, 1], 15), 2)
    outcome = compared(examples, ("a", "b"), np.ones(30, bool))
    assert outcome.right_count == outcome.baseline_right_count
    assert "pictures right" in outcome.refusal


def test_a_regression_that_knows_more_examples_beats_the_one_before_it():
    examples = made(40, spread=2.5)
    known = np.arange(len(examples)) % 40 < 3
    outcome = compared(examples, ("a", "b", "c"), known)
    assert outcome.total_count == 120
    assert outcome.right_count > outcome.baseline_right_count
    assert outcome.refusal == ""
    strict = compared(examples, ("a", "b", "c"), known, max_flips_per_category=0)
    assert "wrong that version 1 has right" in strict.refusal


def test_a_regression_that_has_all_right_is_not_refused():
    outcome = compared(made(6, spread=0.1), ("a", "b", "c"), None)
    assert (outcome.right_count, outcome.baseline_right_count, outcome.refusal) == (18, 18, "")
