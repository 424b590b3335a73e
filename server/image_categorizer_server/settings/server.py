"""Settings of the gRPC server, and limits of images and requests."""

from ipaddress import ip_network

from pydantic import Field, IPvAnyNetwork

from image_categorizer_server.settings.group import Group


class ServerSettings(Group):
    """The gRPC server."""

    bind: str = Field(
        "127.0.0.1:50051", description="Address to listen on: host:port or unix:/path."
    )
    gateway_networks: tuple[IPvAnyNetwork, ...] = Field(
        (ip_network("127.0.0.0/8"), ip_network("::1/128")),
        description="Networks of the gateways, as a JSON list of CIDR blocks. What a host of these "
        "networks says about the address of a client is believed.",
    )
    reflection: bool = Field(
        False,
        description="Whether clients may list the services (grpc.reflection). "
        "If it is not set, `up` turns it on, except in production.",
    )
    default_deadline_s: float = Field(
        10.0, gt=0, le=3600, description="Deadline of a request that states none."
    )
    max_deadline_s: float = Field(60.0, gt=0, le=3600, description="Maximum deadline of a request.")
    max_stream_in_flight: int = Field(
        64,
        ge=1,
        le=10_000,
        description="Maximum unanswered images of one ClassifyStream call.",
    )
    max_stream_in_flight_bytes: int = Field(
        64 * 2**20,
        ge=1,
        description="Maximum bytes of the unanswered images of one call. The last may exceed it.",
    )
    upload_idle_s: float = Field(
        60.0, gt=0, le=3600, description="Time without data after which an upload is aborted."
    )
    send_timeout_s: float = Field(
        300.0,
        gt=0,
        le=3600,
        description="Time without reading after which the call of a client that receives a stream "
        "is ended.",
    )
    max_page_bytes: int = Field(
        2**20,
        ge=2**16,
        le=3 * 2**20,
        description="Maximum size of a page of a list. gRPC clients refuse more than 4 MB.",
    )
    crash_memory_s: float = Field(
        3600.0,
        gt=0,
        le=30 * 86_400,
        description="How long an image that crashes the decoder is refused by all servers.",
    )
    in_flight_path: str = Field(
        "",
        description="Folder in which a process notes the images in hand, for the process that is "
        "started when it dies. Empty for none; `up` has its own.",
    )
    processes: int = Field(
        1,
        ge=1,
        le=256,
        description="Server processes on this machine, each with its own copy of the models.",
    )
    model_process: bool = Field(
        False,
        description="Whether one more process runs the models of all server processes, which hand "
        "it their images in shared memory. For a GPU with several server processes; Linux only.",
    )
    drain_s: float = Field(
        20.0,
        ge=0,
        le=600,
        description="Time for requests in flight to finish when the server stops.",
    )
    drain_notice_s: float = Field(
        0.0,
        ge=0,
        le=60,
        description="Time between not ready and refusing calls: twice the balancer's interval.",
    )


class LimitSettings(Group):
    """Limits of images and requests. All are inclusive."""

    max_image_pixels: int = Field(
        50_000_000,
        ge=1,
        le=2**31 - 1,
        description="Maximum pixels of an image: width times height.",
    )
    max_side_px: int = Field(16_384, ge=1, le=65_535, description="Maximum side of an image.")
    max_aspect_ratio: float = Field(
        100.0, ge=1, description="Maximum ratio of the longer side to the shorter side."
    )
    max_jpeg_scans: int = Field(
        100, ge=1, description="Maximum scans of a progressive JPEG. Each costs a pass."
    )
    max_image_tags: int = Field(
        4096,
        ge=1,
        le=65_535,
        description="Maximum tags, chunks or segments of metadata in an image.",
    )
    min_rows_share: float = Field(
        0.9,
        gt=0,
        le=1,
        description="Minimum share of a truncated image's rows. Below it the image is refused.",
    )
    max_filter_categories: int = Field(
        1000, ge=1, description="Maximum names in an include or exclude filter."
    )
