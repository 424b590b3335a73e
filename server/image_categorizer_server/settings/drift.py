"""Settings of the record of predictions."""

from pydantic import Field

from image_categorizer_server.settings.group import Group


class DriftSettings(Group):
    """The record of predictions, in which drift shows."""

    warn_above: float = Field(
        0.25,
        ge=0,
        le=100,
        description="The population stability index from which on the server warns in its log that "
        "predictions have drifted, once for each day, tenant and version. 0: never.",
    )
    flush_interval_s: float = Field(
        5.0,
        gt=0,
        le=300,
        description="Interval at which a server writes what it has counted, in seconds. A server "
        "that crashes loses that much.",
    )
    retention_days: int = Field(
        400, ge=31, le=36_500, description="How many days the record is kept."
    )
