"""Generates all files that depend on the protos; with `--check`, fails if one is stale.

googleapis-common-protos   ─▶ proto/google/      the protos that ours import
proto/image_categorizer/** ─▶ clients/python/image_categorizer/v1/   typed stubs
                           ─▶ gateway/descriptor.binpb   for Envoy's JSON transcoder
                           ─▶ gateway/contract.json      for Envoy's routes (tools/contract.py)
                           ─▶ gateway/openapi.yaml       the REST reference (tools/openapi.py)
                           ─▶ docs/{errors,roles}.md     tables (tools/reference.py)
                           ─▶ clients/js/src/generated/  types, errors (tools/javascript.py)
clients/python/image_categorizer/_aio ─▶ _sync            without asyncio (tools/sync_twin.py)
                                      ─▶ docs/sdk-reference.md  (tools/sdk_reference.py)
"""

import argparse
import filecmp
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import google.api.annotations_pb2
import sdk_reference
import sync_twin
from google.protobuf.descriptor_pb2 import FileDescriptorSet

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
STUBS = Path("clients/python/image_categorizer/v1")
DESCRIPTOR = Path("gateway/descriptor.binpb")
CONTRACT = Path("gateway/contract.json")
OPENAPI = Path("gateway/openapi.yaml")
PAGES = (Path("docs/errors.md"), Path("docs/roles.md"))
JAVASCRIPT = Path("clients/js/src/generated")
GOOGLEAPIS = Path(google.api.annotations_pb2.__file__).resolve().parents[2]
# Envoy answers errors with an empty body if the descriptor set lacks error_details.
ERROR_PROTOS = ["google/rpc/error_details.proto", "google/rpc/status.proto"]
VENDORED = [
    "google/api/annotations.proto",
    "google/api/http.proto",
    "google/api/httpbody.proto",
    "google/rpc/code.proto",
    *ERROR_PROTOS,
]


def protoc(*arguments: str | Path) -> None:
    """Runs the protoc of grpcio-tools, which includes `google/protobuf`, over `proto/`."""
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}"]
    subprocess.run([*command, *map(str, arguments)], check=True, cwd=ROOT)


def generate(root: Path) -> None:
    """Writes all generated files below `root`."""
    sources = sorted(
        path.relative_to(PROTO) for path in (PROTO / "image_categorizer").rglob("*.proto")
    )
    package = root / STUBS.parents[1]
    shutil.rmtree(root / STUBS, ignore_errors=True)
    (root / STUBS).mkdir(parents=True)
    (root / DESCRIPTOR).parent.mkdir(parents=True, exist_ok=True)
    outputs = ("python_out=", "grpc_python_out=", "mypy_out=quiet:", "mypy_grpc_out=quiet:")
    protoc(*(f"--{output}{package}" for output in outputs), *sources)
    (root / STUBS / "__init__.py").write_text(
        '"""Generated from proto/image_categorizer/v1; do not edit."""\n'
    )
    # Imported here: they read our options, which the stubs just written declare.
    from contract import contract
    from javascript import modules
    from openapi import openapi_document
    from reference import pages

    described = root / ".descriptor-with-comments"
    protoc(
        "--include_imports",
        "--include_source_info",
        f"--descriptor_set_out={described}",
        *sources,
        *ERROR_PROTOS,
    )
    files = FileDescriptorSet.FromString(described.read_bytes())
    described.unlink()
    (root / OPENAPI).write_text(openapi_document(files))
    (root / CONTRACT).write_text(contract(files))
    (root / "docs").mkdir(exist_ok=True)
    for path, text in zip(PAGES, pages(files), strict=True):
        (root / path).write_text(text)
    (root / JAVASCRIPT).mkdir(parents=True, exist_ok=True)
    for name, text in modules(files).items():
        (root / JAVASCRIPT / name).write_text(text)
    for file in files.file:
        file.ClearField("source_code_info")
    (root / DESCRIPTOR).write_bytes(files.SerializeToString(deterministic=True))
    sync_twin.generate(root)
    (root / sdk_reference.PAGE).write_text(sdk_reference.page(root))


def stale_files(fresh: Path) -> list[str]:
    """Returns the generated files that differ from those below `fresh`."""
    stale = [f"proto/{name}" for name in VENDORED if not same(GOOGLEAPIS / name, PROTO / name)]
    outputs = (DESCRIPTOR, CONTRACT, OPENAPI, *PAGES, sdk_reference.PAGE, *sync_twin.twins())
    stale += [str(path) for path in outputs if not same(fresh / path, ROOT / path)]
    for folder, pattern in ((STUBS, "*.py*"), (JAVASCRIPT, "*.ts")):
        names = {p.name for root in (fresh, ROOT) for p in (root / folder).glob(pattern)}
        stale += [
            str(folder / name)
            for name in sorted(names)
            if not same(fresh / folder / name, ROOT / folder / name)
        ]
    return stale


def same(a: Path, b: Path) -> bool:
    """Returns whether both files exist and are equal byte for byte."""
    return a.exists() and b.exists() and filecmp.cmp(a, b, shallow=False)


def vendor() -> None:
    """Copies the protos that ours import from googleapis-common-protos to `proto/google`."""
    for name in VENDORED:
        (PROTO / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(GOOGLEAPIS / name, PROTO / name)


def main() -> None:
    """Generates the files, or checks them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if a file is stale"
    )
    arguments = parser.parse_args()
    if not arguments.check:
        vendor()
        generate(ROOT)
        return
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        if stale := stale_files(Path(folder)):
            sys.exit(f"generated files are stale, run `make proto`: {', '.join(stale)}")


if __name__ == "__main__":
    main()
