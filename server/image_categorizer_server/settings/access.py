"""Settings of credentials."""

from pydantic import Field

from image_categorizer_server.settings.group import Group


class SecuritySettings(Group):
    """Credentials."""

    key_cache_s: float = Field(
        5.0,
        ge=0,
        le=300,
        description="How long a key is cached, in seconds. A revoked key works that long.",
    )
