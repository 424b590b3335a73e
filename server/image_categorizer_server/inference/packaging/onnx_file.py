"""Finds and reads a user's ONNX file, with the weights that it keeps in files beside it.

User files are untrusted: only regular files inside the folder of the ONNX file are read, and only
operators that are part of ONNX Runtime are run.
"""

import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, external_data_helper, helper, inliner

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.export import ONNX_FILE
from image_categorizer_server.inference.packaging.folder import LFS_MARK, WEIGHTS, refuse_pointer

SUFFIX = ".onnx"
TRANSFORMERS_JS = "onnx"
"""The folder that holds the graphs in repositories for transformers.js."""
MIN_OPSET = 8  # the first in which Mul and Add broadcast, and Cast takes its type as a number
KNOWN_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}
MAX_BYTES = 2**31 - 2**20
"""Of the graph with its weights: protobuf holds 2 GiB in one message."""
HEAD_BYTES = 512
EXPORT = "export the network with torch.onnx.export"
# What files of other kinds begin with, what they are, and what to do.
KINDS: tuple[tuple[int, bytes, str], ...] = (
    (
        0,
        b"PK\x03\x04",
        f"a zip file, as PyTorch (.pt) and Keras (.keras) write: {EXPORT} or tf2onnx",
    ),
    (0, b"\x80\x02", f"a pickle, as PyTorch writes (.pt): {EXPORT}"),
    (0, b"\x80\x03", f"a pickle, as PyTorch writes (.pt): {EXPORT}"),
    (0, b"\x80\x04", f"a pickle, as PyTorch writes (.pt): {EXPORT}"),
    (0, b"\x80\x05", f"a pickle, as PyTorch writes (.pt): {EXPORT}"),
    (0, b"\x89HDF\r\n", "an HDF5 file, as Keras writes (.h5): convert it with tf2onnx"),
    (4, b"TFL3", "a TensorFlow Lite file (.tflite): convert it with tf2onnx --tflite"),
    (4, b"ORTM", "in ONNX Runtime's own format (.ort): add the .onnx file that it was made from"),
    (8, b'{"', "a safetensors file: add its folder, with config.json and preprocessor_config.json"),
    (0, b"GGUF", "a GGUF file, which holds no image classifier"),
    (0, b"ftrt", "a TensorRT engine: add the .onnx file that it was made from"),
    (0, b"\x1f\x8b", "compressed with gzip: unpack it"),
    (0, b"<", "a web page or XML, perhaps an error page in place of a download: download it again"),
    (0, b"{", "JSON: give the path of the .onnx file itself"),
)
ENDINGS = {
    ".pb": "a TensorFlow graph: convert it with tf2onnx",
    ".tflite": "a TensorFlow Lite file: convert it with tf2onnx --tflite",
    ".h5": "a Keras file: convert it with tf2onnx",
    ".keras": "a Keras file: convert it with tf2onnx",
    ".pt": f"a PyTorch file: {EXPORT}",
    ".pth": f"a PyTorch file: {EXPORT}",
}


def onnx_file(source: Path) -> Path | None:
    """Returns the ONNX file at a path; None if the path is a Hugging Face folder or does not exist.

    Raises:
        OperatorError: a folder holds several ONNX files, none of them `model.onnx`.
    """
    if source.is_file():
        return source
    if (source / WEIGHTS).exists():
        return None
    for folder in (source, source / TRANSFORMERS_JS):
        if (folder / ONNX_FILE).is_file():
            return folder / ONNX_FILE
        found = sorted(f for f in _listed(folder) if f.suffix == SUFFIX and f.is_file())
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(file.name for file in found[:5])
            raise OperatorError(
                f"{folder} has {len(found)} ONNX files ({names}{', …' if found[5:] else ''}): "
                "give the path of one."
            )
    return None


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def companion_folders(file: Path) -> tuple[Path, ...]:
    """Returns the folders that may hold the labels and the preprocessor card of an ONNX file.

    They are its own and, in the layout of transformers.js, the one above.
    """
    folder = file.parent
    if folder.resolve().name == TRANSFORMERS_JS:
        return folder, folder.resolve().parent if folder.name != TRANSFORMERS_JS else folder.parent
    return (folder,)


def companion(file: Path, name: str) -> Path | None:
    """Returns the file of this name in the nearest of the companion folders."""
    found = (folder / name for folder in companion_folders(file))
    return next((path for path in found if path.is_file()), None)


def read_model(file: Path) -> onnx.ModelProto:
    """Returns the graph with all its weights, and with its functions inlined.

    Raises:
        OperatorError: not an ONNX file, it has unknown operators, or its weights cannot be read.
    """
    model = _parsed(file)
    if not all(isinstance(name, str) for name in _names(model)):  # protobuf gives bytes instead
        raise OperatorError(
            f"{file} is damaged: it has names that are not text; export or download it again."
        )
    functions = {(function.domain, function.name) for function in model.functions}
    for node in model.graph.node:
        is_known = node.domain in KNOWN_DOMAINS or (node.domain, node.op_type) in functions
        if not is_known:
            raise OperatorError(
                f"{file} uses the operator {node.domain}.{node.op_type}, which ONNX Runtime does "
                "not have; export the network without it."
            )
    if opset(model) < MIN_OPSET:
        raise OperatorError(
            f"{file} uses ONNX opset {opset(model)}; export it with opset {MIN_OPSET} or later."
        )
    _read_weights(file, model)
    del model.training_info[:]
    return inliner.inline_local_functions(model) if model.functions else model


def _names(model: onnx.ModelProto) -> Iterator[object]:
    for node in model.graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
    yield from (tensor.name for tensor in model.graph.initializer)
    yield from (value.name for value in (*model.graph.input, *model.graph.output))


def _parsed(file: Path) -> onnx.ModelProto:
    try:
        size = file.stat().st_size
        with file.open("rb") as content:
            head = content.read(HEAD_BYTES)
        refuse_other_kinds(file, head)
        if size > MAX_BYTES:
            raise _too_large(file, size)
        model = onnx.load_model(file, format="protobuf", load_external_data=False)
    except OSError as error:
        raise OperatorError(f"Cannot read {file}: {error.strerror}.") from None
    except (DecodeError, ValueError):
        raise OperatorError(
            f"{file} is not an ONNX file, or it is cut off: export or download it again."
        ) from None
    if not model.graph.node or not model.graph.output:
        raise OperatorError(f"{file} is not an ONNX file: it has no network in it.")
    return model


def refuse_other_kinds(file: Path, head: bytes) -> None:
    """Passes the first bytes of a file that may be ONNX.

    Raises:
        OperatorError: the file is empty, a Git LFS pointer or of another kind.
    """
    if not head:
        raise OperatorError(f"{file} is empty: export or download it again.")
    refuse_pointer(file, head)
    kind = next((kind for at, mark, kind in KINDS if head[at : at + len(mark)] == mark), None)
    kind = ENDINGS.get(file.suffix.lower(), kind)
    if kind is not None:
        raise OperatorError(f"{file} is not an ONNX file but {kind}.")


def _too_large(file: Path, size: int) -> OperatorError:
    return OperatorError(
        f"{file} and its weights take {size / 2**30:.1f} GiB; 2 GiB are the most that an ONNX file "
        "can hold: export the network in half precision, or choose a smaller one."
    )


def _read_weights(file: Path, model: onnx.ModelProto) -> None:
    """Moves weights that are kept in other files into the model.

    Raises:
        OperatorError: a file is outside the folder, missing, too short, or all are too large; or
            weights in the file itself have another size than they claim.
    """
    for tensor in tensors(model):
        if tensor.raw_data and len(tensor.raw_data) != _bytes_of(file, tensor):
            raise OperatorError(
                f"{file} is damaged: the weights '{tensor.name}' have another size than they "
                "claim; export or download it again."
            )
    outside = [t for t in tensors(model) if external_data_helper.uses_external_data(t)]
    if not outside:
        return
    sizes = [_bytes_of(file, tensor) for tensor in outside]
    total = file.stat().st_size + sum(sizes)
    if total > MAX_BYTES:
        raise _too_large(file, total)
    for tensor, size in zip(outside, sizes, strict=True):
        fields = {entry.key: entry.value for entry in tensor.external_data}
        path = _data_file(file, fields.get("location", ""))
        tensor.raw_data = _read_part(path, tensor, _offset(file, tensor, fields), size)
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]


def _bytes_of(file: Path, tensor: TensorProto) -> int:
    """Returns the number of bytes that a tensor takes by its type and its sides."""
    try:
        item = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except KeyError:
        raise OperatorError(f"{file}: the weights '{tensor.name}' are of no known type.") from None
    if any(side < 0 for side in tensor.dims):
        raise OperatorError(f"{file}: the weights '{tensor.name}' have a negative size.")
    count = math.prod(tensor.dims)
    four_bits = {TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1}
    return -(-count // 2) if tensor.data_type in four_bits else count * item


def _offset(file: Path, tensor: TensorProto, fields: dict[str, str]) -> int:
    offset = fields.get("offset") or "0"
    if not (offset.isascii() and offset.isdigit() and len(offset) < 16):
        raise OperatorError(f"{file}: the weights '{tensor.name}' have no valid offset.")
    return int(offset)


def _data_file(file: Path, location: str) -> Path:
    """Returns the file with external weights.

    Raises:
        OperatorError: it is not a file in the folder of the ONNX file.
    """
    folder = file.parent.resolve()
    parts = Path(location).parts
    is_inside = bool(parts) and "\0" not in location and "\\" not in location
    if not is_inside or Path(location).is_absolute() or ".." in parts:
        raise OperatorError(
            f"{file} keeps weights in {location!r}, which is not a path inside its folder; save "
            "the network again, with its weights beside it."
        )
    path = file.parent / location
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):
        raise OperatorError(
            f"{file} keeps its weights in {location}, which is missing: put it beside the file."
        ) from None
    if not target.is_relative_to(folder):
        raise OperatorError(
            f"{path} is a link out of the folder of {file.name}: copy the file itself there."
        )
    return path


def _read_part(path: Path, tensor: TensorProto, offset: int, size: int) -> bytes:
    try:
        # A pipe in the folder would block for ever.
        descriptor = os.open(path.resolve(), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as content:
            if not stat.S_ISREG(os.fstat(content.fileno()).st_mode):
                raise OperatorError(f"{path} is not a regular file.")
            refuse_pointer(path, content.read(len(LFS_MARK)))
            content.seek(offset)
            part = content.read(size)
    except OSError as error:
        raise OperatorError(f"Cannot read {path}: {error.strerror}.") from None
    if len(part) != size:
        raise OperatorError(
            f"{path} is too short: it lacks bytes of the weights '{tensor.name}'; export or "
            "download it again."
        )
    return part


def tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Yields the initializers and the constants of all nodes, including those in subgraphs."""
    graphs = [model.graph]
    nodes = [node for function in model.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes.extend(graph.node)
        while nodes:
            for attribute in nodes.pop().attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
                for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                    yield from (sparse.values, sparse.indices)
                graphs.extend([attribute.g] if attribute.HasField("g") else [])
                graphs.extend(attribute.graphs)


def opset(model: onnx.ModelProto) -> int:
    """Returns the version of the standard ONNX operators."""
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
