"""One batch after the other, as workers carry it: what the batch engine costs."""

import itertools
from collections.abc import Sequence

from image_categorizer import AsyncImageCategorizationClient

from image_categorizer_server.errors import OperatorError

# As long as a round of the other ways, and much longer than the last chunk that one worker ends.
IMAGES_PER_S = 250


async def batch_speed(
    client: AsyncImageCategorizationClient, model: str, contents: Sequence[bytes], seconds: float
) -> dict[str, float]:
    """Returns images/s of one batch that takes about `seconds`, from its first lease to its end.

    Its upload is not in it.  Answers never come from the result cache.

    Raises:
        OperatorError: an image failed.
    """
    count = round(seconds * IMAGES_PER_S)
    pictures = itertools.islice(itertools.cycle(contents), count)
    sources = [(f"{number}.jpg", content) for number, content in enumerate(pictures)]
    batch = await client.batches.submit(sources, model=model, no_cache=True)
    async for now in client.batches.watch(batch.batch_id):
        batch = now
    if batch.succeeded_count != count or not batch.start_time or not batch.end_time:
        raise OperatorError(f"The batch to measure failed: {batch}.")
    return {"images_per_s": count / (batch.end_time - batch.start_time).total_seconds()}
