"""CIFAR-10 as a tenant's own categories: `python -m tests.bench.categories TEST_DATA`.

Prints, for the packaged model and several numbers of examples, how many pictures the heads have
right, beside the model's own answers and scikit-learn's regression on the same embeddings; and what
twenty corrections of one confusion change.
"""

import asyncio
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from image_categorizer_server.db.category import ExampleRow
from image_categorizer_server.inference.embedding import embedding_of
from image_categorizer_server.inference.heads.linear import C
from image_categorizer_server.inference.models.manifest import Manifest, read_manifest
from image_categorizer_server.services.head import Head, head_of
from image_categorizer_server.services.head_fitting import tried
from image_categorizer_server.services.neighbours import STORED
from image_categorizer_server.settings.category import CategorySettings
from image_categorizer_server.settings.correction import CorrectionSettings
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from tests.bench.corrections import packaged, photographs

BATCH = 16
TEST, POOL = 200, 150
"""Pictures of each category: those that are asked, and those that examples are taken from."""
COUNTS = 5, 20, 100
SEEDS = range(3)
CORRECTED = range(8)
"""Seeds of what is corrected."""
CORRECTIONS, TAUGHT = 20, 20
SETTINGS = CategorySettings()
SAME_FROM = CorrectionSettings().min_similarity
# What the model calls them.  It has no deer.
OF_MODEL = {
    "airplane": {"aircraft"},
    "automobile": {"car"},
    "bird": {"bird"},
    "cat": {"cat"},
    "deer": {"antelope"},
    "dog": {"dog"},
    "frog": {"frog"},
    "horse": {"horse"},
    "ship": {"ship", "boat"},
    "truck": {"truck"},
}


class Seen(NamedTuple):
    """Pictures as the model sees them."""

    vectors: NDArray[np.float32]
    """As they are stored, in half precision."""
    names: list[set[str]]
    """Of the model's first category, with the broader ones."""
    labels: list[str]


async def seen(contents: Sequence[bytes], labels: Sequence[str]) -> Seen:
    """Returns pictures as the packaged model sees them."""
    vectors: list[NDArray[np.float32]] = []
    names: list[set[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        runtime, preprocessor = await packaged(Path(folder))
        manifest: Manifest = read_manifest(Path(folder))
        for start in range(0, len(contents), BATCH):
            arrays = [preprocessor.prepare(c).array for c in contents[start : start + BATCH]]
            answer = runtime.predict(arrays, with_features=True)
            assert answer.features is not None, "the packaged model has features"
            vectors += [embedding_of(found) for found in answer.features]
            for best in answer.confidences.argmax(axis=1).tolist():
                category = manifest.categories[best]
                names.append({category.name, *category.ancestors})
    stored = np.array(vectors).astype(STORED).astype(np.float32)
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    return Seen(stored, names, list(labels))


def pictures(test_data: Path, part: str, count: int) -> tuple[list[bytes], list[str]]:
    """Returns pictures of a part of CIFAR-10, `count` of each category, with their categories."""
    contents, labels, taken = [], [], Counter[str]()
    with tarfile.open(test_data / "datasets" / "cifar10.tar.gz") as archive:
        for member in archive:
            if f"{part}/" not in member.name or not member.name.endswith(".jpg"):
                continue
            label = member.name.split("/")[-2]
            if taken[label] < count:
                taken[label] += 1
                file = archive.extractfile(member)
                assert file is not None, "a file"
                contents.append(file.read())
                labels.append(label)
    return contents, labels


def examples_of(
    pool: Seen, chosen: Sequence[int], answered: Mapping[int, str] | None = None
) -> list[ExampleRow]:
    """Returns chosen pictures as examples; those with an answer as corrections of it."""
    said = answered or {}
    return [
        ExampleRow(
            f"i-{i:05}",
            pool.labels[i],
            True,
            pool.vectors[i].astype(STORED).tobytes(),
            said.get(i, ""),
        )
        for i in sorted(chosen)
    ]


def fitted(rows: Sequence[ExampleRow]) -> Head:
    """Returns the head that the server has for examples once it has tried a regression."""
    head = head_of(rows, [], SETTINGS.min_similarity)
    _, linear = tried(head, None, SETTINGS.max_flips_per_category)
    return replace(head, linear=linear)


def answers(head: Head, vectors: NDArray[np.float32]) -> list[str]:
    """Returns the tenant's category of each picture; empty where the model answers."""
    found: list[str] = []
    for vector in vectors:
        decision = head.decide(vector, SAME_FROM)
        again = head.decide_again(vector, decision) if decision else None
        last = again or decision
        found.append(last.category if last else "")
    return found


def share(found: Sequence[str], wanted: Sequence[str], only: set[str] | None = None) -> float:
    """Returns the share of pictures, of some categories, with the right answer."""
    pairs = [(f, w) for f, w in zip(found, wanted, strict=True) if only is None or w in only]
    return sum(f == w for f, w in pairs) / len(pairs)


def chosen_of(pool: Seen, count: int, seed: int) -> list[int]:
    """Returns the positions of random pictures, `count` of each category."""
    rng, labels = np.random.default_rng(seed), np.array(pool.labels)
    return [
        int(i)
        for label in sorted(set(pool.labels))
        for i in rng.permutation(np.flatnonzero(labels == label))[:count]
    ]


def row(pool: Seen, test: Seen, photos: Seen, count: int) -> str:
    """Returns a line of the table: averages over the seeds."""
    figures: list[list[float]] = []
    for seed in SEEDS:
        chosen = chosen_of(pool, count, seed)
        head = fitted(examples_of(pool, chosen))
        labels = [pool.labels[i] for i in chosen]
        theirs = LogisticRegression(C=C, max_iter=2000).fit(pool.vectors[chosen], labels)
        default = LogisticRegression(max_iter=2000).fit(pool.vectors[chosen], labels)
        found = answers(head, test.vectors)
        logits = (head.linear or head.means).logits(test.vectors)  # type: ignore[union-attr]
        closed = [head.categories[i] for i in logits.argmax(axis=1)]
        figures.append(
            [
                share(found, test.labels),
                share(closed, test.labels),
                theirs.score(test.vectors, test.labels),
                default.score(test.vectors, test.labels),
                sum(not name for name in found) / len(found),
                sum(map(bool, answers(head, photos.vectors))) / len(photos.labels),
                float(head.linear is not None),
            ]
        )
    return f"{count:<10}" + "".join(f"{value:10.1%}" for value in np.mean(figures, axis=0))


def corrected(pool: Seen, test: Seen, photos: Seen, seed: int) -> list[float]:
    """Returns what corrections of the most frequent confusion change.

    These are the shares of right pictures of the two categories before and after, then those of the
    others, and the number of photographs with another answer.
    """
    chosen = chosen_of(pool, TAUGHT, seed)
    before = fitted(examples_of(pool, chosen))
    rest = sorted(set(range(len(pool.labels))) - set(chosen))
    said = dict(zip(rest, answers(before, pool.vectors[rest]), strict=True))
    wrong = [i for i in rest if said[i] and said[i] != pool.labels[i]]
    pairs = Counter(frozenset((said[i], pool.labels[i])) for i in wrong)
    (pair, _), *_ = pairs.most_common(1)
    confused = [i for i in wrong if {said[i], pool.labels[i]} == pair]
    new = np.random.default_rng(seed).permutation(confused)[:CORRECTIONS].tolist()
    answered = {i: said[i] for i in new}
    after = fitted(examples_of(pool, [*chosen, *new], answered))
    then, now = (answers(head, test.vectors) for head in (before, after))
    groups = (set(pair), set(OF_MODEL) - pair)
    shares = [share(found, test.labels, group) for group in groups for found in (then, now)]
    other = (answers(head, photos.vectors) for head in (before, after))
    return [*shares, sum(a != b for a, b in zip(*other, strict=True))]


async def measure(test_data: Path) -> None:
    """Prints the figures."""
    pool = await seen(*pictures(test_data, "train", POOL))
    test = await seen(*pictures(test_data, "test", TEST))
    contents = photographs(test_data)
    photos = await seen(contents, [""] * len(contents))
    own = sum(bool(n & OF_MODEL[w]) for n, w in zip(test.names, test.labels, strict=True))
    print(f"the model's own: {own / len(test.labels):.1%} of {len(test.labels)} pictures")
    columns = "answered", "head", "sklearn", "C=1", "left", "photos", "linear"
    print(f"{'examples':<10}" + "".join(f"{name:>10}" for name in columns))
    for count in COUNTS:
        print(row(pool, test, photos, count))
    headings = "two before", "two after", "others", "after", "photos"
    print("".join(f"{name:>12}" for name in headings))
    figures = [corrected(pool, test, photos, seed) for seed in CORRECTED]
    for line in (*figures, np.mean(figures, axis=0).tolist()):
        print("".join(f"{value:12.1%}" for value in line[:-1]), f"{line[-1]:11.1f}")


if __name__ == "__main__":
    asyncio.run(measure(Path(sys.argv[1])))
