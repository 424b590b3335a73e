"""Networks as torch modules, from bytes to confidences.

Import this module late: torch and transformers take seconds to import.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

from image_categorizer_server.domain.model import Activation
from image_categorizer_server.inference.images.detect import Detection, Scores, is_detector
from image_categorizer_server.inference.images.preprocess import InputSpec, per_channel

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Output(Protocol):
    """The output of a network in transformers."""

    logits: torch.Tensor
    pred_boxes: torch.Tensor
    """Of detectors: float (N, Q, 4), centre, width and height as shares of the input."""
    attentions: tuple[torch.Tensor, ...]
    """Of each layer, if requested."""


class Network(torch.nn.Module):
    """A network from bytes to confidences: scaling, the network itself, softmax or sigmoid."""

    def __init__(self, body: torch.nn.Module, spec: InputSpec, activation: Activation) -> None:
        super().__init__()
        self.body = body
        self.activation = activation
        self.dtype = torch.float32
        self.colour = spec.colour
        self.scale = torch.nn.Buffer(torch.tensor(per_channel(spec.scale)))
        self.bias = torch.nn.Buffer(torch.tensor(per_channel(spec.bias)))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns confidences float32 (N, C) for uint8 (N, H, W, 3)."""
        return self.confidences(self.outputs(inputs).logits)

    def outputs(self, inputs: torch.Tensor, **options: bool) -> Output:
        """Returns the output of transformers: `logits` (N, C), and more as `options` request."""
        scaled = inputs.permute(0, 3, 1, 2).to(self.scale.dtype) * self.scale + self.bias
        if self.colour == "bgr":
            scaled = scaled.flip(1)
        elif self.colour == "grey":  # all three channels are equal
            scaled = scaled[:, :1]
        output: Output = self.body(pixel_values=scaled.to(self.dtype), **options)
        return output

    def compute_in(self, dtype: torch.dtype) -> None:
        """Makes the network compute in `dtype`; scaling, softmax and sigmoid stay float32."""
        self.body.to(dtype)
        self.dtype = dtype

    def confidences(self, logits: torch.Tensor) -> torch.Tensor:
        """Returns confidences float32 (N, C)."""
        logits = logits.float()
        if self.activation == "none":
            return logits
        return logits.softmax(-1) if self.activation == "softmax" else logits.sigmoid()


class DetectionNetwork(Network):
    """A detector from bytes to boxes with scores, and confidences."""

    def __init__(self, body: torch.nn.Module, spec: InputSpec, scores: Scores) -> None:
        super().__init__(body, spec, scores)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns confidences float32 (N, C) for uint8 (N, H, W, 3)."""
        return self.detections(inputs)[0]

    def detections(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns confidences float32 (N, C) and features float32 (N, Q, 4 + C); see `detect`."""
        output = self.outputs(inputs)
        scores = self.confidences(output.logits)
        if self.activation == "softmax":
            scores = scores[..., :-1]
        boxes = output.pred_boxes.float()
        centre, size = boxes[..., :2], boxes[..., 2:]
        features = torch.cat([centre - size / 2, centre + size / 2, scores], -1)
        return scores.amax(1), features


class UnfilledNetwork(Exception):
    """A checkpoint does not fill its network, which transformers would fill with random numbers."""

    def __init__(
        self,
        missing: Sequence[str],
        mismatched: Sequence[tuple[str, Sequence[int], Sequence[int]]],
        count: int,
        labels: int,
    ) -> None:
        """Describes what does not fit.

        Args:
            missing: the names of weights that the checkpoint lacks.
            mismatched: weights with their shape in the checkpoint, and that in the network.
            count: how many weights the network has.
            labels: how many categories the configuration has.
        """
        first = missing[0] if missing else mismatched[0][0]
        super().__init__(f"the checkpoint does not fill the network, for instance {first}")
        self.missing = sorted(missing)
        self.mismatched = sorted(
            (name, tuple(found), tuple(wanted)) for name, found, wanted in mismatched
        )
        self.count = count
        self.labels = labels


def load_network(
    folder: Path,
    spec: InputSpec,
    activation: Activation,
    architecture: str = "",
    detection: Detection | None = None,
) -> Network:
    """Returns the network of a folder, in float32 on the CPU; blocks.

    Reads only safetensors, and runs no code from the folder.

    Args:
        folder: the files of the version.
        spec: how images become inputs.
        activation: makes confidences from logits.
        architecture: one of ours; empty for a Hugging Face folder.
        detection: what a detector answers; None for a classifier.

    Raises:
        OSError: the folder is incomplete.
        ValueError: transformers has no image classifier or detector of this kind.
        UnfilledNetwork: weights are missing, or have other shapes.
    """
    if architecture:
        from image_categorizer_server.inference.runtimes.efficientnet_lite_torch import (
            load_efficientnet_lite,
        )

        network = load_efficientnet_lite(folder / "model.safetensors", architecture)
        return Network(network, spec, activation).eval()
    body, _ = load_body(folder)
    if detection:
        return DetectionNetwork(body, spec, detection.scores).eval()
    return Network(body, spec, activation).eval()


def load_body(folder: Path) -> "tuple[PreTrainedModel, list[str]]":
    """Returns the network of a Hugging Face folder, and the names of weights that it ignores.

    Raises:
        OSError: the folder is incomplete.
        ValueError: transformers has no image classifier or detector of this kind.
        UnfilledNetwork: weights are missing, or have other shapes.
    """
    from transformers import AutoModelForImageClassification, AutoModelForObjectDetection

    config = json.loads((folder / "config.json").read_bytes())
    kind = AutoModelForObjectDetection if is_detector(config) else AutoModelForImageClassification
    body, found = kind.from_pretrained(
        folder,
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
        dtype=torch.float32,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are named in `found`, and refused below
    )
    # Only training reads how many micro-batches a layer has seen.
    missing = [key for key in found["missing_keys"] if not key.endswith("num_batches_tracked")]
    if missing or found["mismatched_keys"]:
        mismatched, count = list(found["mismatched_keys"]), len(body.state_dict())
        raise UnfilledNetwork(missing, mismatched, count, body.config.num_labels)
    if found["error_msgs"]:
        raise ValueError(found["error_msgs"][0])
    return body.eval(), sorted(found["unexpected_keys"])
