"""Settings of credentials."""

from pydantic import Field

from image_categorizer_server.settings.group import Group


class SecuritySettings(Group):
    """Credentials."""

    key_cache_s: float = Field(
        5.0,
        ge=0,
        le=300,
        description="How long a key, and the state of its tenant, are cached, in seconds. A "
        "revoked key, or a key of a suspended tenant, works that long.",
    )
