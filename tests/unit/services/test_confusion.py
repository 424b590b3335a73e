"""Corrections of one category to another change answers with the one to the other alone."""

import time

import numpy as np
import pytest
from image_categorizer_server.db.category import ExampleRow
from image_categorizer_server.domain.classification import Source
from image_categorizer_server.services.confusion import MAX_CONFUSIONS, MIN_CORRECTIONS
from image_categorizer_server.services.head import head_of
from image_categorizer_server.services.neighbours import STORED

SIZE = 64
NOISE, FAR = 0.2, 1.0
SAME_FROM = 0.99999
NAMES = ("ant", "bee", "cat")
# The pictures of a category lie around its centre, and differ in one more direction, which examples
# do not show: corrections do.
HIDDEN = np.eye(SIZE)[-1]


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def pictures(rng, name, count, hidden=0.0):
    centre = np.eye(SIZE)[NAMES.index(name)] + 1.2 * np.eye(SIZE)[10]
    noise = rng.normal(0, NOISE, (count, SIZE))
    return unit(centre + noise + hidden * HIDDEN).astype(np.float32)


def rows_of(vectors, category, answered="", is_own=True, first=0):
    return [
        ExampleRow(
            f"i-{answered}{category}{first + n}",
            category,
            is_own,
            vector.astype(STORED).tobytes(),
            answered,
        )
        for n, vector in enumerate(vectors)
    ]


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def taught(rng):
    return [row for name in NAMES for row in rows_of(pictures(rng, name, 12), name)]


def between(rng, count):
    """Pictures that look more like ants than like bees, in a way that nobody has taught."""
    centre = 0.7 * np.eye(SIZE)[0] + 0.5 * np.eye(SIZE)[1] + 1.2 * np.eye(SIZE)[10] + FAR * HIDDEN
    return unit(centre + rng.normal(0, NOISE, (count, SIZE))).astype(np.float32)


def taken_for_ants(rng, head):
    """Of such pictures those that a head calls ants, at least ten."""
    asked = between(rng, 60)
    found = asked[[name == "ant" for name in names(head, asked)]]
    assert len(found) >= 10
    return found


def answers(head, vectors):
    found = []
    for vector in vectors:
        decision = head.decide(vector, SAME_FROM)
        found.append((head.decide_again(vector, decision) or decision) if decision else None)
    return found


def names(head, vectors):
    return [one.category if one else "" for one in answers(head, vectors)]


def test_corrections_of_one_confusion_decide_between_its_two_categories_alone(rng, taught):
    corrections = rows_of(between(rng, 10), "bee", answered="ant")
    before, after = head_of(taught, [], 0.1), head_of([*taught, *corrections], [], 0.1)
    asked = taken_for_ants(rng, before)
    assert names(after, asked).count("bee") >= 0.75 * len(asked)
    plain = np.concatenate([pictures(rng, name, 40) for name in NAMES])
    then, now = names(before, plain), names(after, plain)
    changed = {pair for pair in zip(then, now, strict=True) if pair[0] != pair[1]}
    assert changed <= {("ant", "bee")}
    assert now[:40].count("ant") >= 0.9 * then[:40].count("ant")
    # Nobody has corrected a cat or a bee: what looks like one stays, whatever else it looks like.
    for name in ("bee", "cat"):
        other = pictures(rng, name, 40, hidden=FAR)
        kept = list(zip(names(before, other), names(after, other), strict=True))
        assert all(then in ("ant", now) for then, now in kept)


def test_an_answer_names_the_corrections_that_made_it_and_goes_with_them(rng, taught):
    corrections = rows_of(between(rng, 10), "bee", answered="ant")
    head = head_of([*taught, *corrections], [], 0.1)
    asked = taken_for_ants(rng, head_of(taught, [], 0.1))
    found = next(one for one in answers(head, asked) if one.category == "bee")
    assert (found.category, found.source) == ("bee", Source.CORRECTION)
    assert {n.image_id for n in found.neighbours} <= {row.image_id for row in corrections}
    similarities = [n.similarity for n in found.neighbours]
    assert similarities == sorted(similarities, reverse=True)
    assert 0 < found.confidence < 1
    few = head_of([*taught, *corrections[: MIN_CORRECTIONS - 1]], [], 0.1)
    assert few.confusions == {}
    # The corrected image itself, however few there are.
    same = np.frombuffer(corrections[0].vector, STORED).astype(np.float32)
    assert names(few, [unit(same)]) == ["bee"]
    assert len({head.fingerprint, few.fingerprint, head_of(taught, [], 0.1).fingerprint}) == 3
    assert head.revision == few.revision, "corrections are nothing that the regression learns"


def test_a_chain_of_corrections_takes_one_step(rng, taught):
    to_bee = rows_of(between(rng, 10), "bee", answered="ant")
    to_cat = rows_of(pictures(rng, "bee", 10, hidden=FAR), "cat", answered="bee")
    head = head_of([*taught, *to_bee, *to_cat], [], 0.1)
    assert set(head.confusions) == {"ant", "bee"}
    asked = taken_for_ants(rng, head_of(taught, [], 0.1))
    found = names(head, asked)
    assert found.count("bee") >= 0.75 * len(asked)
    assert "cat" not in found, "only what the head itself calls a bee may be a cat"


@pytest.mark.parametrize("name", ["UNKNOWN", "tabby"])
def test_corrections_to_none_of_the_tenants_categories_are_answered_so(rng, taught, name):
    corrections = rows_of(between(rng, 10), name, answered="ant", is_own=False)
    head = head_of([*taught, *corrections], [], 0.1)
    asked = taken_for_ants(rng, head_of(taught, [], 0.1))
    assert names(head, asked).count(name) >= 0.9 * len(asked)
    plain = np.concatenate([pictures(rng, name, 20) for name in NAMES])
    assert names(head, plain).count(name) <= 2


def test_what_is_marked_right_or_was_left_to_the_model_is_an_example(rng, taught):
    right = rows_of(between(rng, 10), "ant", answered="ant")
    left = rows_of(pictures(rng, "cat", 5), "cat", answered="tabby")
    unseen = rows_of(pictures(rng, "cat", 5, hidden=2), "dog", answered="ant")
    head = head_of([*taught, *right, *left, *unseen], [], 0.1)
    assert len(head.examples) == len(taught) + 20
    assert head.categories == ("ant", "bee", "cat", "dog")
    assert head.corrections.image_ids == ()


def test_corrections_that_contradict_the_examples_change_little(rng, taught):
    noise = rows_of(pictures(rng, "ant", 6), "bee", answered="ant")
    noise += rows_of(pictures(rng, "bee", 6), "ant", answered="bee")
    head = head_of([*taught, *noise], [], 0.1)
    before = head_of(taught, [], 0.1)
    plain = np.concatenate([pictures(rng, name, 100) for name in NAMES])
    changed = [a != b for a, b in zip(names(head, plain), names(before, plain), strict=True)]
    assert sum(changed) <= 0.1 * len(changed)


def test_the_most_corrections_are_learned_in_time(rng):
    categories = [f"c{number}" for number in range(30)]
    vectors = unit(rng.normal(0, 1, (30, 20, 1280))).astype(np.float32)
    rows = [r for n, name in enumerate(categories) for r in rows_of(vectors[n], name)]
    for n in range(29):
        for direction in ((n, n + 1), (n + 1, n)):
            answered, shown = (categories[i] for i in direction)
            found = unit(rng.normal(0, 1, (10, 1280))).astype(np.float32)
            rows += rows_of(found, shown, answered)
    head_of(rows, [], 0.1)  # imports
    start_s = time.process_time()
    head = head_of(rows, [], 0.1)
    assert time.process_time() - start_s < 2
    assert sum(map(len, head.confusions.values())) <= 2 * MAX_CONFUSIONS
