"""Processes are killed at two failpoints in sequence, in any order: the second half of R3."""

import asyncio
import os
import subprocess
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from tests.reliability.test_batches_failpoints import (
    SERVER_POINTS,
    STOP_POINTS,
    SWEEP_POINTS,
    WORKER_POINTS,
    finish,
    server_dies,
    stopping_worker_dies,
    sweeper_dies,
    worker_dies,
)
from tests.support.cluster import Cluster, open_cluster
from tests.support.ledger import Ledger

SEQUENCES = int(os.environ.get("RELIABILITY_SEQUENCES", "40"))  # some ten seconds each
STEPS = 2


def machine_of(runner: asyncio.Runner, cluster: Cluster) -> type[RuleBasedStateMachine]:
    """Returns a state machine whose rules kill processes of the cluster.

    At the end a worker lives, and all invariants hold.
    """
    servers: list[subprocess.Popen[bytes]] = []

    class Crashes(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.ledger = Ledger()
            runner.run(cluster.empty())
            if not servers:
                servers.append(runner.run(cluster.start_server()))

        @rule(point=st.sampled_from([p for p in WORKER_POINTS if p != "chunk.extended"]))
        def a_worker_dies(self, point):
            runner.run(worker_dies(cluster, self.ledger, point))

        @rule(point=st.sampled_from(STOP_POINTS))
        def a_worker_that_stops_dies(self, point):
            runner.run(stopping_worker_dies(cluster, self.ledger, point))

        @rule(point=st.sampled_from(SWEEP_POINTS))
        def a_sweeper_dies(self, point):
            runner.run(sweeper_dies(cluster, self.ledger, point))

        @rule(point=st.sampled_from(SERVER_POINTS))
        def a_server_dies(self, point):
            servers.append(runner.run(server_dies(cluster, self.ledger, servers[-1], point)))

        def teardown(self):
            runner.run(finish(cluster, self.ledger, 150))

    return Crashes


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_r3_two_deaths_in_any_order(clean_environment):
    with asyncio.Runner() as runner, tempfile.TemporaryDirectory() as folder:
        stack = AsyncExitStack()
        cluster = runner.run(stack.enter_async_context(open_cluster(Path(folder))))
        cluster.variables |= {
            "CATEGORIZER_BATCH__UPLOAD_LEASE_S": "2",
            "CATEGORIZER_BATCH__CHUNK_ITEMS": "8",  # so that fewer items are run alone
            "CATEGORIZER_TEST__FAKE_MODEL": "0,5",
        }
        quick = settings(
            max_examples=SEQUENCES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
            phases=(Phase.reuse, Phase.generate),  # to look for a shorter pair takes minutes
        )
        try:
            run_state_machine_as_test(machine_of(runner, cluster), settings=quick)
        finally:
            runner.run(stack.aclose())
