"""Settings of retention: how long what is stored is kept."""

from pydantic import Field

from image_categorizer_server.settings.group import Group

MAX_DAYS = 36_500


class RetentionSettings(Group):
    """How long what is stored is kept; a tenant may have other values (`UpdateRetention`).

    Deliveries have CATEGORIZER_WEBHOOK__KEEP_DELIVERIES_S, and the audit has
    CATEGORIZER_AUDIT__KEEP_DAYS.
    """

    images_days: int = Field(
        0,
        ge=0,
        le=MAX_DAYS,
        description="How many days stored images are kept, with all that is known about them. 0: "
        "for ever.",
    )
    results_days: int = Field(
        0,
        ge=0,
        le=MAX_DAYS,
        description="How many days results of stored images are kept. 0: as long as the image.",
    )
    batches_days: int = Field(
        0,
        ge=0,
        le=MAX_DAYS,
        description="How many days batches are kept after their end, with their items, results and "
        "images. 0: for ever.",
    )
    sweep_interval_s: float = Field(
        60.0,
        gt=0,
        le=86_400,
        description="Interval at which each worker looks for what is too old, in seconds.",
    )
