"""Settings of the gRPC server, and limits on requests."""

from pydantic import Field

from image_categorizer_server.settings.group import Group


class ServerSettings(Group):
    """The gRPC server."""

    bind: str = Field(
        "127.0.0.1:50051", description="Address to listen on: host:port or unix:/path."
    )
    reflection: bool = Field(
        False, description="Whether clients may list the services (grpc.reflection)."
    )
    default_deadline_s: float = Field(
        10.0, gt=0, le=3600, description="Time for a request that states no deadline."
    )
    max_deadline_s: float = Field(60.0, gt=0, le=3600, description="Most time for any request.")
    max_stream_in_flight: int = Field(
        64, ge=1, le=10_000, description="Most unanswered images of one ClassifyStream call."
    )
    max_stream_in_flight_bytes: int = Field(
        64 * 2**20,
        ge=1,
        description="Most bytes that the unanswered images of one call may have, but for the last.",
    )
    upload_idle_s: float = Field(
        60.0, gt=0, le=3600, description="Time that an upload may bring nothing until it is ended."
    )
    processes: int = Field(
        1,
        ge=1,
        le=256,
        description="Server processes on this machine, each with its own copy of the models.",
    )
    drain_s: float = Field(
        20.0,
        ge=0,
        le=600,
        description="Time that requests in flight get to finish when the server stops.",
    )
    drain_notice_s: float = Field(
        0.0,
        ge=0,
        le=60,
        description="Time between saying not ready and refusing: twice a balancer's interval.",
    )


class LimitSettings(Group):
    """What an image and a request may measure; all inclusive."""

    max_image_pixels: int = Field(
        50_000_000, ge=1, le=2**31 - 1, description="Most pixels of one image, width times height."
    )
    max_side_px: int = Field(16_384, ge=1, le=65_535, description="Longest side of an image.")
    max_aspect_ratio: float = Field(
        100.0, ge=1, description="Most that one side may exceed the other, as a factor."
    )
    max_jpeg_scans: int = Field(
        100, ge=1, description="Most scans of a progressive JPEG; each costs a pass."
    )
    max_filter_categories: int = Field(
        1000, ge=1, description="Most names in an include or exclude filter."
    )
