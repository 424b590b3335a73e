"""How the benchmarks count."""

import json
import os
from dataclasses import asdict

from image_categorizer.v1 import classify_pb2
from image_categorizer_server.bench.load import encoder, http_request
from image_categorizer_server.bench.run import RAW, Way, _measure

from tests.bench.measure import Rounds, rows_of
from tests.bench.overload import Answer, Answers, Capacity, Target, level_of
from tests.bench.page import Page
from tests.bench.render import cost, page
from tests.bench.servers import PYTRITON
from tests.bench.servers import encoder as peer_encoder


def figures(images_per_s: float) -> dict[str, float]:
    return {"images_per_s": images_per_s, "p50_ms": 1, "p99_ms": 2, "cpu_ms_per_image": 3}


def test_requests_of_the_load_generator_bypass_the_result_cache():
    request = classify_pb2.ClassifyRequest.FromString(encoder("m", "2")(b"picture"))
    assert request.options.no_cache
    assert (request.image, request.options.model, request.options.version) == (b"picture", "m", "2")


def test_ratios_compare_servers_within_a_round():
    collected = {
        ("ours", 32): Rounds([figures(100), figures(10), figures(300)]),
        ("theirs", 32): Rounds([figures(50), figures(5), figures(600)]),
    }
    ours, theirs = rows_of(collected, "ours")
    assert (ours.ratio_of_ours, theirs.ratio_of_ours) == (1, 2)
    assert theirs.images_per_s == 50


async def test_each_model_is_compared_with_its_own_raw_limit():
    def way(name, images_per_s, raw=RAW, clients=None):
        async def measure(count, seconds):
            return figures(images_per_s * count)

        return Way(name, measure, raw, clients)

    first = [way(RAW, 100), way("gRPC", 90)]
    others = [way("batch", 80, clients=0), way("raw, int8", 200, "raw, int8")]
    rows = await _measure(first, [*first, *others, way("gRPC, int8", 150, "raw, int8")], print)
    found = {(row.name, row.clients): (row.images_per_s, row.ratio_to_raw) for row in rows}
    assert found["gRPC", 1] == (90, 0.9)
    assert found["gRPC", 32] == (2880, 0.9)
    assert found["batch", 0] == (2560, 0.8)
    assert found["gRPC, int8", 32] == (4800, 0.75)


def test_goodput_counts_answers_in_time_once_the_queue_is_full():
    early, in_time = Answer("OK", 0.1, 100.0), Answer("OK", 2.0, 500.0)
    late, refused = Answer("OK", 2.0, 2500.0), Answer("UNAVAILABLE", 2.0, 5.0)
    answers = [early, *[in_time] * 20, late, refused] * 2
    target, limit = Target("model", "", "", "m", uses_cores=True), Capacity(10.0, 0.0)
    level = level_of(target, 2, limit, Answers(answers, 5.0, 0.1))
    assert level.goodput_of_capacity == 1.0
    cores = len(os.sched_getaffinity(0))
    assert level.goodput_of_rest == round(cores / (cores - 0.1), 3)
    assert level.refused_p99_ms == 5.0
    assert level.codes == {"OK": 44, "UNAVAILABLE": 2}


def test_a_triton_request_states_the_length_of_its_json_head():
    head, _, body = peer_encoder(PYTRITON)(b"picture").partition(b"\r\n\r\n")
    length = int(head.split(b"inference-header-content-length: ")[1].split(b"\r\n")[0])
    words = json.loads(body[:length])
    assert words["inputs"][0]["parameters"]["binary_data_size"] == len(body) - length
    assert body[length:] == b"\x07\0\0\0picture"


def test_an_http_request_has_its_length():
    assert http_request("/x", "image/jpeg", b"ab").endswith(b"content-length: 2\r\n\r\nab")


def test_the_page_names_what_was_not_measured():
    machine = dict.fromkeys(("date", "commit", "cpu", "cores", "python"), "x")
    text = page(asdict(Page(machine, 1.0, 1, missing=["PyTriton: no such Python"])))
    assert "- PyTriton: no such Python" in text
    assert "Not measured this time." in text


def test_a_million_images_cost_their_core_hours():
    rows = [{"name": "ours", "clients": 32, "cpu_ms_per_image": 7.2}]
    assert "| **ours** | 2.0 | 0.17 |" in cost(rows)
