"""Reads the images of a batch: from our store, or from where their URIs say."""

from image_categorizer_server.domain.batch import BatchItem
from image_categorizer_server.egress.fetcher import Fetcher
from image_categorizer_server.stores.object_store import Storage


class StoredOrFetched:
    """Where the bytes of an item come from."""

    def __init__(self, storage: Storage, fetcher: Fetcher, max_bytes: int) -> None:
        """Configures the reader.

        Args:
            storage: holds what was uploaded.
            fetcher: gets the rest.
            max_bytes: the most that an image from elsewhere may have.
        """
        self._storage = storage
        self._fetcher = fetcher
        self._max_bytes = max_bytes

    async def read(self, item: BatchItem) -> bytes:
        """Returns the encoded image.

        Raises:
            ImageUnreachable, ImageTooLarge: the image cannot be fetched.
            DependencyDown: the store does not answer.
        """
        if item.object_key is not None:
            return await self._storage.get(item.object_key)
        assert item.image_uri is not None
        return await self._fetcher.fetch(item.image_uri, self._max_bytes)
