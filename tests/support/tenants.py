"""Callers of other tenants than the cluster's own."""

from dataclasses import replace

from image_categorizer_server.access.api_key import new_key, sha256_of
from image_categorizer_server.db import key as keys
from image_categorizer_server.db.database import open_database
from image_categorizer_server.domain.access import ApiKey, Role
from image_categorizer_server.services import key as admin
from image_categorizer_server.settings.database import DatabaseSettings

from tests.support.cluster import Cluster


async def key_of(cluster: Cluster, tenant: str) -> str:
    """Makes a key of another tenant."""
    async with open_database(cluster.postgres.url, DatabaseSettings()):
        made = (await admin.create_key("mould", Role.CLASSIFIER)).key
        secret = new_key()
        fields = {name: getattr(made, name) for name in made.__slots__}
        key_id = sha256_of(secret)[:32]
        other = ApiKey(**fields | {"key_id": key_id, "tenant_id": tenant})
        await keys.insert_key(other, sha256_of(secret))
    return secret


async def as_tenant(cluster: Cluster, tenant: str) -> Cluster:
    """Returns the cluster as another tenant sees it."""
    return replace(cluster, api_key=await key_of(cluster, tenant))
