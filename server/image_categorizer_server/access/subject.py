"""Subjects: the people whose images are stored, by keyed hashes of their names.

A keyed hash finds all that belongs to a subject, and says nothing about the name to somebody who
has the database but not the secret: names are short enough to be guessed from a plain hash.

`key:` and the key of a subject name it, too, as certificates of erasures do.
"""

import hashlib
import hmac
import re

from image_categorizer_server.domain.image import is_text
from image_categorizer_server.errors import FailedPrecondition, InvalidRequest

KEY_BYTES = 16
MAX_SUBJECT_CHARACTERS = 128
REFERENCE = re.compile(r"key:([0-9a-f]{32})")
MISSING = "this server keeps nothing about subjects: set CATEGORIZER_PRIVACY__SECRET"
MALFORMED = f"must have at most {MAX_SUBJECT_CHARACTERS} characters, none of control"


class Subjects:
    """Makes keys of subjects."""

    def __init__(self, secret: bytes, *, keeps_names: bool = True) -> None:
        """Configures the keys.

        Args:
            secret: of the installation; empty if there is none.
            keeps_names: whether names of subjects are stored beside their keys.
        """
        self._secret = secret
        self._keeps_names = keeps_names

    def key_of(self, tenant_id: str, subject_id: str) -> str:
        """Returns the key of a subject: 32 hexadecimal digits; empty for the empty name.

        Raises:
            InvalidRequest: the name is malformed.
            FailedPrecondition: the installation has no secret.
        """
        if not subject_id:
            return ""
        if not is_text(subject_id, MAX_SUBJECT_CHARACTERS):
            raise InvalidRequest.of([("subject_id", MALFORMED)])
        if not self._secret:
            raise FailedPrecondition(MISSING)
        if reference := REFERENCE.fullmatch(subject_id):
            return reference[1]
        name = f"{tenant_id}\0{subject_id}".encode()
        return hmac.new(self._secret, name, hashlib.sha256).hexdigest()[: 2 * KEY_BYTES]

    def name_of(self, subject_id: str) -> str:
        """Returns what is stored of a subject's name: nothing, if names are not kept."""
        return subject_id if self._keeps_names and not REFERENCE.fullmatch(subject_id) else ""

    def reference_of(self, tenant_id: str, subject_id: str) -> str:
        """Returns what is stored to name a subject later: its key, if names are not kept."""
        if self._keeps_names or not subject_id:
            return subject_id
        return f"key:{self.key_of(tenant_id, subject_id)}"
