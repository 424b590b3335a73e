"""Webhooks through Envoy: when a batch ends, a receiver gets a message and verifies it."""

import base64
import json

import httpx
from image_categorizer import verify_webhook
from standardwebhooks import Webhook as Verifier

from tests.support.pictures import jpeg
from tests.support.polling import wait_until
from tests.support.up import await_answer

PATH = "/v1/webhooks"


def messages_of(receiver, batch_id, count):
    """Returns the messages of one batch, once there are so many.

    A batch of an earlier test may end meanwhile, and send one too.
    """

    def found():
        return [
            m for m in receiver.messages if json.loads(m[1])["data"].get("batch_id") == batch_id
        ]

    wait_until(lambda: len(found()) >= count, 30)
    return found()


def answers(http, receiver):
    """Yields (path in the OpenAPI document, method, response) of each webhook operation."""
    one, deliveries = f"{PATH}/{{webhook_id}}", f"{PATH}/{{webhook_id}}/deliveries"
    made = http.post(PATH, json={"url": receiver.url})
    yield PATH, "post", made
    own = f"{PATH}/{made.json()['webhook_id']}"
    yield PATH, "get", http.get(PATH)
    yield one, "get", http.get(own)
    yield one, "patch", http.patch(own, json={"enabled": True})
    yield f"{one}:rotateSecret", "post", http.post(f"{own}:rotateSecret", json={})
    image = base64.b64encode(jpeg()).decode()
    batch = http.post("/v1/batch", json={"items": [{"image": image}]}).json()
    ask = f"{own}/deliveries?batch_id={batch['batch_id']}&state=DELIVERED"
    await_answer(http, ask, lambda answer: answer.json()["deliveries"])
    found = http.get(ask)
    yield deliveries, "get", found
    delivery = f"{own}/deliveries/{found.json()['deliveries'][0]['delivery_id']}"
    again = http.post(f"{delivery}:redeliver", json={})
    yield f"{deliveries}/{{delivery_id}}:redeliver", "post", again
    messages_of(receiver, batch["batch_id"], 2)
    yield one, "delete", http.delete(own)


def test_a_receiver_verifies_the_message_of_a_batch(http, receiver):
    found = {(path, verb): answer for path, verb, answer in answers(http, receiver)}
    assert {answer.status_code for answer in found.values()} == {200}
    first = found[PATH, "post"].json()["secret"]
    second = found[f"{PATH}/{{webhook_id}}:rotateSecret", "post"].json()["secret"]
    assert first != second
    assert "whsec_" not in found[PATH, "get"].text
    (delivery,) = found[f"{PATH}/{{webhook_id}}/deliveries", "get"].json()["deliveries"]
    (headers, body), (again, same_body) = messages_of(receiver, delivery["batch_id"], 2)
    for secret in (first, second):
        content = verify_webhook(secret, headers, body)
        assert Verifier(secret).verify(body, headers) == content
    assert content["type"] == "batch.completed"
    assert content["data"]["succeeded_count"] == content["data"]["item_count"] == 1
    assert (again["webhook-id"], same_body) == (headers["webhook-id"], body)
    for answer in found.values():
        if "webhook_id" in answer.json():
            assert http.get(f"{PATH}/{answer.json()['webhook_id']}").status_code == 404


def test_the_webhook_url_of_a_batch_gets_its_message(http, receiver):
    secret = http.post(f"{PATH}/default:rotateSecret", json={}).json()["secret"]
    body = {"items": [{"image": base64.b64encode(jpeg()).decode()}], "webhook_url": receiver.url}
    batch = http.post("/v1/batch", json=body).json()
    ((headers, sent),) = receiver.wait_for(1)
    assert verify_webhook(secret, headers, sent)["data"]["batch_id"] == batch["batch_id"]


def test_invalid_requests_are_refused(up, http, viewer_key):
    viewer = httpx.get(up.url + PATH, headers={"authorization": f"Bearer {viewer_key}"})
    assert (viewer.status_code, viewer.json()["details"][0]["reason"]) == (403, "ROLE_INSUFFICIENT")
    for url in ("", "https://10.0.0.1/", "http://169.254.169.254/latest", "https://u:p@127.0.0.1/"):
        answer = http.post(PATH, json={"url": url})
        assert (answer.status_code, answer.json()["details"][0]["reason"]) == (400, "FIELD_INVALID")
        if url:
            refused = http.post(
                "/v1/batch", json={"items": [{"image_uri": "https://a.b/c"}], "webhook_url": url}
            )
            assert refused.status_code == 400, refused.text
    for path in ("none", "default/deliveries/none:redeliver"):
        call = http.post if ":" in path else http.get
        answer = call(f"{PATH}/{path}", **({"json": {}} if ":" in path else {}))
        assert answer.status_code == 404
    assert http.get(f"{PATH}/default").json()["state"] == "ENABLED"
    assert http.delete(f"{PATH}/default").status_code == 400
    assert http.get(f"{PATH}/default/deliveries?page_size=-1").status_code == 400
    assert http.get(f"{PATH}/default/deliveries?page_token=x").status_code == 400
    assert http.get(f"{PATH}/default%00x").status_code in (400, 404)
