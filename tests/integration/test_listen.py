"""The receiver of `webhooks listen`, without a secret to verify messages with."""

import asyncio
import json

import httpx
import pytest
from image_categorizer_server.cli.webhook import Receiver


@pytest.mark.parametrize("body", [b"[1]", b"7", b"{", b"\xff"])
async def test_a_body_that_is_not_a_message_is_refused(body, capsys):
    with Receiver(0, "") as receiver:
        url = f"http://127.0.0.1:{receiver.server_port}/"
        async with httpx.AsyncClient() as client:
            taking = asyncio.create_task(asyncio.to_thread(receiver.handle_request))
            assert (await client.post(url, content=body)).status_code == 400
            await taking
            taking = asyncio.create_task(asyncio.to_thread(receiver.handle_request))
            answer = await client.post(url, json={"type": "a"}, headers={"webhook-id": "d-1"})
            await taking
    assert answer.status_code == 204
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"webhook_id": "d-1", "verified": False, "type": "a"}
    assert ("refused" in printed.err, "Traceback" in printed.err) == (True, False)
