"""The labels in the configuration of a Hugging Face folder, in the order of the outputs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from image_categorizer_server.errors import OperatorError


def mended_labels(config: Mapping[str, object], file: Path) -> list[str] | None:
    """Returns the labels of a configuration; None if it has none, so that transformers makes some.

    `id2label` may be an object or a list. Without it, `label2id` is read.

    Args:
        config: the content of the file.
        file: the user's file, for messages.

    Raises:
        OperatorError: labels are empty, missing, or contradict one another.
    """
    named, numbered = config.get("id2label"), config.get("label2id")
    by_label = _by_label(numbered, file) if numbered else {}
    if not named:
        if not by_label:
            return None
        return _in_order([(index, label) for label, index in by_label.items()], "label2id", file)
    if isinstance(named, Mapping):
        pairs = [(_index(key, "id2label", file), label) for key, label in named.items()]
    elif isinstance(named, Sequence) and not isinstance(named, str):
        pairs = list(enumerate(named))
    else:
        raise OperatorError(f"{file}: id2label is neither an object nor a list.")
    labels = _in_order(pairs, "id2label", file)
    _refuse_contradiction(labels, by_label, file)
    return labels


def _by_label(numbered: object, file: Path) -> dict[str, int]:
    if not isinstance(numbered, Mapping):
        raise OperatorError(f"{file}: label2id is not an object.")
    return {str(label): _index(index, "label2id", file) for label, index in numbered.items()}


def _index(value: object, where: str, file: Path) -> int:
    # `int` reads " 1" and "1_0" too.
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    raise OperatorError(f"{file}: {where} has {value!r:.40} where the number of an output belongs.")


def _in_order(pairs: Sequence[tuple[int, object]], where: str, file: Path) -> list[str]:
    labels = dict(pairs)
    if len(labels) < len(pairs):
        twice = next(index for index, count in Counter(i for i, _ in pairs).items() if count > 1)
        raise OperatorError(f"{file}: {where} has output {twice} twice.")
    if sorted(labels) != list(range(len(labels))):
        absent = next(index for index in range(len(labels)) if index not in labels)
        raise OperatorError(
            f"{file}: {where} has no label for output {absent}: the indices must count from 0 "
            f"without gaps, and are {min(labels)} to {max(labels)}."
        )
    for index in range(len(labels)):
        label = labels[index]
        if not isinstance(label, str | int) or isinstance(label, bool):
            raise OperatorError(f"{file}: the label of output {index} in {where} is not text.")
        if not str(label).strip():
            raise OperatorError(f"{file}: the label of output {index} in {where} is empty.")
    return [str(labels[index]) for index in range(len(labels))]


def _refuse_contradiction(labels: Sequence[str], by_label: Mapping[str, int], file: Path) -> None:
    count = Counter(labels)
    for index, label in enumerate(labels):
        other = by_label.get(label, index)
        if count[label] == 1 and other != index:
            raise OperatorError(
                f"{file}: '{label:.40}' is output {index} by id2label, but {other} by label2id: "
                "remove the one that is wrong."
            )
