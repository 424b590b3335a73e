"""The client without asyncio, and the classes of its resources; any thread may use it."""

from image_categorizer._sync.audit import Audit
from image_categorizer._sync.batches import Batches
from image_categorizer._sync.client import ImageCategorizationClient
from image_categorizer._sync.keys import Keys
from image_categorizer._sync.models import Models
from image_categorizer._sync.tenants import Tenants
from image_categorizer._sync.webhooks import Webhooks

__all__ = [
    "Audit",
    "Batches",
    "ImageCategorizationClient",
    "Keys",
    "Models",
    "Tenants",
    "Webhooks",
]
