"""Uses of keys are written now and then."""

import asyncio

from image_categorizer_server.access.key_uses import MAX_KEYS, KeyUses

from tests.support.keys import Written
from tests.support.polling import eventually


async def test_many_uses_are_one_write():
    written = Written()
    uses = KeyUses(written.write, interval_s=60)
    for _ in range(100):
        uses.add("a")
        uses.add("b")
    assert written.uses == []
    await uses.write()
    await uses.write()
    assert [sorted(use) for use in written.uses] == [["a", "b"]]


async def test_uses_outlive_a_lost_database_within_a_bound():
    written = Written()
    uses = KeyUses(written.write, interval_s=60)
    written.goes_down()
    for number in range(MAX_KEYS + 10):
        uses.add(f"k{number}")
    await uses.write()
    uses.add("late")
    await uses.write()
    written.comes_back()
    await uses.write()
    (use,) = written.uses
    assert len(use) == MAX_KEYS
    assert "k0" in use


async def test_writing_goes_on_by_itself():
    written = Written()
    uses = KeyUses(written.write, interval_s=0.01)
    async with asyncio.TaskGroup() as group:
        writing = group.create_task(uses.write_forever())
        for count in (1, 2):
            uses.add("a")
            await eventually(lambda count=count: len(written.uses) >= count)
        writing.cancel()
