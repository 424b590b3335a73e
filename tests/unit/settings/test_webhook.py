"""Settings of webhooks."""

import pytest
from image_categorizer_server.settings.webhook import WebhookSettings


def test_a_lease_outlasts_an_attempt():
    with pytest.raises(ValueError, match="lease_s"):
        WebhookSettings(timeout_s=15, lease_s=15)
