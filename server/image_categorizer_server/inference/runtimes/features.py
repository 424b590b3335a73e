"""Finds features in a network that locate categories in an image.

Class activation: the last layer is linear and reads the mean of a feature map over its positions.
Applied to each position instead, it shows where a category is (Zhou et al. 2016,
arXiv:1512.04150).  Attention rollout: the last layer reads a token that collects information from
patches by attention; the attention shows from which patches (Abnar & Zuidema 2020,
arXiv:2005.00928).

The search works for any architecture: one call with hooks records the output of every layer, and
features count only if they lead to the network's own logits.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray

from image_categorizer_server.domain.model import Localization
from image_categorizer_server.inference.images.preprocess import InputSpec
from image_categorizer_server.inference.runtimes.network import DetectionNetwork, Network

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOLERANCE = 1e-3  # relative to the largest number


class WithFeatures(torch.nn.Module, ABC):
    """A network that also returns the features of one of its layers."""

    localization: Localization
    category_weights: torch.Tensor | None
    """float32 (C, K), the weight of each feature for each category; None if features are shared."""

    @abstractmethod
    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns confidences float32 (N, C), features float32 (N, K, h, w).

        Those of a detector are (N, Q, 4 + C); see `detect`.
        """


class ClassActivation(WithFeatures):
    """Returns the feature map whose mean the last linear layer reads."""

    localization = Localization.CLASS_ACTIVATION

    def __init__(
        self,
        network: Network,
        head: torch.nn.Linear,
        mapped: torch.nn.Module,
        norm: torch.nn.LayerNorm | None,
        grid: tuple[int, int],
    ) -> None:
        """Wraps the network.

        Args:
            network: the network.
            head: its last linear layer.
            mapped: the layer that returns the feature map.
            norm: normalizes the mean before the head reads it, as in ConvNeXt.
            grid: h and w.
        """
        super().__init__()
        self.network = network
        self.category_weights = head.weight.detach().float()
        # In a tuple: torch would register a module attribute and save its weights twice.
        self._layers = (mapped, norm)
        self._grid = grid

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns confidences and features; see `WithFeatures`."""
        mapped, norm = self._layers
        assert mapped is not None
        kept: list[torch.Tensor] = []
        hook = mapped.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
        try:
            confidences = self.network(inputs)
        finally:
            hook.remove()
        features = as_map(kept[-1], self._grid).float()
        if isinstance(norm, torch.nn.LayerNorm):
            features = normalized(features, norm)
        return confidences, features


class AttentionRollout(WithFeatures):
    """Returns the share of each patch in the token that the last layer reads."""

    localization = Localization.ATTENTION_ROLLOUT
    category_weights = None

    def __init__(self, network: Network, grid: tuple[int, int]) -> None:
        """Wraps the network; `grid` is h and w of the patches."""
        super().__init__()
        self.network = network
        self._grid = grid

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns confidences and features; see `WithFeatures`."""
        body = cast("PreTrainedModel", self.network.body)
        usual = body.config._attn_implementation  # noqa: SLF001 - there is no public name
        body.set_attn_implementation("eager")  # the others do not return attention
        try:
            output = self.network.outputs(inputs, output_attentions=True)
        finally:
            body.set_attn_implementation(usual)
        # Only the row of the first token is needed: a vector times the matrices, from the last
        # layer to the first.  The residual connection keeps half of each token.
        row = torch.zeros_like(output.attentions[0][:, :1, :1, :], dtype=torch.float32)
        row[..., 0] = 1
        for attention in reversed(output.attentions):
            row = (row @ attention.float()).mean(1, keepdim=True) / 2 + row / 2
        height, width = self._grid
        patches = row[:, 0, :, -height * width :]
        return self.network.confidences(output.logits), patches.reshape(
            *patches.shape[:2], *self._grid
        )


class Detections(WithFeatures):
    """Returns what a detector answers: boxes and scores."""

    localization = Localization.DETECTION
    category_weights = None

    def __init__(self, network: DetectionNetwork) -> None:
        """Wraps the network."""
        super().__init__()
        self.network = network

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns confidences float32 (N, C), features float32 (N, Q, 4 + C); see `detect`."""
        return self.network.detections(inputs)


@dataclass(slots=True)
class _Seen:
    """Inputs and outputs of the layers in one call, in order of their calls."""

    outputs: dict[torch.nn.Module, torch.Tensor] = field(default_factory=dict)
    inputs: dict[torch.nn.Module, torch.Tensor] = field(default_factory=dict)

    def keep(self, module: torch.nn.Module, inputs: tuple[object, ...], output: object) -> None:
        """Records a call; used as a forward hook."""
        if isinstance(output, torch.Tensor):
            self.outputs.pop(module, None)
            self.outputs[module] = output
            if inputs and isinstance(inputs[0], torch.Tensor):
                self.inputs[module] = inputs[0]


def find_features(
    network: Network, samples: Sequence[NDArray[np.uint8]], spec: InputSpec
) -> WithFeatures | None:
    """Returns the network with its features; None if it has none.  Calls the network once.

    Args:
        network: on the CPU, in float32.
        samples: inputs uint8 (H, W, 3), not all equal.
        spec: the shape of the inputs.
    """
    if isinstance(network, DetectionNetwork):
        return Detections(network)
    seen = _Seen()
    hooks = [module.register_forward_hook(seen.keep) for module in network.body.modules()]
    try:
        with torch.inference_mode():
            output = network.outputs(torch.from_numpy(np.stack(samples)))
    finally:
        for hook in hooks:
            hook.remove()
    for head, given in reversed(seen.outputs.items()):
        if isinstance(head, torch.nn.Linear) and given is not output.logits:
            continue
        if isinstance(head, torch.nn.Linear):
            return _class_activation(network, head, seen, spec) or _rollout(
                network, head, seen, spec
            )
    return None


def _class_activation(
    network: Network, head: torch.nn.Linear, seen: _Seen, spec: InputSpec
) -> ClassActivation | None:
    read = seen.inputs[head]
    norms = [
        m
        for m, given in seen.outputs.items()
        if isinstance(m, torch.nn.LayerNorm) and are_close(given.flatten(1), read)
    ]
    for mapped, given in reversed(seen.outputs.items()):
        grid = grid_of(given, read.shape[-1], spec)
        if grid is None or read.dim() != 2:
            continue
        mean = as_map(given, grid).mean((2, 3))
        if are_close(mean, read):
            return ClassActivation(network, head, mapped, None, grid)
        for norm in norms:
            if are_close(mean, seen.inputs[norm].flatten(1)):
                return ClassActivation(network, head, mapped, norm, grid)
    return None


def _rollout(
    network: Network, head: torch.nn.Linear, seen: _Seen, spec: InputSpec
) -> AttentionRollout | None:
    read = seen.inputs[head]
    patch = getattr(network.body.config, "patch_size", None)
    if not isinstance(patch, int) or read.dim() != 2:
        return None
    grid = spec.height_px // patch, spec.width_px // patch
    for given in reversed(seen.outputs.values()):
        fits = given.dim() == 3 and given.shape[-1] == read.shape[-1]
        if fits and given.shape[1] > grid[0] * grid[1] > 1 and are_close(given[:, 0], read):
            return AttentionRollout(network, grid)
    return None


def grid_of(given: torch.Tensor, channels: int, spec: InputSpec) -> tuple[int, int] | None:
    """Returns h and w of an output (N, K, h, w) or (N, h * w, K); None if it is neither."""
    if given.dim() == 4 and given.shape[1] == channels:
        height, width = given.shape[2:]
    elif given.dim() == 3 and given.shape[2] == channels:
        height = round((given.shape[1] * spec.height_px / spec.width_px) ** 0.5)
        width = given.shape[1] // max(height, 1)
        if height * width != given.shape[1]:
            return None
    else:
        return None
    return (height, width) if height * width > 1 else None


def as_map(given: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Returns the output of a layer as (N, K, h, w)."""
    return given if given.dim() == 4 else given.mT.reshape(given.shape[0], -1, *grid)


def normalized(features: torch.Tensor, norm: torch.nn.LayerNorm) -> torch.Tensor:
    """Returns features whose mean over positions is `norm` of their mean."""
    variance = features.mean((2, 3), keepdim=True).var(1, correction=0, keepdim=True)
    centred = (features - features.mean(1, keepdim=True)) / (variance + norm.eps).sqrt()
    return centred * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)


def are_close(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Returns whether two tensors are equal except for rounding."""
    if one.shape != other.shape:
        return False
    return bool((one - other).abs().max() <= TOLERANCE * other.abs().max())
