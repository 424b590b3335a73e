"""Subjects: the people whose images are stored, by keyed hashes of their names.

A keyed hash finds all that belongs to a subject, and says nothing about the name to somebody who
has the database but not the secret: names are short enough to be guessed from a plain hash.
"""

import hashlib
import hmac

from image_categorizer_server.errors import FailedPrecondition

KEY_BYTES = 16
MISSING = "this server keeps nothing about subjects: set CATEGORIZER_PRIVACY__SECRET"


class Subjects:
    """Makes keys of subjects."""

    def __init__(self, secret: bytes) -> None:
        """Configures the keys.

        Args:
            secret: of the installation; empty if there is none.
        """
        self._secret = secret

    def key_of(self, tenant_id: str, subject_id: str) -> str:
        """Returns the key of a subject: 32 hexadecimal digits; empty for the empty name.

        Raises:
            FailedPrecondition: the installation has no secret.
        """
        if not subject_id:
            return ""
        if not self._secret:
            raise FailedPrecondition(MISSING)
        name = f"{tenant_id}\0{subject_id}".encode()
        return hmac.new(self._secret, name, hashlib.sha256).hexdigest()[: 2 * KEY_BYTES]
