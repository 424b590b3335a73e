"""How little a model decides."""

import pytest
from image_categorizer_server.domain.classification import Category, Prediction, Source
from image_categorizer_server.domain.review import uncertainty_of


def predictions(*confidences):
    return [Prediction(Category("c", "", ()), confidence) for confidence in confidences]


@pytest.mark.parametrize(
    ("confidences", "expected"),
    [
        ((0.9, 0.05), 0.15),
        ((0.5, 0.5), 1.0),
        ((0.05, 0.9), 0.15),
        ((1.0,), 0.0),
        ((0.7,), 0.6),
        ((0.3,), 1.0),
        ((), 1.0),
        ((1 / 3, 0.0), 0.666667),
    ],
)
def test_uncertainty_is_what_the_margin_leaves(confidences, expected):
    assert uncertainty_of(predictions(*confidences)) == expected


def test_corrections_are_not_the_models_own():
    corrected = Prediction(Category("other", "", ()), 0.99, source=Source.CORRECTION)
    assert uncertainty_of([corrected, *predictions(0.6, 0.4)]) == 0.8
