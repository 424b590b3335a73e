"""The group of settings about webhooks."""

from typing import Self

from pydantic import Field, model_validator

from image_categorizer_server.settings.group import Group


class WebhookSettings(Group):
    """Telling others when a batch ends."""

    timeout_s: float = Field(15.0, gt=0, le=60, description="Most time for one attempt.")
    lease_s: float = Field(
        30.0,
        gt=0,
        le=600,
        description="After how long a delivery that a dead worker had under way is tried again.",
    )
    retry_factor: float = Field(
        1.0, gt=0, le=10, description="What the pauses between attempts are multiplied by."
    )
    poll_interval_s: float = Field(
        0.5, gt=0, le=60, description="How often each worker looks for deliveries that are due."
    )
    max_in_flight: int = Field(
        256, ge=2, le=10_000, description="Most attempts under way in one worker."
    )
    max_in_flight_per_target: int = Field(
        1,
        ge=1,
        le=100,
        description="Most attempts under way to one address: so many copies a killed worker costs.",
    )
    rotation_s: float = Field(
        86_400.0,
        ge=0,
        le=2_592_000,
        description="How long messages carry the old signature after a secret was rotated.",
    )
    max_webhooks: int = Field(50, ge=1, le=1000, description="Most webhooks of one tenant.")
    keep_deliveries_s: float = Field(
        2_592_000.0,
        ge=60,
        le=31_536_000,
        description="How long deliveries that have ended are kept.",
    )
    keep_events_s: float = Field(
        604_800.0,
        ge=60,
        le=31_536_000,
        description="How long the outbox remembers that a batch ended, once its deliveries exist.",
    )

    @model_validator(mode="after")
    def _lease_outlasts_attempt(self) -> Self:
        if self.lease_s <= self.timeout_s:
            raise ValueError("lease_s must be greater than timeout_s")
        return self
