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
    metrics_interval_s: float = Field(
        300.0,
        gt=0,
        le=86_400,
        description="Interval at which a server that answers /metrics compares predictions with "
        "those of earlier days, in seconds.",
    )
    metrics_tenants: int = Field(
        20,
        ge=0,
        le=1000,
        description="How many tenants' versions have a drift of their own at /metrics: those with "
        "the most images. All tenants together have one in any case.",
    )
    retention_days: int = Field(
        400, ge=31, le=36_500, description="How many days the record is kept."
    )
