"""The files of a Hugging Face folder: which there are, and whether they are what they seem."""

import json
from collections.abc import Mapping
from pathlib import Path

from image_categorizer_server.errors import OperatorError

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "preprocessor_config.json"
INDEX, PROCESSOR = "model.safetensors.index.json", "processor_config.json"
ADAPTER = "adapter_config.json"
FILES = (CONFIG, WEIGHTS, INDEX, "model-*-of-*.safetensors", CARD, PROCESSOR, ADAPTER)
"""What a classifier may consist of, as patterns."""
LFS_MARK = b"version https://git-lfs"
CONVERT = "convert it to ONNX, and add the ONNX file with its labels"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt")
FOREIGN = {
    "*.h5": f"Keras weights; {CONVERT}: python -m tf2onnx.convert",
    "*.keras": f"a Keras model; {CONVERT}: model.export(FILE, format='onnx')",
    "*.tflite": f"a TensorFlow Lite model; {CONVERT}: python -m tf2onnx.convert --tflite FILE",
    "*.pb": f"a TensorFlow model; {CONVERT}: python -m tf2onnx.convert --saved-model FOLDER",
    "*.msgpack": "Flax weights; load them with from_flax=True, save them with "
    "model.save_pretrained, and add that folder",
    "*.mlmodel": f"a Core ML model; {CONVERT}",
    "*.mlpackage": f"a Core ML model; {CONVERT}",
    "*.engine": "a TensorRT engine, which cannot be read; add the model that it was made of",
    "*.gguf": "weights of llama.cpp, which cannot be read; add the model that they were made of",
}


def check_files(source: Path) -> None:
    """Passes a folder that has all files of a model.

    Raises:
        OperatorError: a file is missing, or the weights are of a kind that is not read. The
            sentence says what to do.
    """
    if not source.is_dir():
        raise OperatorError(_no_folder(source))
    if (source / ADAPTER).is_file():
        raise OperatorError(
            f"{source} holds an adapter (LoRA, PEFT), which needs its network: merge them with "
            "model.merge_and_unload(), save the result with save_pretrained, and add that folder."
        )
    has_weights = (source / WEIGHTS).is_file() or (source / INDEX).is_file()
    if not has_weights and (why := _other_weights(source)):
        raise OperatorError(why)
    has_card = (source / CARD).is_file() or (source / PROCESSOR).is_file() or _is_timm(source)
    found = {CONFIG: (source / CONFIG).is_file(), WEIGHTS: has_weights, CARD: has_card}
    if missing := [name for name, is_there in found.items() if not is_there]:
        raise OperatorError(
            f"{source} is not a Hugging Face image classifier: {', '.join(missing)} missing."
        )


def _no_folder(source: Path) -> str:
    """Returns a sentence on a path that is not a folder."""
    if not source.exists():
        return f"There is no file or folder {source}."
    if source.match("*.safetensors"):
        return f"{source} holds weights only: add its folder, with {CONFIG} and {CARD}."
    return _of_other_kind(source) or f"{source} is not a folder."


def _other_weights(source: Path) -> str:
    """Returns a sentence on the weights that are there instead; empty if there are none."""
    names = sorted(file.name for file in source.glob("*.safetensors"))
    if names and all("-of-" in name for name in names):
        return f"{source} has parts of the weights, but not {INDEX}: download the folder again."
    if len(names) == 1:
        return f"{source} has no {WEIGHTS}: rename {names[0]} to {WEIGHTS} and add it again."
    if names:
        return (
            f"{source} has no {WEIGHTS}, but {listed(names)}: rename the one to serve to "
            f"{WEIGHTS} and add it again."
        )
    return next(filter(None, map(_of_other_kind, sorted(source.iterdir()))), "")


def _of_other_kind(file: Path) -> str:
    """Returns a sentence on a model of a kind that is not read; empty if it is none."""
    if any(file.match(pattern) for pattern in PICKLES):
        return (
            f"{file} is a pickle, which could run code: load it where it was made, save it as "
            f"{WEIGHTS} with model.save_pretrained, and add that folder."
        )
    return next(
        (f"{file} is {what}." for pattern, what in FOREIGN.items() if file.match(pattern)), ""
    )


def _is_timm(source: Path) -> bool:
    """Returns whether the folder is of timm, which keeps the preprocessing in its configuration."""
    try:
        return "pretrained_cfg" in read_json(source / CONFIG)
    except OperatorError:
        return False


def read_json(file: Path) -> dict[str, object]:
    """Returns the object in a JSON file: UTF-8, UTF-16 or UTF-32, with a byte order mark or not.

    Raises:
        OperatorError: it cannot be read, or is not an object.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise OperatorError(f"Cannot read {file}: {error.strerror}.") from None
    refuse_pointer(file, content[: len(LFS_MARK)])
    try:
        value = json.loads(content)
    except RecursionError:
        raise OperatorError(f"{file} is nested too deeply.") from None
    except ValueError as error:
        raise OperatorError(f"{file} is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise OperatorError(f"{file} is not a JSON object.")
    return value


def refuse_pointer(file: Path, start: bytes) -> None:
    """Passes a file that is not a pointer of Git LFS.

    Args:
        file: a file of the user.
        start: its first bytes.

    Raises:
        OperatorError: it is one.
    """
    if start.startswith(LFS_MARK):
        raise OperatorError(
            f"{file} is a pointer of Git LFS, not the file itself: "
            f"run `git lfs pull` in {file.parent}, and add it again."
        )


def weight_files(source: Path) -> tuple[Path, ...]:
    """Returns the files with the weights: one, or those that the index names.

    Raises:
        OperatorError: the index is malformed, or a file is missing.
    """
    if (source / WEIGHTS).is_file():
        return (source / WEIGHTS,)
    named = read_json(source / INDEX).get("weight_map")
    if not isinstance(named, Mapping) or not named:
        raise OperatorError(f"{source / INDEX} has no weight_map.")
    names = sorted({str(name) for name in named.values()})
    for name in names:
        if Path(name).name != name:
            raise OperatorError(f"{source / INDEX} names '{name}', which is not in the folder.")
    if missing := [name for name in names if not (source / name).is_file()]:
        raise OperatorError(
            f"{source} lacks {len(missing)} of {len(names)} files with weights "
            f"({listed(missing)}): download the folder again."
        )
    return tuple(source / name for name in names)


def listed(names: list[str], most: int = 5) -> str:
    """Returns names as text; the first few if there are many."""
    shown = ", ".join(name if len(name) <= 120 else f"{name[:120]}…" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
