"""Chunks that are handed to a child process."""

from image_categorizer_server.domain.batch import BatchItem, Chunk
from image_categorizer_server.domain.classification import ClassifyOptions
from image_categorizer_workers.quarantine import dump_chunk, load_chunk


def test_a_chunk_comes_back_as_it_was_dumped():
    chunk = Chunk(
        batch_id="b-1",
        number=3,
        tenant_id="t1",
        lease_token=7,
        options=ClassifyOptions(model="m", version=2, include_categories=("cat", "dog")),
        items=(BatchItem(4, "a.jpg", "t1/images/aa/aa", None, 100),),
        worker_crashes=2,
        is_isolated=True,
        server_crashes={4: 1},
    )
    assert load_chunk(dump_chunk(chunk)) == chunk
