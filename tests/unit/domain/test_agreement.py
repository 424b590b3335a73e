"""Agreement of reviewers: figures of textbooks, and edges."""

import pytest
from image_categorizer_server.domain.agreement import agreement_of, cohen, fleiss
from image_categorizer_server.domain.review import Vote

# Fleiss (1971) as in "Fleiss' kappa", Wikipedia: 14 raters, 10 subjects, 5 categories.
FLEISS = [
    (0, 0, 0, 0, 14),
    (0, 2, 6, 4, 2),
    (0, 0, 3, 5, 6),
    (0, 3, 9, 2, 0),
    (2, 2, 8, 1, 1),
    (7, 7, 0, 0, 0),
    (3, 2, 6, 3, 0),
    (2, 5, 3, 2, 2),
    (6, 5, 2, 1, 0),
    (0, 2, 2, 3, 7),
]


def test_fleiss_kappa_is_that_of_the_textbook():
    results = [[str(c) for c, n in enumerate(row) for _ in range(n)] for row in FLEISS]
    observed, kappa = fleiss(results)
    assert observed == pytest.approx(0.378, abs=5e-4)
    assert kappa == pytest.approx(0.210, abs=5e-4)


def test_cohen_kappa_is_that_of_the_textbook():
    both = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    assert cohen(both) == (pytest.approx(0.7), pytest.approx(0.4))


def test_a_kappa_without_chance_to_disagree_is_not_known():
    assert fleiss([]) == (None, None)
    assert fleiss([["cat", "cat"], ["cat", "cat", "cat"]]) == (1.0, None)
    assert cohen([("cat", "cat")]) == (1.0, None)


def test_results_that_one_reviewer_has_judged_do_not_count():
    votes = [Vote("r1", "ann", "cat"), Vote("r1", "bob", "cat"), Vote("r2", "ann", "dog")]
    votes += [Vote("r3", "bob", "cat"), Vote("r3", "ann", "dog"), Vote("r3", "eve", "dog")]
    found = agreement_of(votes)
    assert (found.result_count, found.reviewer_count) == (2, 3)
    assert found.observed == pytest.approx((1 + 1 / 3) / 2)
    assert [(p.reviewer, p.other_reviewer, p.result_count) for p in found.pairs] == [
        ("ann", "bob", 2),
        ("ann", "eve", 1),
        ("bob", "eve", 1),
    ]
    assert found.pairs[0].observed == 0.5
    assert agreement_of([]).fleiss_kappa is None
