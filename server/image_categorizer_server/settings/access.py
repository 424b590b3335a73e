"""Settings of credentials."""

from pydantic import Field

from image_categorizer_server.settings.group import Group


class SecuritySettings(Group):
    """Credentials."""

    key_cache_s: float = Field(
        5.0,
        ge=0,
        le=300,
        description="How long a key, and the state of its tenant, are cached, in seconds. Servers "
        "are notified of changes; if a notification is lost, what was valid works that long.",
    )
    key_rotation_s: float = Field(
        86_400.0,
        ge=0,
        le=2_592_000,
        description="How long the old secret of a key is accepted after a rotation that does not "
        "say, in seconds.",
    )
    key_use_interval_s: float = Field(
        15.0,
        gt=0,
        le=60,
        description="How often each server writes when keys were last used, in seconds; for each "
        "key at most once a minute.",
    )
    max_keys: int = Field(
        1000, ge=1, le=100_000, description="Maximum number of active API keys of one tenant."
    )
    max_unknown_keys_per_minute: int = Field(
        60,
        ge=1,
        le=1_000_000,
        description="How many unknown API keys each server looks up for one address in a minute. "
        "Known keys are not affected.",
    )
