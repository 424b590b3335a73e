"""Settings of webhooks."""

from typing import Self

from pydantic import Field, model_validator

from image_categorizer_server.settings.group import Group


class WebhookSettings(Group):
    """Webhooks: messages when a batch ends."""

    timeout_s: float = Field(15.0, gt=0, le=60, description="Timeout of one attempt, in seconds.")
    lease_s: float = Field(
        30.0,
        gt=0,
        le=600,
        description="Time for one attempt, in seconds. If its worker dies, the delivery is due "
        "again after it.",
    )
    retry_factor: float = Field(
        1.0, gt=0, le=10, description="Factor for the pauses between attempts."
    )
    poll_interval_s: float = Field(
        0.5,
        gt=0,
        le=60,
        description="Interval at which each worker looks for deliveries that are due, in seconds.",
    )
    max_in_flight: int = Field(
        256, ge=2, le=10_000, description="Maximum number of attempts under way in one worker."
    )
    max_in_flight_per_target: int = Field(
        1,
        ge=1,
        le=100,
        description="Maximum number of attempts under way to one address. A worker that is killed "
        "repeats at most that many.",
    )
    rotation_s: float = Field(
        86_400.0,
        ge=0,
        le=2_592_000,
        description="How long messages also carry the old signature after a rotation, in seconds.",
    )
    max_webhooks: int = Field(
        50, ge=1, le=1000, description="Maximum number of webhooks of one tenant."
    )
    keep_deliveries_s: float = Field(
        2_592_000.0,
        ge=60,
        le=31_536_000,
        description="How long ended deliveries are kept, in seconds.",
    )
    keep_events_s: float = Field(
        604_800.0,
        ge=60,
        le=31_536_000,
        description="How long the outbox keeps an event that has deliveries, in seconds.",
    )

    @model_validator(mode="after")
    def _lease_outlasts_attempt(self) -> Self:
        if self.lease_s <= self.timeout_s:
            raise ValueError("lease_s must be greater than timeout_s")
        return self
