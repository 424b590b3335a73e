"""Texts from outside, as messages may repeat them."""

MAX_QUOTED_CHARACTERS = 100


def quoted(text: str) -> str:
    """Returns text from outside in quotation marks, as a message may repeat it: not at length."""
    short = text if len(text) <= MAX_QUOTED_CHARACTERS else f"{text[:MAX_QUOTED_CHARACTERS]}..."
    return f"'{short}'"
