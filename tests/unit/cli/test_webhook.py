"""Webhooks as the command shows them."""

import json
from datetime import UTC, datetime

from image_categorizer import WebhookAttempt, WebhookDelivery
from image_categorizer_server.cli.webhook import _fields, _row

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def delivery_of(*attempts: WebhookAttempt) -> WebhookDelivery:
    return WebhookDelivery(
        delivery_id="d-1",
        webhook_id="w-1",
        event_type="batch.completed",
        batch_id="",
        url="https://a.example/",
        state="PENDING",
        next_attempt_time=NOW,
        attempt_count=len(attempts),
        attempts=attempts,
        create_time=NOW,
        end_time=None,
    )


def test_a_row_shows_the_last_attempt():
    refused, silent = WebhookAttempt(NOW, 12.4, 500), WebhookAttempt(NOW, 3000.0, 0)
    assert _row(delivery_of(refused))[-2:] == ("1", "500, 12 ms")
    assert _row(delivery_of(silent, refused))[-2:] == ("2", "none, 3000 ms")
    assert _row(delivery_of())[-2:] == ("0", "-")


def test_times_and_attempts_become_json():
    fields = json.loads(json.dumps(_fields(delivery_of(WebhookAttempt(NOW, 12.4, 500)))))
    assert fields["create_time"] == "2026-01-01T00:00:00+00:00"
    assert fields["end_time"] is None
    assert fields["attempts"][0]["status_code"] == 500
