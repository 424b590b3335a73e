"""A network that knows colours, so that a test decides which pictures it has right."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from tests.support.pictures import encoded

SIDE_PX = 16
SHARPNESS = 4.0
COLOURS = {
    "tomato": (220, 30, 30),
    "lime": (30, 220, 30),
    "plum": (30, 30, 220),
    "teal": (30, 140, 200),
}
"""Teal is a plum for `GOOD`, and a lime for `GREENISH`."""
GOOD = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
"""Rows are red, green and blue; columns are the categories."""
GREENISH = ((1.0, 0.0, 0.0), (0.0, 5.0, 0.0), (0.0, 0.0, 1.0))


def write_colour_model(
    folder: Path, categories: Sequence[str], weights: Sequence[Sequence[float]] = GOOD
) -> Path:
    """Writes model.onnx and labels.txt; returns the folder.

    Args:
        folder: created if it does not exist.
        categories: one for each column of `weights`.
        weights: how much red, green and blue speak for each category.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in categories), "utf-8")
    matrix = (np.array(weights) * SHARPNESS).astype(np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixel_values"], ["means"], name="mean"),
        helper.make_node("Reshape", ["means", "rows"], ["row"], name="flat"),
        helper.make_node("MatMul", ["row", "weights"], ["logits"], name="head"),
    ]
    shape: list[str | int | None] = ["n", 3, SIDE_PX, SIDE_PX]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(categories)])],
        [
            numpy_helper.from_array(np.array([-1, 3], np.int64), "rows"),
            numpy_helper.from_array(matrix, "weights"),
        ],
    )
    opset = helper.make_opsetid("", 18)
    onnx.save_model(
        helper.make_model(graph, opset_imports=[opset], ir_version=8), folder / "model.onnx"
    )
    return folder


def write_colours(folder: Path, pictures: Mapping[str, Sequence[str]]) -> Path:
    """Writes a labelled folder of plain pictures; returns it.

    Args:
        folder: created if it does not exist.
        pictures: for each category the colours of its pictures.
    """
    for category, colours in pictures.items():
        (folder / category).mkdir(parents=True, exist_ok=True)
        for number, colour in enumerate(colours):
            content = encoded(Image.new("RGB", (24, 20), COLOURS[colour]), "PNG")
            (folder / category / f"{number}-{colour}.png").write_bytes(content)
    return folder
