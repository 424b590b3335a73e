"""The client for asyncio, and the classes of its resources.

The client may be made before an event loop runs.  Event loops may use it one after the other.
"""

from image_categorizer._aio.audit import AsyncAudit
from image_categorizer._aio.batches import AsyncBatches
from image_categorizer._aio.client import AsyncImageCategorizationClient
from image_categorizer._aio.keys import AsyncKeys
from image_categorizer._aio.models import AsyncModels
from image_categorizer._aio.tenants import AsyncTenants
from image_categorizer._aio.webhooks import AsyncWebhooks

__all__ = [
    "AsyncAudit",
    "AsyncBatches",
    "AsyncImageCategorizationClient",
    "AsyncKeys",
    "AsyncModels",
    "AsyncTenants",
    "AsyncWebhooks",
]
