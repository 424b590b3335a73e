"""Settings of what is stored about people."""

from pathlib import Path

from pydantic import Field

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.settings.group import Group

MIN_SECRET_CHARACTERS = 32


class PrivacySettings(Group):
    """What is stored about people."""

    secret: str = Field(
        "",
        repr=False,
        description="Secret of at least 32 characters that subjects are hashed with, such as the "
        "output of `openssl rand -hex 32`. Required to store images with a subject_id. Never "
        "change it: what is stored about a subject is found by it.",
    )
    secret_file: str = Field(
        "", description="File with that secret, if it is not given itself. `up` makes its own."
    )

    keep_subject_ids: bool = Field(
        True,
        description="Whether the subject_id of an image or a batch is stored. If not, only its "
        "keyed hash is: requests with the subject_id find the same, and answers do not show it.",
    )

    truncate_addresses: bool = Field(
        False,
        description="Whether the audit and the log have only the networks of clients: the first 24 "
        "bits of an IPv4 address, and 48 of an IPv6 address. Limits and API keys still go by the "
        "whole address.",
    )

    def read_secret(self) -> bytes:
        """Returns the secret; empty if there is none.

        Raises:
            OperatorError: the file cannot be read, or the secret is too short.
        """
        name, text = "CATEGORIZER_PRIVACY__SECRET", self.secret
        if not text and self.secret_file:
            name = f"{name}_FILE"
            try:
                text = Path(self.secret_file).read_text()
            except (OSError, UnicodeDecodeError) as error:
                raise OperatorError(f"{name}: cannot read {self.secret_file}: {error}.") from None
        text = text.strip()
        if text and len(text) < MIN_SECRET_CHARACTERS:
            raise OperatorError(f"{name} must have at least {MIN_SECRET_CHARACTERS} characters.")
        return text.encode()
