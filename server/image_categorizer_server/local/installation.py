"""The data folder of a local installation, and how other commands find it.

<data>/postgres/  redis/  models/  images/  logs/
       run/               sockets, Envoy's configuration, process IDs
       installation.json  addresses; read by the other commands
       client.key         the command line's own key with the role classifier
       operator.key       the command line's own key with the role operator
       worker.key         the workers' key
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

from image_categorizer_server.domain.access import Role
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.settings import Settings, load_settings

DEFAULT_DATA = Path(".data")
# A unix socket's path has at most 104 bytes on some systems, 108 on others. This leaves room for
# the longest socket name, PostgreSQL's.
MAX_SOCKET_FOLDER_CHARACTERS = 80


class Addresses(BaseModel):
    """Addresses and folders of an installation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: str
    database_url: str
    redis_url: str
    model_path: Path
    storage_path: Path = Path("images")


class Installation:
    """The data folder of an installation."""

    def __init__(self, data: Path) -> None:
        self.data = data.expanduser().resolve()
        self.logs = self.data / "logs"
        self.run = self.data / "run"
        self.pid_file = self.run / "processes.json"
        self.model_path = Path(os.environ.get("MODEL_PATH", self.data / "models")).resolve()
        self.storage_path = Path(
            os.environ.get("CATEGORIZER_STORAGE__PATH", self.data / "images")
        ).resolve()
        self._addresses = self.data / "installation.json"
        self._lock = self.data / "up.lock"

    @property
    def sockets(self) -> Path:
        """Folder of the unix sockets: `run`, or a temporary folder if that path is too long."""
        if len(str(self.run)) <= MAX_SOCKET_FOLDER_CHARACTERS:
            return self.run
        name = hashlib.sha256(str(self.data).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"image-categorizer-{os.geteuid()}-{name}"

    def prepare(self) -> None:
        """Creates the folders.

        Raises:
            OperatorError: a folder cannot be created, or another user owns the socket folder.
        """
        try:
            for folder in (self.data, self.logs, self.run, self.model_path, self.sockets):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OperatorError(
                f"Cannot create {error.filename}: {error.strerror}. "
                "Choose another folder with --data."
            ) from None
        if self.sockets.stat().st_uid != os.geteuid():
            raise OperatorError(
                f"{self.sockets} belongs to another user. "
                "Remove it, or choose another folder with --data."
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps a second `up` from using the folder. The lock ends with the process.

        Raises:
            OperatorError: another `up` is running.
        """
        with self._lock.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise OperatorError(
                    f"Another `image-categorizer up` is running with {self.data}. Stop it first."
                ) from None
            yield

    def saved_key(self, role: Role) -> str | None:
        """Returns the installation's own key with a role; None if there is none yet."""
        file = self._key_file(role)
        return file.read_text().strip() if file.exists() else None

    def save_key(self, role: Role, secret: str) -> None:
        """Saves the installation's own key with a role, readable by the current user only."""
        file = self._key_file(role)
        file.touch(mode=0o600)
        file.write_text(secret)

    def _key_file(self, role: Role) -> Path:
        return self.data / ("client.key" if role is Role.CLASSIFIER else f"{role.name.lower()}.key")

    def write_addresses(self, addresses: Addresses) -> None:
        """Saves the addresses for the other commands."""
        self._addresses.write_text(addresses.model_dump_json(indent=1) + "\n")

    def addresses(self) -> Addresses | None:
        """Returns the addresses of the last `up`; None before the first.

        Raises:
            OperatorError: the file is damaged.
        """
        try:
            return Addresses.model_validate_json(self._addresses.read_text())
        except OSError:
            return None
        except ValidationError:
            raise OperatorError(
                f"{self._addresses} is damaged. Start `image-categorizer up` again."
            ) from None


def find_installation(data: Path | None) -> Installation | None:
    """Returns the installation a command is meant for; None if the environment sets addresses.

    `--data` wins over the environment, the environment over the default folder.
    """
    if data is None and {"DATABASE_URL", "MODEL_PATH"} & set(os.environ):
        return None
    return Installation(data or DEFAULT_DATA)


def settings_for(data: Path | None) -> Settings:
    """Returns the settings, with the addresses of the installation the command is meant for.

    Raises:
        OperatorError: a setting is invalid.
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
