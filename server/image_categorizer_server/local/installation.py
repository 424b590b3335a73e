"""The data folder of a local installation, and how other commands find it.

<data>/postgres/  redis/  models/  images/  logs/
       run/               sockets, Envoy's configuration, process IDs
       certificates/      of `up --tls`: ca.pem is what clients may trust
       installation.json  addresses; read by the other commands
       client.key         the command line's own key with the role classifier
       operator.key       the command line's own key with the role operator
       worker.key         the workers' key
       audit.pem          the key that signs statements about the audit
       example.jpg        a picture to try it with
       up.lock            held by a running `up`
"""

import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from image_categorizer_server.domain.access import Role
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.settings import Settings, load_settings

DEFAULT_DATA = Path(".data")
OTHERS = stat.S_IRWXG | stat.S_IRWXO
# A unix socket's path has at most 104 bytes on some systems, 108 on others. This leaves room for
# the longest socket name, PostgreSQL's.
MAX_SOCKET_FOLDER_CHARACTERS = 80


PACKAGE = Path(__file__).resolve().parent.parent
PACKAGED_EXAMPLE = PACKAGE / "_examples" / "cat.jpg"
# In the installed package, or beside the source.
EXAMPLE = (
    PACKAGED_EXAMPLE if PACKAGED_EXAMPLE.is_file() else PACKAGE.parents[1] / "examples" / "cat.jpg"
)
# What an installation writes into its data folder.
OWN_NAMES = frozenset(
    (
        *("postgres", "postgres.new", "redis", "models", "images", "logs", "run"),
        "certificates",
        *("installation.json", "up.lock", "example.jpg"),
        *("client.key", "viewer.key", "operator.key", "admin.key", "worker.key"),
        "audit.pem",
    )
)


class Addresses(BaseModel):
    """Addresses and folders of an installation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: str
    root_certificates_path: str = ""
    """Authorities that vouch for the gateway; empty for the public ones."""
    server_name: str = ""
    """A name in the gateway's certificate; empty for the host of `base_url`."""
    database_url: str
    owner_url: str = ""
    """Of the embedded PostgreSQL, whose tables another role owns."""
    redis_url: str
    model_path: Path
    storage_path: Path = Path("images")


class Installation:
    """The data folder of an installation."""

    def __init__(self, data: Path) -> None:
        self.data = data.expanduser().resolve()
        self.logs = self.data / "logs"
        self.run = self.data / "run"
        self.certificates = self.data / "certificates"
        self.pid_file = self.run / "processes.json"
        self.model_path = Path(os.environ.get("MODEL_PATH", self.data / "models")).resolve()
        self.storage_path = Path(
            os.environ.get("CATEGORIZER_STORAGE__PATH", self.data / "images")
        ).resolve()
        self.audit_key = self.data / "audit.pem"
        self.subject_secret = self.data / "subjects.secret"
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
        folders = self.data, self.logs, self.run, self.model_path, self.storage_path, self.sockets
        try:
            for folder in folders:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            sockets = self.sockets.lstat()
        except OSError as error:
            raise OperatorError(
                f"Cannot create {error.filename}: {error.strerror}. "
                "Choose another folder with --data."
            ) from None
        # Anybody can make a folder, or a link, in the folder for temporary files.
        if sockets.st_uid != os.geteuid() or not stat.S_ISDIR(sockets.st_mode):
            raise OperatorError(
                f"{self.sockets} belongs to another user. "
                "Remove it, or choose another folder with --data."
            )
        self._close_to_others()

    def _close_to_others(self) -> None:
        """Takes the rights of other users away, also from what earlier releases wrote.

        Raises:
            OperatorError: the folder belongs to another user.
        """
        own = [path for path in self.data.iterdir() if path.name in OWN_NAMES]
        try:
            for path in own:
                if path.name != "postgres":  # closed by PostgreSQL, whose user may be another
                    _close(path)
            # In a folder with files of others, such as /srv, only what is ours is closed.
            if len(own) == len(list(self.data.iterdir())):
                self.data.chmod(0o700)
            self.sockets.chmod(0o700)
        except PermissionError as error:
            raise OperatorError(
                f"{error.filename} belongs to another user. Choose another folder with --data."
            ) from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps a second `up` from using the folder. The lock ends with the process.

        Raises:
            OperatorError: another `up` is running.
        """
        try:
            opened = os.open(self._lock, os.O_WRONLY | os.O_CREAT, 0o600)
        except OSError as error:
            raise OperatorError(
                f"Cannot write {self._lock}: {error.strerror}. Choose another folder with --data."
            ) from None
        with os.fdopen(opened, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise OperatorError(
                    f"Another `image-categorizer up` is running with {self.data}. Stop it first."
                ) from None
            yield

    @property
    def is_running(self) -> bool:
        """Whether an `up` is running with this folder."""
        try:
            with self._lock.open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def saved_key(self, role: Role) -> str | None:
        """Returns the installation's own key with a role; None if there is none yet."""
        file = self._key_file(role)
        return file.read_text().strip() if file.exists() else None

    def save_key(self, role: Role, secret: str) -> None:
        """Saves the installation's own key with a role, readable by the current user only."""
        file = self._key_file(role)
        file.unlink(missing_ok=True)
        file.touch(mode=0o600)
        file.write_text(secret)

    def _key_file(self, role: Role) -> Path:
        return self.data / ("client.key" if role is Role.CLASSIFIER else f"{role.name.lower()}.key")

    def example(self) -> Path:
        """Returns the path of a picture to try the installation with."""
        file = self.data / "example.jpg"
        if not file.exists():
            file.write_bytes(EXAMPLE.read_bytes())
        return file

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


def _close(path: Path) -> None:
    """Takes other users' rights away from a file, or from a folder and all that is in it.

    A folder that is closed is left as it is: nobody else gets to what is in it.
    """
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode) or not mode & OTHERS:
        return
    path.chmod(stat.S_IMODE(mode) & ~OTHERS)
    if stat.S_ISDIR(mode):
        for folder, folders, files in os.walk(path):
            for name in (*folders, *files):
                inner = os.path.join(folder, name)  # noqa: PTH118 - may be millions
                found = os.lstat(inner).st_mode
                if found & OTHERS and not stat.S_ISLNK(found):
                    os.chmod(inner, stat.S_IMODE(found) & ~OTHERS)  # noqa: PTH101


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
    has_key = {"CATEGORIZER_AUDIT__SIGNING_KEY", "CATEGORIZER_AUDIT__SIGNING_KEY_FILE"}
    own_key = {"audit": {"signing_key_file": str(installation.audit_key)}}
    return load_settings(
        **(own_key if installation.audit_key.exists() and not has_key & set(os.environ) else {}),
        DATABASE_URL=addresses.database_url,
        REDIS_URL=addresses.redis_url,
        MODEL_PATH=addresses.model_path,
        storage={"path": addresses.storage_path},
        **({"database": {"owner_url": addresses.owner_url}} if addresses.owner_url else {}),
    )
