"""What a batch says about itself."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from image_categorizer_server.domain.batch import Batch, BatchConfig, BatchState

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
BATCH = Batch(
    batch_id="b-x_y-z",
    tenant_id="t1",
    state=BatchState.RUNNING,
    state_message="",
    item_count=10,
    succeeded_count=3,
    failed_count=1,
    create_time=NOW,
    start_time=NOW,
    end_time=None,
    config=BatchConfig(),
)


def test_a_batch_knows_what_is_left():
    assert (BATCH.pending_count, BATCH.remaining_s) == (6, None)
    assert replace(BATCH, items_per_s=2.0).remaining_s == 3.0


@pytest.mark.parametrize("state", BatchState)
def test_ended_states_are_three(state):
    assert state.has_ended == (state.value in ("COMPLETED", "CANCELLED", "FAILED"))
