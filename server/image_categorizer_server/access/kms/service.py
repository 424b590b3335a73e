"""What all key-management services have in common."""

from typing import Protocol


class KeyServiceDown(Exception):
    """The service does not answer, or says that it cannot at the moment."""


class KeyRefused(Exception):
    """The service answers, but not so: a right is missing, the key is disabled, and the like."""


class KeyService(Protocol):
    """One key of a service.

    The calls block, may be made in several threads, and end within the time limit that the service
    was opened with, once more for one retry.
    """

    def encrypt(self, plaintext: bytes) -> bytes:
        """Returns at most 100 bytes, encrypted.

        Raises:
            KeyServiceDown: no answer.
            KeyRefused: another answer.
        """
        ...

    def decrypt(self, ciphertext: bytes) -> bytes:
        """Returns what `encrypt` was given.

        Raises:
            KeyServiceDown: no answer.
            KeyRefused: another answer, such as that this key did not encrypt it.
        """
        ...
