"""The Model Context Protocol, as an assistant speaks it: its own client, on standard input."""

import json
import os
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters

from tests.support.pictures import jpeg
from tests.support.polling import eventually
from tests.support.up import COMMAND

pytestmark = pytest.mark.timeout(180)
CAT = (Path(__file__).parents[2] / "examples" / "cat.jpg").read_bytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    below = tmp_path / "photos"
    (below / "more").mkdir(parents=True)
    (tmp_path / "secret.jpg").write_bytes(CAT)
    (below / "cat.jpg").write_bytes(CAT)
    (below / "no.jpg").write_bytes(b"no image")
    (below / "more" / "a.jpg").write_bytes(jpeg(64, 48, 901))
    (below / "more" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    return below


async def test_an_assistant_classifies_submits_searches_and_corrects(up, folder):
    words = ["mcp", "--folder", str(folder), "--data", str(up.data)]
    command, *first = COMMAND
    server = StdioServerParameters(command=command, args=[*first, *words], env=dict(os.environ))
    async with Client(server) as client:
        listed = await client.list_tools()
        assert {tool.name for tool in listed.tools} == {
            *("classify_image", "submit_batch", "get_batch", "list_batch_results", "search"),
            "correct",
        }
        assert all(tool.description for tool in listed.tools)

        async def call(name: str, **arguments):
            return await client.call_tool(name, arguments)

        async def answer(name: str, **arguments):
            result = await call(name, **arguments)
            assert not result.is_error, result.content
            return [json.loads(part.text) for part in result.content]

        (found,) = await answer("classify_image", image="cat.jpg", top_k=2, store=True)
        assert len(found["predictions"]) == 2
        assert found["model"] == "efficientnet_lite0 1"
        best = found["predictions"][0]["category"]
        stored = await answer("search", category=best)
        assert found["image_id"] in str(stored)
        await answer("correct", image_id=found["image_id"], category="lynx")

        (batch,) = await answer("submit_batch", images=["cat.jpg", "no.jpg", "more"])
        assert batch["item_count"] == 3  # not the link, which leads out of the folder

        async def ended():
            (state,) = await answer("get_batch", batch_id=batch["batch_id"])
            return state["has_ended"]

        await eventually(ended, 60)
        (state,) = await answer("get_batch", batch_id=batch["batch_id"])
        assert (state["succeeded_count"], state["failed_count"]) == (2, 1)
        results = str(await answer("list_batch_results", batch_id=batch["batch_id"]))
        assert results.count("predictions") == 2
        assert "error" in results

        for image in ("../secret.jpg", str(folder.parent / "secret.jpg"), "more/link.jpg"):
            refused = await call("classify_image", image=image)
            assert refused.is_error
            assert "not below" in str(refused.content)
        for arguments, reason in (
            ({"image": "no.jpg"}, "image"),
            ({"image": "absent.jpg"}, "no such file"),
            ({"image": "cat.jpg", "model": "nobody"}, "nobody"),
        ):
            refused = await call("classify_image", **arguments)
            assert refused.is_error
            assert reason in str(refused.content)
