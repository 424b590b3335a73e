"""Exports a model to ONNX once, compares it with torch, and remembers the verdict.

    <cache>/<digest>-<format>/   model.onnx, verdict.json
                                 category_weights.npy, where they tell places (see `localize`)

torch and transformers take seconds to import and hundreds of MB to hold, so the export runs in a
process of its own:

    python -m image_categorizer_server.inference.packaging.export MODEL_FOLDER OUT_FOLDER
"""

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from image_categorizer_server.domain.model import Localization
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.preprocess import InputSpec
from image_categorizer_server.inference.models.manifest import Manifest, read_manifest
from image_categorizer_server.inference.runtimes import Answer

if TYPE_CHECKING:
    import torch

    from image_categorizer_server.inference.runtimes.features import WithFeatures
    from image_categorizer_server.inference.runtimes.network import Network

EXPORT_FORMAT = 2
MAX_DIFFERENCE = 1e-3
ONNX_FILE = "model.onnx"
VERDICT_FILE = "verdict.json"
WEIGHTS_FILE = "category_weights.npy"


class Verdict(BaseModel):
    """Whether the exported network may answer in torch's place."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accepted: bool
    reason: str
    max_difference: float | None = None
    """Largest difference of a confidence between both, over the samples."""
    localization: Localization = Localization.NONE
    """What its second output, the features, is good for; NONE where it has none."""


def export_folder(cache: Path, digest: str) -> Path:
    """Returns where the export of the model with this digest is kept."""
    return cache.expanduser() / f"{digest.removeprefix('sha256:')[:24]}-{EXPORT_FORMAT}"


async def ensure_export(
    model: Path, manifest: Manifest, cache: Path, timeout_s: float
) -> tuple[Path, Verdict]:
    """Returns the exported file and the verdict on it; exports the first time only.

    A version of format `onnx` is its own export.

    Raises:
        OperatorError: the model cannot be loaded at all, or the export outlasts
            `timeout_s`.
    """
    if manifest.format == "onnx":
        verdict = Verdict(accepted=True, reason="as it is", localization=manifest.localization)
        return model / ONNX_FILE, verdict
    folder = export_folder(cache, manifest.digest)
    if not (folder / VERDICT_FILE).exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        incoming = Path(tempfile.mkdtemp(prefix=".incoming-", dir=folder.parent))
        try:
            await _run_exporter(model, incoming, timeout_s)
            _publish(incoming, folder)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
    return folder / ONNX_FILE, Verdict.model_validate_json((folder / VERDICT_FILE).read_text())


async def _run_exporter(model: Path, out: Path, timeout_s: float) -> None:
    command = [sys.executable, "-m", __name__, str(model), str(out)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(timeout_s):
            _, errors = await process.communicate()
    except TimeoutError:
        raise OperatorError(f"The export of {model} took longer than {timeout_s:g} s.") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        lines = errors.decode(errors="replace").strip().splitlines() or ["no message"]
        raise OperatorError(f"The model in {model} cannot be loaded: {lines[-1]}")


def _publish(incoming: Path, folder: Path) -> None:
    try:
        incoming.rename(folder)
    except OSError:
        # Another process was faster; its export is as good.
        if not (folder / VERDICT_FILE).exists():
            raise


def sample_inputs(spec: InputSpec) -> Sequence[NDArray[np.uint8]]:
    """Returns inputs uint8 (H, W, 3) of several kinds: noise, patches, flat grey."""
    random = np.random.default_rng(0)
    shape = (spec.height_px, spec.width_px, 3)
    noise = random.integers(0, 256, (2, *shape), dtype=np.uint8)
    coarse = random.integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    tile = (-(-spec.height_px // 4), -(-spec.width_px // 4), 1)
    patches = [
        np.kron(patch, np.ones(tile, np.uint8))[: spec.height_px, : spec.width_px]
        for patch in coarse
    ]
    return [*noise, *patches, np.full(shape, 128, np.uint8)]


def export(model: Path, out: Path) -> Verdict:
    """Exports the model's folder into `out` and returns the verdict; blocks for seconds.

    A network that can tell where a category is gets its features as a second output; where that
    does not survive the export, it is exported without.

    Raises:
        Exception: transformers cannot load the model, so torch could not serve it either.
    """
    from image_categorizer_server.inference.runtimes.features import find_features
    from image_categorizer_server.inference.runtimes.network import load_network

    manifest = read_manifest(model)
    network = load_network(model, manifest.input, manifest.activation)
    samples = sample_inputs(manifest.input)
    located = find_features(network, samples, manifest.input)
    if located is not None:
        verdict = _export(located, samples, out)
        if verdict.accepted:
            if located.category_weights is not None:
                np.save(out / WEIGHTS_FILE, located.category_weights.numpy())
            return verdict.model_copy(update={"localization": located.localization})
    return _export(network, samples, out)


def _export(
    network: "Network | WithFeatures", samples: Sequence[NDArray[np.uint8]], out: Path
) -> Verdict:
    import onnxruntime
    import torch

    from image_categorizer_server.inference.runtimes.onnx import (
        FEATURES,
        INPUT,
        OUTPUT,
        OnnxRuntime,
    )

    batch = torch.from_numpy(np.stack(samples))
    with torch.inference_mode():
        theirs = network(batch)
    theirs = theirs if isinstance(theirs, tuple) else (theirs,)
    settings: dict[str, Any] = {
        "dynamo": True,
        "external_data": False,
        "input_names": [INPUT],
        "output_names": [OUTPUT, FEATURES][: len(theirs)],
        "dynamic_shapes": ({0: torch.export.Dim("batch")},),
        "verbose": False,
    }
    file = out / ONNX_FILE
    try:
        torch.onnx.export(network.eval(), (batch,), file, **settings)
        exported = OnnxRuntime(file, threads=0, runners=1)
        answers = [
            exported.predict(part, with_features=len(theirs) > 1)
            for part in (samples[:1], samples[1:])
        ]
    except (
        RuntimeError,
        torch.onnx.OnnxExporterError,
        onnxruntime.capi.onnxruntime_pybind11_state.Fail,
    ) as error:
        return Verdict(accepted=False, reason=f"the export failed: {str(error).splitlines()[0]}")
    return _compare(answers, theirs)


def _compare(answers: Sequence[Answer], theirs: "Sequence[torch.Tensor]") -> Verdict:
    ours = np.concatenate([answer.confidences for answer in answers])
    difference = float(np.abs(ours - theirs[0].numpy()).max())
    if difference > MAX_DIFFERENCE:
        reason = f"confidences differ from torch's by up to {difference:.2g}"
        return Verdict(accepted=False, reason=reason, max_difference=difference)
    for expected in theirs[1:]:
        largest = float(expected.abs().max())
        features = np.concatenate([a.features for a in answers if a.features is not None])
        apart = float(np.abs(features - expected.numpy()).max())
        if apart > MAX_DIFFERENCE * largest:
            reason = f"features of up to {largest:.2g} differ from torch's by up to {apart:.2g}"
            return Verdict(accepted=False, reason=reason, max_difference=difference)
    return Verdict(accepted=True, reason="equal to torch", max_difference=difference)


def main() -> None:
    """Runs one export; the last line on standard error says what failed."""
    model, out = map(Path, sys.argv[1:])
    verdict = export(model, out)
    # Written last: a folder without it is no export.
    (out / VERDICT_FILE).write_text(verdict.model_dump_json(indent=1) + "\n")


if __name__ == "__main__":
    main()
