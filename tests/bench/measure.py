"""Alternating rounds; medians over the rounds, ratios within a round."""

import itertools
import statistics
import sys
from dataclasses import dataclass, field
from functools import partial
from random import Random

from image_categorizer_server.bench.load import Sample, drive, endless
from image_categorizer_server.bench.run import cpu_s
from image_categorizer_server.bench.stage import Raw

from tests.bench.servers import Server

WARM_UP_S = 0.7
Figures = dict[str, float]


@dataclass(frozen=True)
class Row:
    """One server with one number of clients: medians over the rounds."""

    name: str
    clients: int
    images_per_s: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    cpu_ms_per_image: float = 0.0
    """Of the server's processes, without the load generator."""
    ratio_of_ours: float | None = None
    """Images that our server serves for each of theirs, in the same round."""
    ratio_of_int8: float | None = None
    """The same for our server with the int8 model."""


@dataclass
class Rounds:
    """The figures of each round."""

    figures: list[Figures] = field(default_factory=list)

    def medians(self) -> Figures:
        return {
            key: round(statistics.median(f[key] for f in self.figures), 3)
            for key in self.figures[0]
        }

    def ratio_to(self, other: "Rounds") -> float:
        """Returns how many images this server serves for each of the other's."""
        pairs = zip(self.figures, other.figures, strict=True)
        ratios = [a["images_per_s"] / b["images_per_s"] for a, b in pairs]
        return round(statistics.median(ratios), 3)


Key = tuple[str, int]
"""A server's name and a number of clients."""


async def run_rounds(
    servers: list[Server],
    contents: list[bytes],
    client_counts: tuple[int, ...],
    rounds: int,
    seconds: float,
    raw: Raw | None = None,
) -> tuple[dict[Key, Rounds], list[str]]:
    """Returns the rounds of each server with each number of clients, and errors.

    Each round has a different order, so that disturbances of the machine affect all servers alike.
    A server that fails is left out; the others continue.
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


async def one_round(server: Server, contents: list[bytes], clients: int, seconds: float) -> Figures:
    """Returns the figures of one server. No other server runs meanwhile."""
    pictures = endless(contents)
    async with server.running(), server.clients(clients) as asks:
        sample = await drive(asks, pictures, seconds, WARM_UP_S, partial(tree_cpu_s, server))
    return figures_of(sample)


def tree_cpu_s(server: Server) -> float:
    """Returns the core-seconds that all processes of a server have used."""
    return sum(map(cpu_s, server.tree()))


def figures_of(sample: Sample) -> Figures:
    percentiles = statistics.quantiles(sample.times_ms, n=100, method="inclusive")
    return {
        "images_per_s": sample.images_per_s,
        "p50_ms": percentiles[49],
        "p99_ms": percentiles[98],
        "cpu_ms_per_image": sample.cpu_ms_per_image,
    }


def raw_figures(figures: Figures) -> Figures:
    """Returns those figures of the raw limit that servers have, too."""
    return {key: figures[key] for key in ("images_per_s", "p50_ms", "p99_ms", "cpu_ms_per_image")}


def rows_of(collected: dict[Key, Rounds], ours: str, int8: str = "") -> list[Row]:
    """Returns the rows of the table, compared with the servers `ours` and `int8`."""

    def ratio(name: str, clients: int, rounds: Rounds) -> float | None:
        compared = collected.get((name, clients))
        return compared.ratio_to(rounds) if compared else None

    rows = [
        Row(
            name,
            clients,
            **rounds.medians(),
            ratio_of_ours=ratio(ours, clients, rounds),
            ratio_of_int8=ratio(int8, clients, rounds),
        )
        for (name, clients), rounds in collected.items()
    ]
    return sorted(rows, key=lambda row: row.clients)
