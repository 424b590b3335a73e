"""Settings of tenants."""

from pydantic import Field

from image_categorizer_server.settings.group import Group


class TenantSettings(Group):
    """Tenants."""

    removal_delay_s: float = Field(
        120.0,
        ge=1,
        le=86_400,
        description="How long the name of a deleted tenant stays taken at least, in seconds: calls "
        "that began before end meanwhile. Its data is removed at once.",
    )
