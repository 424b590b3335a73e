"""Reads the images of a batch: uploaded ones from the storage, others from their URIs."""

from image_categorizer_server.domain.batch import BatchItem
from image_categorizer_server.egress.fetcher import Fetcher
from image_categorizer_server.stores.object_store import Storage


class BatchImages:
    """Reads the images of any batch."""

    def __init__(self, storage: Storage, fetcher: Fetcher, max_bytes: int) -> None:
        """Configures the reader.

        Args:
            storage: holds the uploaded images.
            fetcher: fetches images by URI.
            max_bytes: largest image to fetch.
        """
        self._storage = storage
        self._fetcher = fetcher
        self._max_bytes = max_bytes

    async def read(self, item: BatchItem) -> bytes:
        """Returns the encoded image.

        Raises:
            NotFound: the uploaded image is no longer stored.
            ImageUnreachable, ImageTooLarge: the image cannot be fetched.
            DependencyDown: the storage does not answer.
        """
        if item.object_key is not None:
            return await self._storage.get(item.object_key)
        assert item.image_uri is not None
        return await self._fetcher.fetch(item.image_uri, self._max_bytes)
