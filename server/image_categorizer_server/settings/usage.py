"""Settings of the record of usage."""

from pydantic import Field

from image_categorizer_server.settings.group import Group


class UsageSettings(Group):
    """The record of usage."""

    flush_interval_s: float = Field(
        5.0,
        gt=0,
        le=300,
        description="Interval at which a server writes what it has counted, in seconds. A server "
        "that crashes loses that much.",
    )
    retention_days: int = Field(
        400, ge=1, le=36_500, description="How many days the record is kept."
    )
