"""Two processes die one after the other, at any two failpoints: the second half of R3."""

import asyncio
import os
import subprocess
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
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

SEQUENCES = int(os.environ.get("RELIABILITY_SEQUENCES", "40"))  # about ten seconds each
STEPS = 2


@dataclass
class Session:
    """A cluster that all sequences share, and its server."""

    cluster: Cluster
    runner: asyncio.Runner
    server: subprocess.Popen[bytes] | None = None

    def begin(self) -> Ledger:
        self.runner.run(self.cluster.empty())
        if self.server is None:
            self.server = self.runner.run(self.cluster.start_server())
        return Ledger()

    def crash_server(self, ledger: Ledger, point: str) -> None:
        self.server = self.runner.run(server_dies(self.cluster, ledger, self.server, point))


class Crashes(RuleBasedStateMachine):
    """Each rule is a crash. At the end a worker finishes all, and the invariants hold."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.cluster, self.runner = session.cluster, session.runner
        self.ledger = session.begin()

    @rule(point=st.sampled_from([p for p in WORKER_POINTS if p != "chunk.extended"]))
    def a_worker_dies(self, point):
        self.runner.run(worker_dies(self.cluster, self.ledger, point))

    @rule(point=st.sampled_from(STOP_POINTS))
    def a_worker_that_stops_dies(self, point):
        self.runner.run(stopping_worker_dies(self.cluster, self.ledger, point))

    @rule(point=st.sampled_from(SWEEP_POINTS))
    def a_sweeper_dies(self, point):
        self.runner.run(sweeper_dies(self.cluster, self.ledger, point))

    @rule(point=st.sampled_from(SERVER_POINTS))
    def a_server_dies(self, point):
        self.session.crash_server(self.ledger, point)

    def teardown(self):
        self.runner.run(finish(self.cluster, self.ledger, 150))


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_r3_two_crashes_in_any_order(clean_environment):
    with asyncio.Runner() as runner, tempfile.TemporaryDirectory() as folder:
        stack = AsyncExitStack()
        cluster = runner.run(stack.enter_async_context(open_cluster(Path(folder))))
        cluster.variables |= {
            "CATEGORIZER_BATCH__UPLOAD_LEASE_S": "2",
            "CATEGORIZER_BATCH__CHUNK_ITEMS": "8",  # fewer items are isolated
            "CATEGORIZER_TEST__FAKE_MODEL": "0,5",
        }
        session = Session(cluster, runner)
        quick = settings(
            max_examples=SEQUENCES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
            phases=(Phase.reuse, Phase.generate),  # shrinking takes minutes
        )
        try:
            run_state_machine_as_test(lambda: Crashes(session), settings=quick)
        finally:
            runner.run(stack.aclose())
