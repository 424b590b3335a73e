"""Rounds that take turns; medians over the rounds, ratios of pairs within a round."""

import itertools
import statistics
import sys
from dataclasses import dataclass, field
from functools import partial
from random import Random

from image_categorizer_server.bench.load import Sample, drive, endless
from image_categorizer_server.bench.stage import Raw

from tests.bench.servers import Server

WARM_UP_S = 0.7


@dataclass
class Row:
    """One server at one number of clients: medians over the rounds."""

    name: str
    clients: int
    images_per_s: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    cpu_ms_per_image: float = 0.0
    """Of the server's processes; the load generator's are not in it."""
    ratio_of_ours: float | None = None
    """What ours serve for each image of theirs, in the same round."""
    ratio_of_int8: float | None = None
    """The same of ours in int8."""


@dataclass
class Rounds:
    """What each round measured."""

    figures: list[dict[str, float]] = field(default_factory=list)

    def row(self, name: str, clients: int) -> Row:
        """Returns the medians."""
        medians = {
            key: round(statistics.median(f[key] for f in self.figures), 3)
            for key in self.figures[0]
        }
        return Row(name, clients, **medians)

    def ratio_to(self, other: "Rounds") -> float:
        """Returns how many images this one serves for each of the other's."""
        pairs = zip(self.figures, other.figures, strict=True)
        ratios = [a["images_per_s"] / b["images_per_s"] for a, b in pairs]
        return round(statistics.median(ratios), 3)


Key = tuple[str, int]


async def take_turns(
    servers: list[Server],
    contents: list[bytes],
    client_counts: tuple[int, ...],
    rounds: int,
    seconds: float,
    raw: Raw | None = None,
) -> tuple[dict[Key, Rounds], list[str]]:
    """Returns the rounds of each server at each number of clients, and why others have none.

    The order is another in every round: what the machine does beside hits each alike.  A server
    that fails leaves the table; the others go on.
    """
    failed: dict[str, str] = {}
    collected: dict[Key, Rounds] = {}
    random = Random(0)
    for turn in range(1, rounds + 1):
        print(f"round {turn} of {rounds}", file=sys.stderr)
        order = list(itertools.product(client_counts, [*servers, *([None] if raw else [])]))
        random.shuffle(order)
        for clients, server in order:
            name = server.name if server else "raw"
            if name in failed:
                continue
            try:
                if server is None:
                    assert raw is not None
                    figures = raw_figures(await raw(clients, seconds))
                else:
                    figures = await one_round(server, contents, clients, seconds)
            except (RuntimeError, EOFError, OSError) as error:
                failed[name] = f"{name}, {clients} clients: {type(error).__name__} {error}"
                print(failed[name], file=sys.stderr)
                continue
            collected.setdefault((name, clients), Rounds()).figures.append(figures)
    kept = {key: rounds for key, rounds in collected.items() if key[0] not in failed}
    return kept, list(failed.values())


async def one_round(
    server: Server, contents: list[bytes], clients: int, seconds: float
) -> dict[str, float]:
    """Returns the figures of one server, alone on the machine but for the clients."""
    pictures = endless(contents)
    with server.running():
        async with server.clients(clients) as asks:
            sample = await drive(asks, pictures, seconds, WARM_UP_S, partial(cpu_s, server))
    return figures_of(sample)


def cpu_s(server: Server) -> float:
    """Returns the core-seconds that its processes have used."""
    return sum(sum(process.cpu_times()[:2]) for process in server.tree())


def figures_of(sample: Sample) -> dict[str, float]:
    """Returns rate, times and what they cost the server."""
    percentiles = statistics.quantiles(sample.times_ms, n=100, method="inclusive")
    return {
        "images_per_s": sample.images_per_s,
        "p50_ms": percentiles[49],
        "p99_ms": percentiles[98],
        "cpu_ms_per_image": sample.cpu_ms_per_image,
    }


def raw_figures(figures: dict[str, float]) -> dict[str, float]:
    """Returns the raw limit's figures in the form of the others."""
    return {
        "images_per_s": figures["images_per_s"],
        "p50_ms": figures["p50_ms"],
        "p99_ms": figures["p99_ms"],
        "cpu_ms_per_image": figures["cpu_ms_per_image"],
    }


def rows_of(collected: dict[Key, Rounds], ours: str, int8: str = "") -> list[Row]:
    """Returns the table, compared with the servers `ours` and `int8`."""
    rows = []
    for (name, clients), rounds in collected.items():
        row = rounds.row(name, clients)
        if (ours, clients) in collected:
            row.ratio_of_ours = collected[ours, clients].ratio_to(rounds)
        if (int8, clients) in collected:
            row.ratio_of_int8 = collected[int8, clients].ratio_to(rounds)
        rows.append(row)
    return sorted(rows, key=lambda row: row.clients)
