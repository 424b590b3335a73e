"""Top predictions: order, threshold, filters."""

import numpy as np
import pytest
from image_categorizer_server.domain.classification import Category
from image_categorizer_server.inference.classifier import top_predictions

CATEGORIES = tuple(Category(name) for name in ("ant", "bee", "cat", "dog"))
CONFIDENCES = np.array([0.1, 0.4, 0.4, 0.1], np.float32)


def names(**options):
    given = {"top_k": 5, "threshold": 0.0, "allowed": None} | options
    return [p.category.name for p in top_predictions(CONFIDENCES, CATEGORIES, **given)]


def test_the_most_confident_comes_first_and_equals_keep_their_order():
    assert names() == ["bee", "cat", "ant", "dog"]


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (3, 3), (4, 4), (1000, 4)])
def test_top_k_is_clamped_to_the_categories(top_k, count):
    assert len(names(top_k=top_k)) == count


def test_the_threshold_is_inclusive():
    assert names(threshold=float(CONFIDENCES[1])) == ["bee", "cat"]
    assert names(threshold=0.41) == []


def test_filters_do_not_change_confidences():
    found = top_predictions(CONFIDENCES, CATEGORIES, 5, 0.0, np.array([0, 2]))
    assert [(p.category.name, round(p.confidence, 3)) for p in found] == [
        ("cat", 0.4),
        ("ant", 0.1),
    ]


def test_filters_that_exclude_everything_return_nothing():
    assert names(allowed=np.array([], np.intp)) == []
