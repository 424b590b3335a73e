"""Writes the packaged taxonomy of ImageNet: the everyday categories above each of the 1,000.

    python tools/imagenet_taxonomy.py imagenet1000_taxonomy.json [TARGET]

The first argument is a JSON list with the way of each category through WordNet 3.0, in ImageNet's
order: `{"wnid", "synset", "path": [synsets from the top], "path_names": [their first words]}`.

WordNet has levels that nobody says, such as placental, whole and instrumentality.  So the broader
categories are chosen by hand, in `everyday_categories.json`:

- `of` names synsets, by their first word, or by identifier where several have the word.  The
  categories below them belong to the broader category, without those below the synsets of `except`.
- `below` names a still broader category, earlier in the file, which gets all of them, too.
- `id` is the synset with the same meaning.  Where WordNet has none, the identifier is empty.

A translation will be a JSON object beside that file, from these names to those of a language.
"""

import json
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

EVERYDAY = Path(__file__).with_name("everyday_categories.json")
DATA = Path(__file__).parents[1] / "server/image_categorizer_server/inference/data"
TARGET = DATA / "taxonomies/imagenet1k.json"


@dataclass(frozen=True)
class Leaf:
    """A category of ImageNet."""

    name: str
    synset: str
    path: frozenset[str]
    """The synsets above it, and its own."""


@dataclass
class Upper:
    """A broader category."""

    name: str
    synset: str
    parent: "Upper | None"
    leaves: set[str]

    @property
    def depth(self) -> int:
        """0 at the top."""
        return self.parent.depth + 1 if self.parent else 0

    def add(self, leaves: set[str]) -> None:
        """Adds categories of ImageNet, here and above."""
        self.leaves |= leaves
        if self.parent:
            self.parent.add(leaves)


class WordNet:
    """ImageNet's categories, and the synsets above them."""

    def __init__(self, file: Path) -> None:
        self.leaves: list[Leaf] = []
        self._synsets: defaultdict[str, set[str]] = defaultdict(set)
        for row in json.loads(file.read_bytes()):
            self.leaves.append(Leaf(row["synset"], row["wnid"], frozenset(row["path"])))
            for synset, word in zip(row["path"], row["path_names"], strict=True):
                self._synsets[word].add(synset)
                self._synsets[synset].add(synset)

    def below(self, words: list[str]) -> set[str]:
        """Returns the synsets of ImageNet's categories at or below the synsets of some words."""
        synsets = set()
        for word in words:
            found = sorted(self._synsets.get(word, ()))
            if len(found) != 1:
                raise SystemExit(f"{EVERYDAY.name}: '{word}' must have one synset, has {found}.")
            synsets.add(found[0])
        return {leaf.synset for leaf in self.leaves if synsets & leaf.path}


def read_uppers(wordnet: WordNet) -> list[Upper]:
    """Returns the broader categories, in the order of their file."""
    uppers: dict[str, Upper] = {}
    taken = {word for leaf in wordnet.leaves for word in (leaf.name, leaf.name.split(",")[0])}
    for row in json.loads(EVERYDAY.read_bytes()):
        name = row["name"]
        if name in taken or name in uppers:
            raise SystemExit(f"{EVERYDAY.name}: two categories have the name '{name}'.")
        parent = uppers[row["below"]] if "below" in row else None
        uppers[name] = Upper(name, row.get("id", ""), parent, set())
        uppers[name].add(wordnet.below(row["of"]) - wordnet.below(row.get("except", [])))
    return list(uppers.values())


def main() -> None:
    """Writes the taxonomy: one category a line."""
    source, *others = map(Path, sys.argv[1:])
    wordnet = WordNet(source)
    uppers = sorted(read_uppers(wordnet), key=lambda upper: -upper.depth)
    lines = []
    for leaf in wordnet.leaves:
        above = [upper for upper in uppers if leaf.synset in upper.leaves]
        row = {
            "name": leaf.name,
            "id": leaf.synset,
            "ancestors": [upper.name for upper in above],
            "ancestor_ids": [upper.synset for upper in above],
        }
        lines.append(json.dumps(row, ensure_ascii=False))
    target = others[0] if others else TARGET
    target.write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
