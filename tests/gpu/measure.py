"""Measures a machine with a GPU: `tests/gpu/run.sh`, or `python -m tests.gpu.measure --help`.

Each part runs in a process of its own, with a limit of time, so that one that fails or hangs loses
no other's figures.  Writes `gpu.json`, `gpu.md` and the profiles of the networks.
"""

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

PARTS = {"forward": 150, "decode": 90, "served": 230}
"""Seconds that each part may take."""
TITLES = {
    "forward": "Networks by size of micro-batch",
    "decode": "JPEGs of 500 x 375 decoded",
    "served": "Over gRPC, from JPEGs, with one model process",
}
SIZES = (1, 4, 16, 64, 128, 256)
PROCESSES = (1, 2, 4, 8)


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """Returns the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for the figures")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=tuple(PARTS))
    parser.add_argument("--networks", nargs="+", default=["resnet50", "efficientnet_lite0"])
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--side-px", type=int, default=224)
    parser.add_argument("--processes", nargs="+", type=int, default=PROCESSES)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each figure")
    parser.add_argument("--limit-s", type=float, help="of each part, in place of its own")
    parser.add_argument("--inner", choices=tuple(PARTS), help=argparse.SUPPRESS)
    return parser.parse_args(given)


def measured(part: str, words: list[str], limit_s: float, out: Path) -> dict[str, Any]:
    """Runs one part; returns its rows, and why some are missing, if any are."""
    file = out / f"{part}.jsonl"
    file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tests.gpu.measure", *words, "--inner", part]
    with (out / f"{part}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            status = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return {"rows": rows_in(file), "missing": f"it took longer than {limit_s:g} s"}
        finally:
            end(process)
    if status:
        lines = (out / f"{part}.log").read_text().strip().splitlines() or ["it printed nothing"]
        return {"rows": rows_in(file), "missing": lines[-1]}
    return {"rows": rows_in(file), "missing": ""}


def rows_in(file: Path) -> list[dict[str, Any]]:
    """Returns the rows that a part has written so far, one a line."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def end(process: subprocess.Popen[bytes]) -> None:
    """Kills what a part has left behind, with its whole session."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait(10)


def page(figures: dict[str, Any]) -> str:
    """Returns the figures as Markdown."""
    lines = ["# Figures of this machine", ""]
    for part, found in figures.items():
        lines += [f"## {TITLES[part]}", ""]
        if found["missing"]:
            lines += [f"Not complete: {found['missing']}", ""]
        heads = list(dict.fromkeys(key for row in found["rows"] for key in row))
        lines.append("| " + " | ".join(head.replace("_", " ") for head in heads) + " |")
        lines.append("|" + "---|" * len(heads))
        for row in found["rows"]:
            cells = ["-" if row.get(head) is None else str(row[head]) for head in heads]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Measures all parts, or one of them inside its own process."""
    words = arguments()
    if words.inner:
        with (words.out / f"{words.inner}.jsonl").open("w", buffering=1) as file:
            importlib.import_module(f"tests.gpu.{words.inner}").measure(
                words, lambda row: print(json.dumps(row), file=file)
            )
        return
    words.out.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Any] = {}
    for part in words.parts:
        limit_s = words.limit_s or PARTS[part]
        figures[part] = measured(part, sys.argv[1:], limit_s, words.out)
        # After each part: whoever stops us has the figures so far.
        (words.out / "gpu.json").write_text(json.dumps(figures, indent=1) + "\n")
        (words.out / "gpu.md").write_text(page(figures))
    print((words.out / "gpu.md").read_text())
    sys.exit(any(found["missing"] for found in figures.values()))


if __name__ == "__main__":
    main()
