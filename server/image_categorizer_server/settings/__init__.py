"""All settings, read from the environment once and never changed.

`DATABASE_URL`, `REDIS_URL`, `CLOUD_PROVIDER`, `STORAGE_BUCKET`, `MODEL_PATH`, `MAX_IMAGE_SIZE`,
`WORKER_COUNT` and `LOG_LEVEL` have names of their own; every other is
`CATEGORIZER_<GROUP>__<NAME>`.  A file `.env` in the working directory is read first, the
environment wins over it.  A name that is not known stops the start: a misspelt setting would
otherwise leave its default in force, unseen.
"""

import difflib
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Self

from dotenv import dotenv_values
from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from image_categorizer_server import clock, failpoints
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.settings.access import SecuritySettings
from image_categorizer_server.settings.batch import BatchSettings
from image_categorizer_server.settings.database import (
    CacheSettings,
    DatabaseSettings,
    RedisSettings,
)
from image_categorizer_server.settings.fetch import FetchSettings
from image_categorizer_server.settings.gateway import ClientSettings, GatewaySettings
from image_categorizer_server.settings.group import Group
from image_categorizer_server.settings.inference import InferenceSettings
from image_categorizer_server.settings.model import ModelSettings
from image_categorizer_server.settings.server import LimitSettings, ServerSettings
from image_categorizer_server.settings.storage import StorageSettings
from image_categorizer_server.settings.testing import TestSettings
from image_categorizer_server.settings.webhook import WebhookSettings
from image_categorizer_server.settings.worker import WorkerSettings

PREFIX = "CATEGORIZER_"
ENV_FILE = ".env"
MEBIBYTE = 2**20
# Share of alike letters from which a name without our prefix counts as one of ours, misspelt.
NEAR = 0.9
# Ours, but no setting of the server: where the tests find photographs and trained models.
TEST_DATA = "CATEGORIZER_TEST_DATA"


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
    worker_count: int = Field(
        4,
        ge=1,
        le=256,
        validation_alias="WORKER_COUNT",
        description="Processes that `image-categorizer worker` starts; `up` starts one.",
    )
    cloud_provider: Literal["local", "aws", "gcp", "azure"] = Field(
        "local",
        validation_alias="CLOUD_PROVIDER",
        description="Where images are kept; credentials are those of the provider's own variables.",
    )
    storage_bucket: str = Field(
        "",
        validation_alias="STORAGE_BUCKET",
        description="The bucket, or Azure's container; without meaning where images are local.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", validation_alias="LOG_LEVEL", description="Least severity that is logged."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="How log lines look; auto: console on a terminal, JSON elsewhere."
    )
    environment: Literal["development", "production"] = Field(
        "development", description="Where this runs; production refuses the hooks for tests."
    )
    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    redis: RedisSettings = RedisSettings()
    cache: CacheSettings = CacheSettings()
    limits: LimitSettings = LimitSettings()
    inference: InferenceSettings = InferenceSettings()
    models: ModelSettings = ModelSettings()
    batch: BatchSettings = BatchSettings()
    webhook: WebhookSettings = WebhookSettings()
    security: SecuritySettings = SecuritySettings()
    gateway: GatewaySettings = GatewaySettings()
    client: ClientSettings = ClientSettings()
    worker: WorkerSettings = WorkerSettings()
    storage: StorageSettings = StorageSettings()
    fetch: FetchSettings = FetchSettings()
    test: TestSettings = TestSettings()

    @model_validator(mode="after")
    def _refuse_test_hooks(self) -> Self:
        if self.environment == "production" and self.test != TestSettings():
            raise ValueError("is production, where CATEGORIZER_TEST__… are refused")
        return self

    @property
    def max_image_bytes(self) -> int:
        """The most bytes of one encoded image."""
        return int(self.max_image_size_mb * MEBIBYTE)

    @property
    def max_message_bytes(self) -> int:
        """The most bytes of one message, and of the JSON of a batch.

        An image twice too large, in base64, still gets our answer; and what the gateway takes as
        JSON is no larger as a message, whatever it holds.
        """
        return math.ceil((2 * self.max_image_bytes + MEBIBYTE) / 3) * 4


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
        OperatorError: names the variable and the nearest setting.
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

    Arms the failpoint and shifts the clock that they name: an entrance calls it, and tests that
    make `Settings` themselves are left alone.

    Raises:
        OperatorError: names each variable that is unknown or whose value is out of range.
    """
    refuse_unknown([*dotenv_values(ENV_FILE), *os.environ])
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        names = variable_names()
        problems = []
        for problem in error.errors():
            dotted = ".".join(map(str, problem["loc"]))
            problems.append(f"{names.get(dotted, dotted)}: {problem['msg']}")
        raise OperatorError(f"Settings are wrong: {'; '.join(problems)}.") from None
    try:
        failpoints.arm(settings.test.failpoint)
    except ValueError as error:
        raise OperatorError(f"CATEGORIZER_TEST__FAILPOINT {error}.") from None
    clock.shift(settings.test.clock_offset_s)
    return settings
