"""What lies where below `--data`, and how other commands find it.

<data>/postgres/  redis/  models/  images/  logs/
       run/               sockets, rendered configuration, the pids of the parts
       installation.json  where the parts answer; read by the other commands
       client.key         the command line's own key (role classifier), made when first needed
       operator.key       another one, for what takes an operator
       worker.key         the workers' own (role worker)
       up.lock            held by a running `up`
"""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.settings import Settings, load_settings

DEFAULT_DATA = Path(".data")
# sun_path holds 104 bytes on some systems, 108 on others; the longest socket name is Postgres's.
MOST_SOCKET_FOLDER_CHARACTERS = 80


class Addresses(BaseModel):
    """Where the parts of an installation answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: str
    database_url: str
    redis_url: str
    model_path: Path
    storage_path: Path = Path("images")


class Installation:
    """The folder of one embedded installation."""

    def __init__(self, data: Path) -> None:
        self.data = data.expanduser().resolve()
        self.logs = self.data / "logs"
        self.run = self.data / "run"
        self.model_path = Path(os.environ.get("MODEL_PATH", self.data / "models")).resolve()
        self.storage_path = Path(
            os.environ.get("CATEGORIZER_STORAGE__PATH", self.data / "images")
        ).resolve()
        self._addresses = self.data / "installation.json"
        self._lock = self.data / "up.lock"

    def own_key(self, role: str) -> Path:
        """Returns where the command line keeps its own key of a role, such as `operator`."""
        return self.data / ("client.key" if role == "classifier" else f"{role}.key")

    @property
    def sockets(self) -> Path:
        """Where unix sockets go: `run`, or a temporary folder where that path is too long."""
        if len(str(self.run)) <= MOST_SOCKET_FOLDER_CHARACTERS:
            return self.run
        name = hashlib.sha256(str(self.data).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"image-categorizer-{os.geteuid()}-{name}"

    def prepare(self) -> None:
        """Makes the folders.

        Raises:
            OperatorError: they cannot be made, or the sockets' folder is somebody else's.
        """
        try:
            for folder in (self.data, self.logs, self.run, self.model_path, self.sockets):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OperatorError(
                f"Cannot make {error.filename}: {error.strerror}; choose another --data."
            ) from None
        if self.sockets.stat().st_uid != os.geteuid():
            raise OperatorError(
                f"{self.sockets} belongs to another user; remove it or choose another --data."
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the installation against a second `up`; the lock ends with the process.

        Raises:
            OperatorError: another `up` runs.
        """
        with self._lock.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise OperatorError(
                    f"Another `image-categorizer up` runs with {self.data}; stop it first."
                ) from None
            yield

    def write_addresses(self, addresses: Addresses) -> None:
        """Tells the other commands where the parts answer."""
        self._addresses.write_text(addresses.model_dump_json(indent=1) + "\n")

    def addresses(self) -> Addresses | None:
        """Returns where the parts answer, or answered last; None before the first `up`."""
        try:
            return Addresses.model_validate_json(self._addresses.read_text())
        except OSError:
            return None
        except ValidationError:
            raise OperatorError(
                f"{self._addresses} is damaged; start `image-categorizer up` again."
            ) from None


def find_installation(data: Path | None) -> Installation | None:
    """Returns the installation that a command means; None where the environment names other places.

    `--data` wins over the environment, the environment over the default folder.
    """
    if data is None and {"DATABASE_URL", "MODEL_PATH"} & set(os.environ):
        return None
    return Installation(data or DEFAULT_DATA)


def settings_for(data: Path | None) -> Settings:
    """Returns the settings by which a command reaches the parts of the installation it means.

    Raises:
        OperatorError: a setting is wrong.
    """
    installation = find_installation(data)
    if installation is None:
        return load_settings()
    addresses = installation.addresses()
    if addresses is None:
        return load_settings(MODEL_PATH=installation.model_path)
    return load_settings(
        DATABASE_URL=addresses.database_url,
        REDIS_URL=addresses.redis_url,
        MODEL_PATH=addresses.model_path,
        storage={"path": addresses.storage_path},
    )
