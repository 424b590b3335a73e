"""Exports a model to ONNX once, compares it with torch, and keeps a report of the result.

    <cache>/<digest>-<format>/   model.onnx, report.json
                                 category_weights.npy, for class activation maps (see `localize`)

torch and transformers take seconds to import and hundreds of MB to hold, so the export runs in a
process of its own:

    python -m image_categorizer_server.inference.models.export MODEL_FOLDER OUT_FOLDER
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from image_categorizer_server.domain.model import Localization
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.preprocess import InputSpec, sample_inputs, wide
from image_categorizer_server.inference.models.centres import measure_offset
from image_categorizer_server.inference.models.conversion import (
    ConversionFailed,
    ensure_converted,
)
from image_categorizer_server.inference.models.manifest import Manifest, read_manifest
from image_categorizer_server.inference.models.one_by_one import one_by_one
from image_categorizer_server.inference.runtimes import Answer

if TYPE_CHECKING:
    import torch

    from image_categorizer_server.inference.runtimes.features import WithFeatures
    from image_categorizer_server.inference.runtimes.network import Network

EXPORT_FORMAT = 6
MAX_DIFFERENCE = 1e-3
ONNX_FILE = "model.onnx"
REPORT_FILE = "report.json"
WEIGHTS_FILE = "category_weights.npy"


class ExportReport(BaseModel):
    """Whether the exported network may replace torch, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accepted: bool
    reason: str
    max_difference: float | None = None
    """Largest difference between confidences of the two networks, over the samples."""
    localization: Localization = Localization.NONE
    """How its second output, the features, locates categories; NONE without such an output."""
    cell_offset: float = 0.0
    """How far right of and below a regular grid the cells of a class activation map are, in cells;
    see `centres`."""


def export_folder(cache: Path, digest: str) -> Path:
    """Returns the cache folder for the export of the model with this digest."""
    return cache.expanduser() / f"{digest.removeprefix('sha256:')[:24]}-{EXPORT_FORMAT}"


async def ensure_export(
    model: Path, manifest: Manifest, cache: Path, timeout_s: float
) -> tuple[Path, ExportReport]:
    """Returns the exported file and the report on it; exports only if the cache has no copy.

    A version of format `onnx` needs no export.

    Raises:
        OperatorError: the model cannot be loaded, or the export takes longer than `timeout_s`.
    """
    if manifest.format == "onnx":
        report = ExportReport(
            accepted=True,
            reason="no export",
            localization=manifest.localization,
            cell_offset=manifest.cell_offset,
        )
        return model / ONNX_FILE, report
    folder = export_folder(cache, manifest.digest)
    try:
        await ensure_converted(folder, REPORT_FILE, __name__, [str(model)], timeout_s)
    except ConversionFailed as error:
        raise OperatorError(f"The model in {model} cannot be loaded: {error}") from None
    return folder / ONNX_FILE, ExportReport.model_validate_json((folder / REPORT_FILE).read_text())


def export(model: Path, out: Path) -> ExportReport:
    """Exports the model in a folder into `out` and returns the report; blocks for seconds.

    A network that can locate categories gets its features as a second output.  If that export
    fails or differs from torch, the network is exported without them.

    Raises:
        Exception: transformers cannot load the model, so torch cannot serve it either.
    """
    from image_categorizer_server.inference.runtimes.features import find_features
    from image_categorizer_server.inference.runtimes.network import load_network
    from image_categorizer_server.inference.runtimes.onnx import OnnxRuntime

    manifest = read_manifest(model)
    network = load_network(model, manifest.input, manifest.activation, detection=manifest.detection)
    samples = sample_inputs(manifest.input)
    located = find_features(network, samples, manifest.input)
    if located is not None:
        report = _export(located, samples, out)
        if report.accepted:
            found: dict[str, object] = {"localization": located.localization}
            if located.category_weights is not None:
                np.save(out / WEIGHTS_FILE, located.category_weights.numpy())
                free_size(out / ONNX_FILE, located, manifest.input)
                runtime = OnnxRuntime(out / ONNX_FILE, threads=0, runners=1)
                found["cell_offset"] = measure_offset(runtime, manifest.input)
            return report.model_copy(update=found)
        if manifest.detection:  # without boxes it is none, so torch serves it
            return report
    return _export(network, samples, out)


def _export(
    network: "Network | WithFeatures", samples: Sequence[NDArray[np.uint8]], out: Path
) -> ExportReport:
    import torch

    from image_categorizer_server.inference.runtimes.features import Detections
    from image_categorizer_server.inference.runtimes.onnx import OnnxRuntime

    batch = torch.from_numpy(np.stack(samples))
    with torch.inference_mode():
        theirs = network(batch)
    theirs = theirs if isinstance(theirs, tuple) else (theirs,)
    file = out / ONNX_FILE
    try:
        if isinstance(network, Detections):
            _write_detector(network.eval(), batch, file)
        else:
            _write_graph(network.eval(), batch, file, len(theirs))
        exported = OnnxRuntime(file, threads=0, runners=1)
        answers = [
            exported.predict(part, with_features=len(theirs) > 1)
            for part in (samples[:1], samples[1:])
        ]
    except Exception as error:  # noqa: BLE001 - the errors of exporter and runtime share no class
        first = (str(error).splitlines() or [type(error).__name__])[0]
        return ExportReport(accepted=False, reason=f"the export failed: {first}")
    return _compare(answers, theirs)


def _write_graph(
    network: "torch.nn.Module | torch.export.ExportedProgram",
    batch: "torch.Tensor",
    file: Path,
    outputs: int,
    *,
    is_traced: bool = False,
) -> None:
    import torch

    from image_categorizer_server.inference.runtimes.onnx import FEATURES, INPUT, OUTPUT

    torch.onnx.export(
        network,
        () if is_traced else (batch,),
        file,
        dynamo=True,
        external_data=False,
        input_names=[INPUT],
        output_names=[OUTPUT, FEATURES][:outputs],
        dynamic_shapes=None if is_traced else ({0: torch.export.Dim("batch")},),
        verbose=False,
    )


def _write_detector(network: "torch.nn.Module", batch: "torch.Tensor", file: Path) -> None:
    """Writes the graph of a detector; calls it once for each picture if it fixes the batch size.

    RT-DETR and its kin do.  torch's exporter would try for minutes to avoid it, in other ways.
    """
    import onnx
    import torch

    sizes = ({0: torch.export.Dim("batch")},)
    try:
        traced = torch.export.export(network, (batch,), dynamic_shapes=sizes, strict=False)
    except Exception:  # noqa: BLE001 - torch's errors over what a network does share no class
        traced = torch.export.export(network, (batch[:1],), strict=False)
        _write_graph(traced, batch, file, 2, is_traced=True)
        onnx.save(one_by_one(onnx.load(file)), file)
        return
    _write_graph(traced, batch, file, 2, is_traced=True)


def free_size(file: Path, network: "WithFeatures", spec: InputSpec) -> bool:
    """Lets an exported graph take inputs of the size of whole pictures too, if it can.

    torch's exporter fixes the size, because networks compute their padding from it.  That padding
    is right for whole pictures as well: see `preprocess.whole_size`.  So the size is removed from
    the graph, and the graph is kept if it answers as torch does.

    Args:
        file: the graph, with features; replaced if it can.
        network: what it was exported from, with class activation.
        spec: the shape of the network's own inputs.
    """
    import onnx
    import torch

    from image_categorizer_server.inference.runtimes.onnx import FEATURES, OnnxRuntime

    model = onnx.load(file)
    features = next(output for output in model.graph.output if output.name == FEATURES)
    for value, axes in ((model.graph.input[0], (1, 2)), (features, (2, 3))):
        for axis, name in zip(axes, ("height", "width"), strict=True):
            value.type.tensor_type.shape.dim[axis].dim_param = f"{value.name}_{name}"
    del model.graph.value_info[:]  # they have the size too
    freed = file.with_name(f"free_{file.name}")
    samples = sample_inputs(wide(spec))[:1]
    try:
        onnx.save(model, freed)
        with torch.inference_mode():
            theirs = network(torch.from_numpy(np.stack(samples)))
        runtime = OnnxRuntime(freed, threads=0, runners=1)
        is_equal = _compare([runtime.predict(samples, with_features=True)], theirs).accepted
    except Exception:  # noqa: BLE001 - the errors of torch and ONNX Runtime share no class
        is_equal = False
    if is_equal:
        freed.replace(file)
    freed.unlink(missing_ok=True)
    return is_equal


def _compare(answers: Sequence[Answer], theirs: "Sequence[torch.Tensor]") -> ExportReport:
    ours = np.concatenate([answer.confidences for answer in answers])
    difference = float(np.abs(ours - theirs[0].numpy()).max())
    if not difference <= MAX_DIFFERENCE:  # also where it is not a number
        reason = f"confidences differ from torch's by up to {difference:.2g}"
        return ExportReport(accepted=False, reason=reason, max_difference=difference)
    for expected in theirs[1:]:
        largest = float(expected.abs().max())
        features = np.concatenate([a.features for a in answers if a.features is not None])
        apart = float(np.abs(features - expected.numpy()).max())
        if not apart <= MAX_DIFFERENCE * largest:
            reason = f"features of up to {largest:.2g} differ from torch's by up to {apart:.2g}"
            return ExportReport(accepted=False, reason=reason, max_difference=difference)
    return ExportReport(accepted=True, reason="equal to torch", max_difference=difference)


def main() -> None:
    """Runs one export; the last line on standard error names the failure."""
    model, out = map(Path, sys.argv[1:])
    report = export(model, out)
    # Written last: a folder without a report is an unfinished export.
    (out / REPORT_FILE).write_text(report.model_dump_json(indent=1) + "\n")


if __name__ == "__main__":
    main()
