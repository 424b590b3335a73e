"""All settings, read from the environment once and never changed.

`DATABASE_URL`, `REDIS_URL`, `MODEL_PATH`, `MAX_IMAGE_SIZE` and `LOG_LEVEL` have names of their own;
every other is `CATEGORIZER_<GROUP>__<NAME>`.  A file `.env` in the working directory is read first,
the environment wins over it.  A name that is not known stops the start: a misspelt setting would
otherwise leave its default in force, unseen.
"""

import difflib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from image_categorizer_server.errors import OperatorError

PREFIX = "CATEGORIZER_"
ENV_FILE = ".env"
MEBIBYTE = 2**20
# Share of alike letters from which a name without our prefix counts as one of ours, misspelt.
NEAR = 0.9
# Ours, but no setting of the server: where the tests find photographs and trained models.
TEST_DATA = "CATEGORIZER_TEST_DATA"


class Group(BaseModel):
    """Settings that belong together."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


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


class DatabaseSettings(Group):
    """PostgreSQL."""

    pool_size: int = Field(8, ge=1, le=100, description="Connections of each process.")
    timeout_s: float = Field(
        5.0, gt=0, le=60, description="Most time for one statement or connection attempt."
    )


class RedisSettings(Group):
    """Redis."""

    timeout_s: float = Field(
        2.0, gt=0, le=60, description="Most time for one command or connection attempt."
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


class InferenceSettings(Group):
    """Decoding, micro-batches and the device."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where models run; auto takes a GPU if there is one."
    )
    model_threads: int = Field(
        0, ge=0, le=256, description="Cores of one model call on a CPU; 0: a quarter of all."
    )
    lanes: int = Field(
        0,
        ge=0,
        le=256,
        description="Model calls at a time on a CPU; 0: one more than cores hold.",
    )
    decode_threads: int = Field(
        0, ge=0, le=256, description="Images decoded at the same time; 0: one per core."
    )
    max_batch_size: int = Field(
        16,
        ge=1,
        le=512,
        description="Most images in one micro-batch; each model finds its best.",
    )
    max_queued: int = Field(
        256, ge=1, le=1_000_000, description="Most images per model between arrival and answer."
    )

    def threads_and_lanes(self) -> tuple[int, int]:
        """Returns the cores of one model call on a CPU, and how many calls run at once.

        A call that shares its work among threads waits for the slowest: on two cores, two calls
        with one thread each do a fifth more images than one call with two.  A quarter of the cores
        for a call keeps a lone image fast on large machines; one call more than the cores hold
        fills what a call leaves idle while it waits for the interpreter.
        """
        threads = self.model_threads or max(1, cores() // 4)
        return threads, self.lanes or cores() // threads + 1


class ModelSettings(Group):
    """The model repository."""

    default: str = Field(
        "starter", min_length=1, description="Model that answers a request which names none."
    )
    scan_interval_s: float = Field(
        2.0, gt=0, le=3600, description="How often MODEL_PATH is looked through for changes."
    )
    cache_path: Path = Field(
        Path("~/.cache/image-categorizer"),
        description="Folder for what follows from models (ONNX exports); may be deleted.",
    )
    export_timeout_s: float = Field(
        600.0, gt=0, le=86_400, description="Most time for one export to ONNX."
    )


class SecuritySettings(Group):
    """Credentials."""

    key_cache_s: float = Field(
        5.0,
        ge=0,
        le=300,
        description="How long a key's validity is remembered; a revoked key works that long.",
    )


class GatewaySettings(Group):
    """Envoy, as `image-categorizer up` configures it."""

    host: str = Field(
        "127.0.0.1", description="Address the public port listens on; 0.0.0.0 for all interfaces."
    )
    cors_origins: tuple[str, ...] = Field(
        (), description='Origins whose pages may call, as a JSON list; ["*"] for all.'
    )
    threads: int = Field(1, ge=1, le=256, description="Worker threads of Envoy.")


class ClientSettings(Group):
    """The command line as a client of a server elsewhere."""

    base_url: str = Field(
        "", description="Address of the server, such as localhost:8080; empty: the embedded one."
    )
    api_key: str = Field(
        "",
        repr=False,
        description="API key to call it with; empty: the embedded installation's own.",
    )


class Settings(BaseSettings):
    """The whole tree."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_file=ENV_FILE,
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        validate_default=True,
    )

    database_url: str = Field(
        "postgres://postgres@localhost:5432/image_categorizer",
        validation_alias="DATABASE_URL",
        repr=False,
        description="PostgreSQL, the truth. A unix socket: postgres://user@/database?host=/folder.",
    )
    redis_url: str = Field(
        "redis://localhost:6379/0",
        validation_alias="REDIS_URL",
        repr=False,
        description="Redis. A unix socket: unix:///path?db=0.",
    )
    model_path: Path = Field(
        Path("./models"),
        validation_alias="MODEL_PATH",
        description="The model repository, a folder.",
    )
    max_image_size_mb: float = Field(
        10,
        gt=0,
        le=100,
        validation_alias="MAX_IMAGE_SIZE",
        description="Most size of one encoded image, in MB of 2^20 bytes.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", validation_alias="LOG_LEVEL", description="Least severity that is logged."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="How log lines look; auto: console on a terminal, JSON elsewhere."
    )
    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    redis: RedisSettings = RedisSettings()
    limits: LimitSettings = LimitSettings()
    inference: InferenceSettings = InferenceSettings()
    models: ModelSettings = ModelSettings()
    security: SecuritySettings = SecuritySettings()
    gateway: GatewaySettings = GatewaySettings()
    client: ClientSettings = ClientSettings()

    @property
    def max_image_bytes(self) -> int:
        """The most bytes of one encoded image."""
        return int(self.max_image_size_mb * MEBIBYTE)


def variable_names() -> dict[str, str]:
    """Returns the environment variable of each setting, by its dotted name."""
    names = {}
    for name, field in Settings.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, Group):
            for inner in group.model_fields:
                names[f"{name}.{inner}"] = f"{PREFIX}{name}__{inner}".upper()
        else:
            names[name] = str(field.validation_alias or f"{PREFIX}{name}".upper())
    return names


def refuse_unknown(variables: Iterable[str]) -> None:
    """Refuses names with our prefix that no setting has, and names that only nearly match one.

    Raises:
        OperatorError: expected; names the variable and the nearest setting.
    """
    known = set(variable_names().values())
    for name in variables:
        upper = name.upper()
        if upper in known or upper == TEST_DATA:
            continue
        near = difflib.get_close_matches(upper, known, n=1, cutoff=NEAR)
        if upper.startswith(PREFIX) or near:
            hint = f" did you mean {near[0]}?" if near else ""
            raise OperatorError(
                f"The environment variable {name} is no setting;{hint} See .env.example for all."
            )


def load_settings(**overrides: Any) -> Settings:
    """Returns the settings of the environment, `overrides` winning over it.

    Raises:
        OperatorError: expected; names each variable that is unknown or whose value is out of range.
    """
    refuse_unknown([*dotenv_values(ENV_FILE), *os.environ])
    try:
        return Settings(**overrides)
    except ValidationError as error:
        names = variable_names()
        problems = []
        for problem in error.errors():
            dotted = ".".join(map(str, problem["loc"]))
            problems.append(f"{names.get(dotted, dotted)}: {problem['msg']}")
        raise OperatorError(f"Settings are wrong: {'; '.join(problems)}.") from None


def cores() -> int:
    """Returns how many cores this process may use, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
