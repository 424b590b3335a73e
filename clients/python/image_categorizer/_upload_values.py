"""What the client says about uploads of one image in parts."""

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Upload:
    """The upload of one image."""

    upload_id: str
    size_bytes: int
    """Of the whole image."""
    offset: int
    """How many bytes are there: where the next part begins."""
    sha256: str
    """Of the whole image, as it was announced; empty if it was not."""
    image_id: str
    """The stored image that it has become; empty as long as it is not complete."""
    create_time: datetime
    expire_time: datetime
    """When it is forgotten; the stored image stays."""
    put_url: str = field(default="", compare=False)
    """Where a client without credentials sends the whole image by PUT, instead of parts; set by
    `create`, where the installation has a bucket."""
    put_headers: dict[str, str] = field(default_factory=dict, compare=False)
    """The headers that this PUT must have."""
