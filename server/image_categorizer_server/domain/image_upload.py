"""Values about uploads of one image in parts."""

from dataclasses import dataclass
from datetime import datetime

from image_categorizer_server.domain.image import NewImage


@dataclass(frozen=True, slots=True)
class NewUpload:
    """An upload that is asked for."""

    size_bytes: int
    sha256: str
    """Of the whole image, 64 hexadecimal digits; empty if it is not known."""
    image: NewImage
    """The words about the image, without its content."""


@dataclass(frozen=True, slots=True)
class UploadPart:
    """Bytes of an upload that are in the storage, or on their way to it."""

    object_key: str
    offset_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ImageUpload:
    """An upload of one image."""

    tenant_id: str
    upload_id: str
    subject_key: str
    """Keyed hash of the subject; empty for none."""
    subject_id: str
    """What names the subject later: see `Subjects.reference_of`."""
    size_bytes: int
    """Of the whole image."""
    sha256: str
    filename: str
    tags: tuple[str, ...]
    keep_metadata: bool
    create_time: datetime
    expire_time: datetime
    received_bytes: int = 0
    object_key: str = ""
    """Where a client may put the whole image; empty if it may not."""
    image_id: str = ""
    """The image that the upload has become; empty if it is not complete."""
