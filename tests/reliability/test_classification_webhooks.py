"""Webhooks for single classifications survive a crash of the server."""

import signal

from image_categorizer import AsyncImageCategorizationClient, verify_webhook
from image_categorizer_server.domain.access import Role
from image_categorizer_server.services import key as admin

from tests.support.database import open_for_all_tenants
from tests.support.ledger import pictures
from tests.support.receiver import receiving


async def test_a_webhook_is_sent_although_the_server_dies_right_after_its_answer(cluster):
    """No worker runs when the server is killed, so the message comes from the database."""
    async with receiving() as receiver:
        cluster.variables |= {
            "CATEGORIZER_FETCH__ALLOW_HTTP": "true",
            "CATEGORIZER_FETCH__ALLOWED_PORTS": f"[{receiver.port}]",
            "CATEGORIZER_FETCH__ALLOWED_NETWORKS": '["127.0.0.0/8"]',
        }
        server = await cluster.start_server()
        async with open_for_all_tenants(cluster.postgres.url):
            key = (await admin.create_key("operator", Role.OPERATOR)).secret
        async with AsyncImageCategorizationClient(key, cluster.address) as client:
            secret = (await client.webhooks.rotate_secret("default")).secret
            (picture,) = pictures(1)
            answer = await client.classify_image(picture.content, webhook_url=receiver.url)
        await cluster.end(server, signal.SIGKILL)
        assert not receiver.messages
        cluster.start_worker()
        (message,) = await receiver.wait_for(1)
        content = verify_webhook(secret, message.headers, message.body)
    assert content["data"]["request_id"] == answer.request_id
    assert content["data"]["predictions"][0]["category"] == picture.category
    assert await cluster.value("SELECT count(*) FROM outbox") == 0
