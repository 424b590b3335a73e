"""Makes docs/performance.md and docs/performance.png from the figures of `page.py`.

python -m tests.bench.render FIGURES.json FOLDER
"""

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Figures = dict[str, Any]
NAMES = {
    "raw": "raw limit",
    "ours": "**ours**",
    "ours int8": "**ours, int8**",
    "LitServe eager": "LitServe, transformers + torch",
    "mosec eager": "mosec, transformers + torch",
    "PyTriton eager": "PyTriton, transformers + torch",
    "LitServe onnx": "LitServe, our decoding + ONNX Runtime",
    "mosec onnx": "mosec, our decoding + ONNX Runtime",
    "PyTriton onnx": "PyTriton, our decoding + ONNX Runtime",
}
TEMPLATE = Path(__file__).with_name("performance.md.in")
INT8 = (
    "Images that our server serves in int8 (`models quantize`) for each of eager torch, "
    "{clients} clients: {ratios}.\n"
)
MILLION = 1_000_000
# On demand, compute-optimised machines in the US: AWS c5 0.0425, Google c3-highcpu 0.043, Azure
# Fsv2 0.042. Machines are never busy all day.
USD_PER_CORE_H, UTILISATION = 0.043, 0.5
# List prices of label detection, for the first million of a month.
HOSTED_USD = {"Amazon Rekognition": 1000, "Google Cloud Vision": 1500}
NOTHING = "Not measured this time.\n"
PEER_HEADS = ("", "clients", "images/s", "p50 ms", "p99 ms", "core-ms per image", "ours / other")
NULL_HEADS = ("", "requests/s", "p50 ms", "p99 ms", "core-ms per request", "ours / other")
OVERLOAD_HEADS = (
    *("", "arrivals / capacity", "capacity/s", "goodput", "of the rest", "accepted p99 ms"),
    *("refused p50 ms", "refused p99 ms", "generator cores", "answers"),
)


def main() -> None:
    """Reads the figures and writes the page and its chart."""
    file, folder = Path(sys.argv[1]), Path(sys.argv[2])
    figures = json.loads(file.read_text())
    folder.mkdir(exist_ok=True)
    (folder / "performance.md").write_text(page(figures))
    draw(figures, folder / "performance.png")


def page(figures: Figures) -> str:
    """Returns the page as Markdown."""
    missing = "".join(f"- {line}\n" for line in figures["missing"])
    text = TEMPLATE.read_text().format(
        **figures["machine"],
        rounds=figures["rounds"],
        seconds=figures["seconds"],
        peers=table(PEER_HEADS, figures["peers"], peer_cells),
        int8=int8(figures["peers"]),
        apart=table(PEER_HEADS, figures["apart"], peer_cells),
        cost=cost(figures["peers"]),
        null=table(NULL_HEADS, figures["null"], null_cells),
        overload=table(OVERLOAD_HEADS, figures["overload"], overload_cells),
        missing=missing and f"Not measured:\n\n{missing}",
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def peer_cells(row: Figures) -> list[str]:
    """Returns the cells of one server with one number of clients."""
    cells, name = null_cells(row), str(row["name"])
    return [NAMES.get(name, name), str(row["clients"]), *cells[1:]]


def null_cells(row: Figures) -> list[str]:
    """Returns the cells of one server."""
    times = [f"{row[key]:.1f}" for key in ("p50_ms", "p99_ms")]
    spent = f"{row['cpu_ms_per_image']:.2f}"
    ratio = "" if row["ratio_of_ours"] is None else f"{row['ratio_of_ours']:.2f}"
    name = "**ours**" if row["name"] == "ours" else row["name"]
    return [name, f"{row['images_per_s']:.0f}", *times, spent, ratio]


def overload_cells(row: Figures) -> list[str]:
    """Returns the cells of one level."""
    times: list[str] = [
        "" if row[key] is None else f"{row[key]:.0f}"
        for key in ("accepted_p99_ms", "refused_p50_ms", "refused_p99_ms")
    ]
    rest = "" if row["goodput_of_rest"] is None else f"{row['goodput_of_rest']:.2f}"
    codes = ", ".join(f"{code} {count}" for code, count in sorted(row["codes"].items()))
    return [
        *(row["name"], f"{row['factor']:g}", f"{row['capacity_per_s']:.0f}"),
        *(f"{row['goodput_of_capacity']:.2f}", rest, *times),
        *(f"{row['generator_cores']:.2f}", codes),
    ]


def table(heads: Sequence[str], rows: list[Figures], cells: Callable[[Figures], list[str]]) -> str:
    """Returns a Markdown table, sorted by clients, with the raw limit and our server first."""
    if not rows:
        return NOTHING
    order = list(NAMES)
    ranked = sorted(
        rows,
        key=lambda row: (
            row.get("clients", 0),
            order.index(row["name"]) if row["name"] in order else len(order),
        ),
    )
    lines = [list(heads), ["---"] * len(heads), *map(cells, ranked)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def int8(rows: list[Figures]) -> str:
    """Returns a sentence on how our int8 compares with eager torch; empty if not measured."""
    clients = max((row["clients"] for row in rows), default=0)
    ratios = [
        f"{row['name'].removesuffix(' eager')} {row['ratio_of_int8']:.2f}"
        for row in rows
        if row["clients"] == clients and row["name"].endswith(" eager") and row["ratio_of_int8"]
    ]
    return INT8.format(clients=clients, ratios=", ".join(ratios)) if ratios else ""


def cost(rows: list[Figures]) -> str:
    """Returns a table of what a million images cost on rented cores, and at hosted services."""
    clients = max((row["clients"] for row in rows), default=0)
    lines = [["", "core-hours", "USD"], ["---"] * 3]
    for row in rows:
        if row["clients"] == clients and row["name"].startswith("ours"):
            core_h = row["cpu_ms_per_image"] * MILLION / 1000 / 3600
            usd = core_h * USD_PER_CORE_H / UTILISATION
            lines.append([NAMES[row["name"]], f"{core_h:.1f}", f"{usd:.2f}"])
    if len(lines) == 2:
        return NOTHING
    lines += [[name, "", f"{usd:,}"] for name, usd in HOSTED_USD.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def draw(figures: Figures, file: Path) -> None:
    """Draws throughput, latency, serving without a model and overload into one PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    canvas, ((rates, times), (curve, levels), (null, empty)) = plt.subplots(
        3, 2, figsize=(13, 11), layout="constrained"
    )
    if figures["peers"]:
        clients = max(row["clients"] for row in figures["peers"])
        rows = [row for row in figures["peers"] if row["clients"] == clients]
        bars(rates, rows, "images_per_s", f"MobileNetV2, {clients} clients: images/s")
        draw_by_clients(times, figures["peers"], "p50_ms", "Median latency, ms")
        times.set_yscale("log")
    if figures["apart"]:
        title = "Images/s, load generator on a core of its own"
        draw_by_clients(curve, figures["apart"], "images_per_s", title)
    if figures["null"]:
        bars(null, figures["null"], "images_per_s", "Model that does nothing: requests/s")
    draw_levels(levels, figures["overload"])
    for axes in (rates, times, curve, levels, null, empty):
        if not axes.has_data():
            axes.set_axis_off()
    canvas.savefig(file, dpi=110, metadata={"Software": None})


def bars(axes: Any, rows: list[Figures], key: str, title: str) -> None:
    """Draws one bar per server."""
    ranked = sorted(rows, key=lambda row: float(row[key]))
    names = [plain(row["name"]) for row in ranked]
    colours = [colour(row["name"]) for row in ranked]
    drawn = axes.barh(names, [row[key] for row in ranked], color=colours)
    axes.bar_label(drawn, fmt="%.0f", padding=3)
    axes.locator_params(axis="x", nbins=5)
    axes.set_title(title, loc="left")


def draw_by_clients(axes: Any, rows: list[Figures], key: str, title: str) -> None:
    """Draws a figure against the number of clients."""
    for name in [name for name in NAMES if any(row["name"] == name for row in rows)]:
        points = sorted((row["clients"], row[key]) for row in rows if row["name"] == name)
        clients, values = zip(*points, strict=True)
        style = "--" if name == "raw" else "-" if name.startswith("ours") else ":"
        axes.plot(clients, values, style, marker="o", markersize=3, label=plain(name))
    axes.set(xscale="log", xlabel="clients", xticks=clients)
    axes.set_xticklabels([str(count) for count in clients])
    axes.minorticks_off()
    axes.set_title(title, loc="left")
    axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def draw_levels(axes: Any, levels: list[Figures]) -> None:
    """Draws goodput against the multiple of the capacity."""
    if not levels:
        return
    for name in dict.fromkeys(level["name"] for level in levels):
        points = [(x["factor"], x["goodput_of_capacity"]) for x in levels if x["name"] == name]
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    axes.axhline(0.9, color="grey", linewidth=0.8, linestyle=":")
    axes.set(ylim=(0, 1.15), xlabel="arrivals, multiple of capacity")
    axes.set_title("Goodput under overload, share of capacity", loc="left")
    axes.legend(frameon=False)


def plain(name: str) -> str:
    """Returns the name of a server without Markdown."""
    return NAMES.get(name, name).strip("*")


def colour(name: str) -> str:
    """Returns the colour of a server's bar."""
    return "#9aa0a6" if name == "raw" else "#1a73e8" if name.startswith("ours") else "#c5cad1"


if __name__ == "__main__":
    main()
