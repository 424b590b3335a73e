# Generated from _aio/images.py by tools/sync_twin.py; do not edit.
"""The client's stored images."""

import builtins
import os
from collections.abc import Iterable, Iterator
from typing import Unpack

from image_categorizer import (
    _dataset_wire,
    _embedding_wire,
    _feedback_wire,
    _image_wire,
    _inputs,
)
from image_categorizer._dataset_values import DatasetOptions, DuplicateGroup
from image_categorizer._embedding_values import SimilarImage
from image_categorizer._feedback_values import Feedback
from image_categorizer._image_values import (
    ContentFit,
    ContentFormat,
    ImageFilters,
    StoredImage,
    UploadOptions,
)
from image_categorizer._sync.connection import Connection
from image_categorizer._sync.listing import listing
from image_categorizer._sync.runtime import in_thread
from image_categorizer._sync.uploads import Uploads, sha256_of
from image_categorizer._values import Image
from image_categorizer._wire import PAGE_SIZE
from image_categorizer.v1 import duplicate_pb2, image_pb2

PART_BYTES = 2**20


class Images:
    """The tenant's stored images: `client.images`.

    `classify_image(..., store=True)` stores an image, too, with its result.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def upload(
        self,
        image: "Image | None" = None,
        *,
        image_uri: str = "",
        **options: Unpack[UploadOptions],
    ) -> StoredImage:
        """Stores an image, or returns the one that is stored of the same bytes and subject.

            image = client.images.upload("cat.jpg", tags=["holiday"])
            print(image.image_id)

        Args:
            image: as for `classify_image`.
            image_uri: where the server fetches the image, instead of `image`.
            options: see `UploadOptions`.

        Raises:
            OSError: the file cannot be read.
            TypeError: `image` is of no known kind, or not one of it and `image_uri` is given.
            UndecodableImage: the bytes are not an image, or a damaged one.
            FailedPrecondition: the server keeps nothing about subjects.
            CategorizerError: see `image_categorizer.errors`.
        """
        if (image is None) == (not image_uri):
            raise TypeError("upload takes either an image or an image_uri")
        path: str = ""
        source: bytes | str = image_uri
        if image is not None:
            named = _inputs.in_memory(image)
            if named is None:
                named = in_thread(_inputs.read, image)
            path, source = named
        given = {**options, "filename": options.get("filename") or _inputs.file_name(path)}
        request = _image_wire.upload_request(source, given)
        return _image_wire.stored_image(
            self._connection.call(self._connection.stubs.images.UploadImage, request)
        )

    def upload_file(
        self,
        path: str | os.PathLike[str],
        *,
        filename: str = "",
        tags: Iterable[str] = (),
        subject_id: str = "",
        part_bytes: int = PART_BYTES,
        patience_s: float = 300.0,
    ) -> StoredImage:
        """Stores the image in a file, in parts; for slow or unreliable networks.

        It resumes by itself while the server is away. Called again for the same file and subject,
        in this program or another one, it goes on where the last call has stopped.

        Args:
            path: of the file.
            filename: default: the name of the file, without folders.
            tags: words of your own, at most 64.
            subject_id: whose image it is.
            part_bytes: the size of a part: what is sent again after an interruption. An image may
                have 200 parts.
            patience_s: for how long it tries again while no part arrives, in seconds.

        Raises:
            OSError: the file cannot be read.
            UndecodableImage: the bytes are not an image, or a damaged one.
            Unavailable: the server was away for longer than `patience_s`.
            CategorizerError: see `image_categorizer.errors`.
        """
        name, content = in_thread(_inputs.read, path)
        uploads = Uploads(self._connection)
        upload = uploads.create(
            len(content),
            sha256=in_thread(sha256_of, content),
            filename=filename or _inputs.file_name(name),
            tags=tags,
            subject_id=subject_id,
        )
        return self.get(uploads.send(upload, content, part_bytes, patience_s))

    def get(self, image_id: str) -> StoredImage:
        """Returns one image, without its content.

        Raises:
            ImageNotFound: there is no such image.
        """
        request = image_pb2.GetImageRequest(image_id=image_id)
        return _image_wire.stored_image(
            self._connection.call(self._connection.stubs.images.GetImage, request)
        )

    def content(
        self,
        image_id: str,
        *,
        width: int = 0,
        height: int = 0,
        fit: ContentFit = "scale_down",
        image_format: ContentFormat = "jpeg",
        quality: int = 0,
    ) -> bytes:
        """Returns the content of an image: upright, without metadata, encoded anew.

            thumbnail = client.images.content(image.image_id, width=256, image_format="webp")

        Args:
            image_id: the image.
            width: in pixels; default: as the height demands, or as wide as it is.
            height: in pixels; default: as the width demands, or as high as it is.
            fit: `scale_down` never enlarges, `contain` does; `cover` fills both sides and cuts off
                the rest.
            image_format: avif only where the server writes it.
            quality: 1 to 100; default: 85.

        Raises:
            ImageNotFound: there is no such image.
            InvalidRequest: a value is not valid, or the content would be too large.
            CategorizerError: see `image_categorizer.errors`.
        """
        request = image_pb2.GetImageContentRequest(
            image_id=image_id,
            width=width,
            height=height,
            fit=fit,
            format=image_format,
            quality=quality,
        )
        stub = self._connection.stubs.images.GetImageContent
        return bytes((self._connection.call(stub, request)).data)

    @listing
    def list(self, **filters: Unpack[ImageFilters]) -> Iterator[StoredImage]:
        """Yields the images that pass all filters, newest first.

            for image in client.images.list(category="dog", min_confidence=0.8):
                print(image.filename, image.result.category)

        Args:
            filters: see `ImageFilters`.

        Raises:
            TypeError: a filter is unknown, or a time has no time zone.
            CategorizerError: see `image_categorizer.errors`.
        """
        request = _image_wire.list_request(filters)
        for page in self._connection.pages(self._connection.stubs.images.ListImages, request):
            for wire in page.images:
                yield _image_wire.stored_image(wire)

    def update(
        self, image_id: str, *, filename: str | None = None, tags: Iterable[str] | None = None
    ) -> StoredImage:
        """Changes the file name and the tags of an image; what is None does not change.

        Args:
            image_id: the image.
            filename: the new name; empty for none.
            tags: the new tags, all of them; an empty list for none.

        Raises:
            ImageNotFound: there is no such image.
        """
        request = _image_wire.update_request(image_id, filename, tags)
        return _image_wire.stored_image(
            self._connection.call(self._connection.stubs.images.UpdateImage, request)
        )

    def correct(
        self,
        image_id: str,
        category: str,
        *,
        result_id: str = "",
        look_alike_bits: int | None = None,
    ) -> Feedback:
        """Says what a stored image shows: the next answers for similar images become that.

            answer = client.classify_image("cat.jpg", store=True)
            client.images.correct(answer.image_id, "lynx")

        `client.feedback.undo` takes it back.

        Args:
            image_id: the image.
            category: of the model that classified it, or a broader one.
            result_id: the result that is wrong; default: the newest of the image.
            look_alike_bits: says the same about images that look like it; see `feedback.confirm`.

        Raises:
            ImageNotFound: there is no such image.
            ResultNotFound: it has no such result: it was not classified with `store=True`.
            CategoryNotFound: the model lacks the category.
            CategorizerError: see `image_categorizer.errors`.
        """
        request = _feedback_wire.wrong_request(image_id, category, result_id, look_alike_bits)
        stub = self._connection.stubs.feedback.SubmitFeedback
        return _feedback_wire.feedback(self._connection.call(stub, request))

    def similar(
        self, image_id: str, *, limit: int = 10, model: str = "", version: int | str = ""
    ) -> builtins.list[SimilarImage]:
        """Returns the stored images most similar to a stored one, the most similar first.

        Compared are images that were classified by the model with `store=True`.

        Args:
            image_id: the image, which is not among them.
            limit: at most 100.
            model: whose embeddings are compared; default: the server's.
            version: a number or an alias.

        Raises:
            ImageNotFound: there is no such image.
            EmbeddingMissing: it was not classified by the model with `store=True`.
            CategorizerError: see `image_categorizer.errors`.
        """
        request = _embedding_wire.similar_request(image_id, limit, model, version)
        stub = self._connection.stubs.embeddings.FindSimilarImages
        return _embedding_wire.similar_images(self._connection.call(stub, request))

    def like(
        self,
        image: "Image | None" = None,
        *,
        image_uri: str = "",
        limit: int = 10,
        model: str = "",
        version: int | str = "",
    ) -> builtins.list[SimilarImage]:
        """Returns the stored images most similar to one that is sent, and not stored.

        Args:
            image: as for `classify_image`.
            image_uri: where the server fetches the image, instead of `image`.
            limit: at most 100.
            model: whose embeddings are compared; default: the server's.
            version: a number or an alias.

        Raises:
            OSError: the file cannot be read.
            TypeError: `image` is of no known kind, or not one of it and `image_uri` is given.
            CategorizerError: see `image_categorizer.errors`.
        """
        if (image is None) == (not image_uri):
            raise TypeError("like takes either an image or an image_uri")
        source: bytes | str = image_uri
        if image is not None:
            named = _inputs.in_memory(image)
            if named is None:
                named = in_thread(_inputs.read, image)
            source = named[1]
        request = _embedding_wire.like_request(source, limit, model, version)
        stub = self._connection.stubs.embeddings.FindImagesLike
        return _embedding_wire.similar_images(self._connection.call(stub, request))

    @listing
    def duplicates(self, *, max_distance_bits: int = 4) -> Iterator[DuplicateGroup]:
        """Yields groups of images that look alike, the largest first.

            for group in client.images.duplicates():
                print(group.image_ids)

        Args:
            max_distance_bits: by how many of the 64 bits of their perceptual hashes two images may
                differ, 0 to 10.

        Raises:
            FailedPrecondition: there are too many images, or too similar ones.
            CategorizerError: see `image_categorizer.errors`.
        """
        request = duplicate_pb2.ListDuplicateGroupsRequest(
            page_size=PAGE_SIZE, max_distance_bits=max_distance_bits
        )
        stub = self._connection.stubs.images.ListDuplicateGroups
        for page in self._connection.pages(stub, request):
            for wire in page.groups:
                yield _dataset_wire.duplicate_group(wire)

    def export(self, **options: Unpack[DatasetOptions]) -> Iterator[bytes]:
        """Yields images with their categories as pieces of a tar file: a labelled set.

            with open("dataset.tar", "wb") as file:
                for piece in client.images.export(test_percent=20):
                    file.write(piece)

        Args:
            options: see `DatasetOptions`.

        Raises:
            TypeError: an option is unknown, or a time has no time zone.
            CategorizerError: see `image_categorizer.errors`.
        """
        request = _dataset_wire.export_request(options)
        stub = self._connection.stubs.images.ExportDataset
        for body in self._connection.messages(stub, request):
            yield body.data

    def delete(self, image_id: str) -> None:
        """Deletes an image with all that is known about it.

        Raises:
            ImageNotFound: there is no such image.
        """
        request = image_pb2.DeleteImageRequest(image_id=image_id)
        self._connection.call(self._connection.stubs.images.DeleteImage, request)
