"""ONNX files with detectors made by hand: they find a red and a green square."""

from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

SIDE_PX = 64
LABELS = ["red square", "green square"]
COLOURS = {"red square": (255, 0, 0), "green square": (0, 255, 0)}
FOUND, ABSENT = 0.95, 0.05
"""Scores of a square that is there, and of one that is not."""
WEAKER = 0.9
"""By what the scores of a second, smaller box for each square are multiplied in YOLO's layouts."""
Layout = Literal["queries", "columns", "rows"]
ULTRALYTICS = {
    "author": "Ultralytics",
    "task": "detect",
    "names": "{0: 'red square', 1: 'green square'}",
}
NETWORK = """
    colour = Conv(pixels, kernels)
    is_bright = Greater(colour, third)
    bright = Cast<to = 1>(is_bright)
    across = ReduceMax<axes = [2], keepdims = 0>(bright)
    down = ReduceMax<axes = [3], keepdims = 0>(bright)
    found = ReduceMax<axes = [2], keepdims = 1>(down)
    right_of = Mul(across, from_one)
    right = ReduceMax<axes = [2], keepdims = 1>(right_of)
    below = Mul(down, from_one)
    bottom = ReduceMax<axes = [2], keepdims = 1>(below)
    left_of = Mul(across, backwards)
    margin_x = ReduceMax<axes = [2], keepdims = 1>(left_of)
    left_any = Sub(side, margin_x)
    left = Mul(left_any, found)
    above = Mul(down, backwards)
    margin_y = ReduceMax<axes = [2], keepdims = 1>(above)
    top_any = Sub(side, margin_y)
    top = Mul(top_any, found)
    corners = Concat<axis = 2>(left, top, right, bottom)
    centred = MatMul(corners, to_centre)
    shares = Div(centred, side)
    likely = Mul(found, eye)
    unlikely = Add(likely, absent)
    strong = Clip(unlikely, zero, one)
    weak = Mul(strong, weaker)
    smaller = Mul(centred, shrink)
"""
ENDS = {
    "queries": "scores = Identity(strong)\nboxes = Identity({boxes})",
    "columns": """
    both = Concat<axis = 2>(centred, strong)
    second = Concat<axis = 2>(smaller, weak)
    all = Concat<axis = 1>(both, second)
    output0 = Transpose<perm = [0, 2, 1]>(all)
""",
    "rows": """
    both = Concat<axis = 2>(centred, found, strong)
    second = Concat<axis = 2>(smaller, found, weak)
    output0 = Concat<axis = 1>(both, second)
""",
}
OUTPUTS = {
    "queries": "float[n, 2, 2] scores, float[n, 2, 4] boxes",
    "columns": "float[n, 6, 4] output0",
    "rows": "float[n, 4, 7] output0",
}


def write_square_detector(
    folder: Path,
    layout: Layout,
    metadata: dict[str, str] | None = None,
    *,
    boxes: Literal["corners", "centred", "shares"] = "corners",
    batch: str = "n",
) -> Path:
    """Writes the file and its labels; returns the file.

    Args:
        folder: created if it does not exist.
        layout: of the outputs, as in `packaging.onnx_detector`.
        metadata: of the graph.
        boxes: what `queries` answer: corners or centres in pixels, or centres in shares.
        batch: of the input; `n` for any.
    """
    places = np.arange(SIDE_PX, dtype=np.float32)
    arrays: dict[str, NDArray[np.generic]] = {
        "kernels": np.array([[1, -0.5, -0.5], [-0.5, 1, -0.5]], np.float32)[..., None, None],
        "third": np.array(1 / 3, np.float32),
        "from_one": places + 1,
        "backwards": SIDE_PX - places,
        "side": np.array(SIDE_PX, np.float32),
        "to_centre": np.array(
            [[0.5, 0, -1, 0], [0, 0.5, 0, -1], [0.5, 0, 1, 0], [0, 0.5, 0, 1]], np.float32
        ),
        "eye": np.eye(2, dtype=np.float32) * np.float32(FOUND - ABSENT),
        "absent": np.array(ABSENT, np.float32),
        "zero": np.array(0, np.float32),
        "one": np.array(1, np.float32),
        "weaker": np.array(WEAKER, np.float32),
        "shrink": np.array([1, 1, 0.9, 0.9], np.float32),
    }
    head = f"squares (float[{batch}, 3, {SIDE_PX}, {SIDE_PX}] pixels) => ({OUTPUTS[layout]})"
    body = NETWORK + ENDS[layout].format(boxes=boxes)
    text = f'<ir_version: 8, opset_import: ["" : 13]>\n{head}\n{{{body}}}'
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays.items())
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model, folder / "model.onnx")
    if "names" not in (metadata or {}):
        (folder / "labels.txt").write_text("\n".join(LABELS))
    return folder / "model.onnx"


def picture_of(size_px: tuple[int, int], **squares: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Returns uint8 (H, W, 3): rectangles, named by the first word of their label, on grey.

    Args:
        size_px: width and height.
        squares: left, top, right, bottom of each.
    """
    shown = np.full((size_px[1], size_px[0], 3), 90, np.uint8)
    for name, (left, top, right, bottom) in squares.items():
        shown[top:bottom, left:right] = COLOURS[f"{name} square"]
    return shown
