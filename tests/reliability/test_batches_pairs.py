"""Processes die at two named points after another, in any order: the second half of R3."""

import asyncio
import os
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
from tests.support.house import House, open_house
from tests.support.ledger import Ledger

SEQUENCES = int(os.environ.get("RELIABILITY_SEQUENCES", "40"))  # some ten seconds each
STEPS = 2


class Lives(RuleBasedStateMachine):
    """Each rule is a death; in the end a worker lives, and all invariants hold."""

    house: House
    runner: asyncio.Runner
    server = None

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.runner.run(self.house.empty())
        if Lives.server is None:
            Lives.server = self.runner.run(self.house.start_server())

    @rule(point=st.sampled_from([p for p in WORKER_POINTS if p != "chunk.extended"]))
    def a_worker_dies(self, point):
        self.runner.run(worker_dies(self.house, self.ledger, point))

    @rule(point=st.sampled_from(STOP_POINTS))
    def a_worker_that_stops_dies(self, point):
        self.runner.run(stopping_worker_dies(self.house, self.ledger, point))

    @rule(point=st.sampled_from(SWEEP_POINTS))
    def a_sweeper_dies(self, point):
        self.runner.run(sweeper_dies(self.house, self.ledger, point))

    @rule(point=st.sampled_from(SERVER_POINTS))
    def a_server_dies(self, point):
        Lives.server = self.runner.run(server_dies(self.house, self.ledger, Lives.server, point))

    def teardown(self):
        self.runner.run(finish(self.house, self.ledger, 150))


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_r3_two_deaths_in_any_order(clean_environment):
    with asyncio.Runner() as runner, tempfile.TemporaryDirectory() as folder:
        stack = AsyncExitStack()
        house = runner.run(stack.enter_async_context(open_house(Path(folder))))
        house.variables |= {
            "CATEGORIZER_BATCH__UPLOAD_LEASE_S": "2",
            "CATEGORIZER_BATCH__CHUNK_ITEMS": "8",  # so that fewer items are run alone
            "CATEGORIZER_TEST__FAKE_MODEL": "0,5",
        }
        Lives.house, Lives.runner, Lives.server = house, runner, None
        quick = settings(
            max_examples=SEQUENCES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
            phases=(Phase.reuse, Phase.generate),  # to look for a shorter pair takes minutes
        )
        try:
            run_state_machine_as_test(Lives, settings=quick)
        finally:
            runner.run(stack.aclose())
