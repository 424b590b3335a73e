"""Settings of the audit."""

from typing import Self

from pydantic import Field, model_validator

from image_categorizer_server.settings.group import Group

MIN_KEEP_DAYS = 30


class AuditSettings(Group):
    """The audit: who did what, and what was refused."""

    signing_key: str = Field(
        "",
        repr=False,
        description="Private Ed25519 key, as PEM, that signs statements about the audit, and "
        "receipts of results. "
        "`image-categorizer audit new-key` makes one.",
    )
    signing_key_file: str = Field(
        "", description="File with that key, if it is not given itself. `up` makes its own."
    )
    replaced_keys_file: str = Field(
        "",
        description="File with the public keys, as PEM, that the key has replaced: receipts that "
        "they signed stay valid.",
    )
    sign_interval_s: float = Field(
        300.0,
        gt=0,
        le=86_400,
        description="Interval of the statements about each chain that has grown, in seconds.",
    )
    keep_days: int = Field(
        400,
        ge=0,
        le=36_500,
        description="How many days events are kept: 0 for ever, otherwise 30 at least. Without a "
        "key, they are kept for ever.",
    )
    keep_statements_days: int = Field(
        0,
        ge=0,
        le=36_500,
        description="How many days statements are kept in the object store: 0 for ever, otherwise "
        "30 at least. The last one of a chain is always kept.",
    )
    max_refusals_per_minute: int = Field(
        20,
        ge=1,
        le=10_000,
        description="How many refused calls of one kind and tenant each process records one by one "
        "in a minute. The others are counted, and recorded as one event.",
    )
    refusal_interval_s: float = Field(
        5.0,
        gt=0,
        le=60,
        description="Interval at which refused calls are written, in seconds. A process that is "
        "killed loses those of the last interval, and of the count of the last minute.",
    )

    @model_validator(mode="after")
    def _keep_a_while(self) -> Self:
        for name in ("keep_days", "keep_statements_days"):
            if 0 < getattr(self, name) < MIN_KEEP_DAYS:
                raise ValueError(f"{name} must be 0 or at least {MIN_KEEP_DAYS}")
        return self
