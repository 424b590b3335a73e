"""Hugging Face folders, damaged at random in one to three ways."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

Dice = random.Random
VALUES: list[Any] = [
    *(None, "", "x", [], {}, True, False, -1, 0, 1, 2, 3, 4, 7, 8, 16, 32, 1.5, float("nan")),
    *([0.5], [0.5, 0.5, 0.5], [1, 2], {"height": 32, "width": 32}, {"shortest_edge": 24}),
    *({"0": "a", "1": "b", "2": "c"}, ["a", "b", "c"], "relu", "bicubic", "ViTImageProcessor"),
    *("ConvNextImageProcessor", "single_label_classification", "multi_label_classification"),
    *("regression", "resnet", "vit", "basic", "bottleneck", "float16", "BitImageProcessor"),
]
# Numbers that would make a network of gigabytes are no way to find wrong answers.
NEW_FIELDS = (
    *("problem_type", "num_labels", "image_size", "do_center_crop", "crop_size", "crop_pct"),
    *("rescale_offset", "do_flip_channel_order", "do_pad", "include_top", "auto_map", "dtype"),
    *("quantization_config", "tie_word_embeddings", "feature_extractor_type", "do_convert_rgb"),
)
CONFIG, CARD, WEIGHTS = "config.json", "preprocessor_config.json", "model.safetensors"


def mutate(folder: Path, seed: int) -> list[str]:
    """Damages the folder; returns what was done."""
    dice = Dice(seed)
    done = []
    for _ in range(dice.choice((1, 1, 2, 3))):
        mutation = dice.choice(MUTATIONS)
        try:
            done.append(f"{mutation.__name__}: {mutation(folder, dice)}")
        except (OSError, ValueError, KeyError, AttributeError, SafetensorError) as error:
            done.append(f"{mutation.__name__}: not any more ({error})")  # the file is damaged
    return done


def change_field(folder: Path, dice: Dice) -> str:
    name = dice.choice((CONFIG, CARD))
    content = json.loads((folder / name).read_bytes())
    field = dice.choice([*content, *content, *NEW_FIELDS])
    content[field] = dice.choice(VALUES)
    (folder / name).write_text(json.dumps(content))
    return f"{name} {field}={content[field]!r}"


def remove_field(folder: Path, dice: Dice) -> str:
    name = dice.choice((CONFIG, CARD))
    content = json.loads((folder / name).read_bytes())
    field = dice.choice(list(content))
    del content[field]
    (folder / name).write_text(json.dumps(content))
    return f"{name} {field}"


def change_labels(folder: Path, dice: Dice) -> str:
    content = json.loads((folder / CONFIG).read_bytes())
    count = dice.choice((1, 2, 3, 3, 3, 4))
    first = dice.choice((0, 0, 0, 1))
    names = [dice.choice(("ant", "bee", "cat", "dog", "", " ")) + str(i) for i in range(count)]
    pairs = list(enumerate(names, first))
    dice.shuffle(pairs)
    fields = {
        "id2label": dice.choice((dict(pairs), names, None, {k: [v] for k, v in pairs})),
        "label2id": dice.choice(({v: k for k, v in pairs}, names, None)),
    }
    content |= fields
    (folder / CONFIG).write_text(json.dumps(content))
    return str(fields)


def encode_otherwise(folder: Path, dice: Dice) -> str:
    name, encoding = dice.choice((CONFIG, CARD)), dice.choice(("utf-8-sig", "utf-16", "utf-32"))
    (folder / name).write_text((folder / name).read_text(), encoding=encoding)
    return f"{name} {encoding}"


def cut(folder: Path, dice: Dice) -> str:
    file = folder / dice.choice((CONFIG, CARD, WEIGHTS, WEIGHTS))
    content = file.read_bytes()
    length = dice.randrange(len(content) + 1)
    file.write_bytes(content[:length])
    return f"{file.name} to {length}"


def change_bytes(folder: Path, dice: Dice) -> str:
    file = folder / dice.choice((CONFIG, CARD, WEIGHTS, WEIGHTS))
    content = bytearray(file.read_bytes())
    places = [dice.randrange(len(content)) for _ in range(dice.choice((1, 4)))]
    for place in places:
        content[place] = dice.randrange(256)
    file.write_bytes(content)
    return f"{file.name} at {places}"


def change_weight(folder: Path, dice: Dice) -> str:
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / WEIGHTS)
    key = dice.choice(sorted(weights))
    tensor = weights.pop(key)
    changes: list[Callable[[], Any]] = [
        dict,
        lambda: {key: tensor.flatten()[:-1]},
        lambda: {key: torch.full_like(tensor, float("nan")) if tensor.dim() else tensor},
        lambda: {key: tensor.to(torch.float16)},
        lambda: {key: tensor.to(torch.bfloat16)},
        lambda: {key: tensor.to(torch.float64) * 1e300},
        lambda: {key: tensor * -3},
        lambda: {key: tensor, f"{key}.copy": tensor.clone()},
        lambda: {f"head.{key}": tensor},
    ]
    index = dice.randrange(len(changes))
    save_file(weights | changes[index](), folder / WEIGHTS, metadata={"format": "pt"})
    return f"{key} by {index}"


def rename_weights(folder: Path, dice: Dice) -> str:
    from safetensors.torch import load_file, save_file

    prefix = dice.choice(("module.", "_orig_mod.", "model.", "resnet.", "network.", "x."))
    count = dice.choice((1, 20, 1000))
    weights = load_file(folder / WEIGHTS)
    renamed = {
        f"{prefix}{key}" if index < count else key: tensor
        for index, (key, tensor) in enumerate(sorted(weights.items()))
    }
    metadata = dice.choice(({"format": "pt"}, None, {"format": "tf"}))
    save_file(renamed, folder / WEIGHTS, metadata=metadata)
    return f"{prefix} {count} {metadata}"


def change_files(folder: Path, dice: Dice) -> str:
    name = dice.choice((CONFIG, CARD, WEIGHTS))
    other = dice.choice(("adapter_config.json", "pytorch_model.bin", f"old-{name}", ""))
    (folder / name).rename(folder / other) if other else (folder / name).unlink()
    if dice.random() < 0.3:
        (folder / name).mkdir()
    return f"{name} to {other or 'nothing'}"


MUTATIONS = [
    *(change_field, change_field, change_field, remove_field, change_labels, encode_otherwise),
    *(cut, change_bytes, change_weight, rename_weights, change_files),
]
