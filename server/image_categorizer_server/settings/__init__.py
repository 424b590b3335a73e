"""All settings, read once from the environment.

`DATABASE_URL`, `REDIS_URL`, `CLOUD_PROVIDER`, `STORAGE_BUCKET`, `MODEL_PATH`, `MAX_IMAGE_SIZE`,
`WORKER_COUNT` and `LOG_LEVEL` have these names. All others are `CATEGORIZER_<GROUP>__<NAME>`.  A
file `.env` in the working directory is read, too; environment variables override it.  A misspelled
name stops the start: otherwise the setting would silently keep its default.  Other programs, and
Kubernetes beside a Service called `categorizer`, set variables with similar names: these are
reported and have no effect.
"""

import functools
import math
import os
from pathlib import Path
from typing import Literal, Self

from dotenv import dotenv_values
from pydantic import Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from image_categorizer_server import clock, failpoints
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.settings.access import SecuritySettings
from image_categorizer_server.settings.audit import AuditSettings
from image_categorizer_server.settings.batch import BatchSettings
from image_categorizer_server.settings.category import CategorySettings
from image_categorizer_server.settings.correction import CorrectionSettings
from image_categorizer_server.settings.database import (
    CacheSettings,
    DatabaseSettings,
    RedisSettings,
)
from image_categorizer_server.settings.drift import DriftSettings
from image_categorizer_server.settings.embedding import EmbeddingSettings
from image_categorizer_server.settings.encryption import EncryptionSettings, InternalTlsSettings
from image_categorizer_server.settings.fetch import FetchSettings
from image_categorizer_server.settings.gateway import ClientSettings, GatewaySettings
from image_categorizer_server.settings.group import Group
from image_categorizer_server.settings.image import CdnSettings, ImageSettings
from image_categorizer_server.settings.image_upload import ImageUploadSettings
from image_categorizer_server.settings.inference import InferenceSettings
from image_categorizer_server.settings.limit import QuotaSettings
from image_categorizer_server.settings.model import ModelSettings
from image_categorizer_server.settings.names import refuse_misspelled, report_ignored
from image_categorizer_server.settings.privacy import PrivacySettings
from image_categorizer_server.settings.retention import RetentionSettings
from image_categorizer_server.settings.server import LimitSettings, ServerSettings
from image_categorizer_server.settings.sign_in import SignInSettings
from image_categorizer_server.settings.storage import StorageSettings
from image_categorizer_server.settings.telemetry import TelemetrySettings
from image_categorizer_server.settings.tenant import TenantSettings
from image_categorizer_server.settings.testing import TestSettings
from image_categorizer_server.settings.token import TokenSettings
from image_categorizer_server.settings.usage import UsageSettings
from image_categorizer_server.settings.webhook import WebhookSettings
from image_categorizer_server.settings.worker import WorkerSettings

PREFIX = "CATEGORIZER_"
ENV_FILE = ".env"
MEBIBYTE = 2**20
BODY_OVERHEAD_BYTES = 64 * 1024
# Not a setting of the server: where tests find photographs and trained models.
TEST_DATA = "CATEGORIZER_TEST_DATA"


class Settings(BaseSettings):
    """All settings."""

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
        description="Address of PostgreSQL. A unix socket: postgres://user@/database?host=/folder. "
        "TLS: postgres://user:password@host/database?sslmode=verify-full&sslrootcert=/ca.pem.",
    )
    redis_url: str = Field(
        "redis://localhost:6379/0",
        validation_alias="REDIS_URL",
        repr=False,
        description="Address of Redis. A unix socket: unix:///path?db=0. "
        "TLS: rediss://:password@host:6379/0?ssl_ca_certs=/ca.pem.",
    )
    model_path: Path = Field(
        Path("./models"),
        validation_alias="MODEL_PATH",
        description="Folder of the model repository.",
    )
    max_image_size_mb: float = Field(
        10,
        gt=0,
        le=100,
        validation_alias="MAX_IMAGE_SIZE",
        description="Maximum size of an encoded image, in MB of 2^20 bytes.",
    )
    worker_count: int = Field(
        4,
        ge=1,
        le=256,
        validation_alias="WORKER_COUNT",
        description="Number of processes that `image-categorizer worker` starts. `up` starts one.",
    )
    cloud_provider: Literal["local", "aws", "gcp", "azure"] = Field(
        "local",
        validation_alias="CLOUD_PROVIDER",
        description="Where images are stored. Credentials come from the provider's own variables.",
    )
    storage_bucket: str = Field(
        "",
        validation_alias="STORAGE_BUCKET",
        description="Bucket, or container of Azure. Unused for local.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", validation_alias="LOG_LEVEL", description="Minimum severity of log messages."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="Format of log lines. auto: console on a terminal, otherwise JSON."
    )
    log_refusals_per_s: int = Field(
        10,
        ge=0,
        description="Maximum log lines a second of calls refused for the same reason. The line "
        "that follows says how many were not logged; metrics count all of them. 0: no maximum.",
    )
    environment: Literal["development", "production"] = Field(
        "development", description="In production, the settings for tests are refused."
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
    tenants: TenantSettings = TenantSettings()
    audit: AuditSettings = AuditSettings()
    quota: QuotaSettings = QuotaSettings()
    usage: UsageSettings = UsageSettings()
    drift: DriftSettings = DriftSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    token: TokenSettings = TokenSettings()
    sign_in: SignInSettings = SignInSettings()
    gateway: GatewaySettings = GatewaySettings()
    client: ClientSettings = ClientSettings()
    internal_tls: InternalTlsSettings = InternalTlsSettings()
    encryption: EncryptionSettings = EncryptionSettings()
    privacy: PrivacySettings = PrivacySettings()
    retention: RetentionSettings = RetentionSettings()
    images: ImageSettings = ImageSettings()
    uploads: ImageUploadSettings = ImageUploadSettings()
    cdn: CdnSettings = CdnSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    correction: CorrectionSettings = CorrectionSettings()
    category: CategorySettings = CategorySettings()
    worker: WorkerSettings = WorkerSettings()
    storage: StorageSettings = StorageSettings()
    fetch: FetchSettings = FetchSettings()
    test: TestSettings = TestSettings()

    @model_validator(mode="after")
    def _refuse_test_hooks(self) -> Self:
        if self.environment == "production" and self.test != TestSettings():
            raise ValueError("settings CATEGORIZER_TEST__… are refused in production")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings' signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Reads only variables that are settings; otherwise CATEGORIZER_SERVER is a whole group."""
        for source in (env_settings, dotenv_settings):
            assert isinstance(source, EnvSettingsSource)
            source.env_vars = {
                name: value for name, value in source.env_vars.items() if name.upper() in _known()
            }
        return init_settings, env_settings, dotenv_settings, file_secret_settings

    @property
    def max_image_bytes(self) -> int:
        """Maximum size of an encoded image, in bytes."""
        return int(self.max_image_size_mb * MEBIBYTE)

    @property
    def max_body_bytes(self) -> int:
        """Maximum size of the body with one image, in bytes: base64, and options."""
        return math.ceil(self.max_image_bytes / 3) * 4 + BODY_OVERHEAD_BYTES

    @property
    def max_message_bytes(self) -> int:
        """Maximum size of a message, and of the JSON of a batch, in bytes.

        Large enough that an image of twice the maximum size, in base64, reaches the server and gets
        its error. JSON that passes the gateway never becomes a larger message.
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


@functools.cache
def _known() -> frozenset[str]:
    return frozenset(variable_names().values())


def _variable_of(dotted: str) -> str:
    """Returns the variable of a setting, with the place in it if that is a JSON value."""
    for name, variable in variable_names().items():
        if f"{dotted}.".startswith(f"{name}."):
            return variable + dotted.removeprefix(name)
    return dotted


def _names_in_file() -> list[str]:
    """Returns the names in `.env`.

    Raises:
        OperatorError: the file cannot be read.
    """
    try:
        return list(dotenv_values(ENV_FILE))
    except OSError as error:
        raise OperatorError(f"Cannot read {ENV_FILE}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise OperatorError(f"Cannot read {ENV_FILE}: it is not UTF-8.") from None


def load_settings(**overrides: object) -> Settings:
    """Returns the settings from the environment.

    Also arms failpoints and shifts the clock as the settings say. Called by the entry points; tests
    that construct `Settings` themselves are not affected.

    Args:
        overrides: settings by field name, which override the environment.

    Raises:
        OperatorError: names a variable that is misspelled, or each that has an invalid value.
    """
    given = dict.fromkeys((*_names_in_file(), *os.environ))
    given.pop(TEST_DATA, None)
    if ignored := refuse_misspelled(given, _known(), PREFIX):
        report_ignored(tuple(ignored))
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type]  # pydantic checks them
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            name = _variable_of(".".join(map(str, problem["loc"])))
            problems.append(f"{name}: {problem['msg']}" if name else problem["msg"])
        raise OperatorError(f"Invalid settings: {'; '.join(problems)}.") from None
    try:
        failpoints.arm(settings.test.failpoint)
    except ValueError as error:
        raise OperatorError(f"CATEGORIZER_TEST__FAILPOINT {error}.") from None
    clock.shift(settings.test.clock_offset_s)
    return settings
