"""Names of environment variables: which of them are misspelled settings."""

import difflib
import functools
import re
import sys
from collections.abc import Collection, Iterable

from image_categorizer_server.errors import OperatorError

MAX_NAMES_SHOWN = 10
# Similarity from which a name with our prefix counts as a misspelled setting, and from which any
# other name is worth a warning.
SIMILAR_FROM = 0.85
# What Kubernetes adds for each Service: CATEGORIZER_SERVICE_HOST, CATEGORIZER_PORT_8080_TCP_ADDR.
KUBERNETES = re.compile(
    r"\w*_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)", re.ASCII
)


def refuse_misspelled(variables: Iterable[str], known: Collection[str], prefix: str) -> list[str]:
    """Refuses misspelled settings. Returns other names that are similar, but not settings.

    Args:
        variables: names to check.
        known: names of all settings, in capitals.
        prefix: what most of them start with.

    Raises:
        OperatorError: names the variable and the most similar setting.
    """
    ignored = []
    for name in variables:
        upper = name.upper()
        if upper in known:
            continue
        if meant := _meant(upper, known, prefix):
            hint = f" Did you mean {meant}?" if meant in known else ""
            raise OperatorError(
                f"The environment variable {name:.80} is not a setting.{hint} "
                "See .env.example for all."
            )
        if upper.startswith(prefix) or _nearest(upper, known):
            ignored.append(name)
    return ignored


def _meant(name: str, known: Collection[str], prefix: str) -> str:
    """Returns the setting that is misspelled as `name`, or its group; "" if it is none of ours."""
    if not name.startswith(prefix):
        # Whose it is, is unknown: DATABASE_URI is another program's, DATABASE_ULR nobody's.
        return next((setting for setting in known if name in _slips(setting)), "")
    rest = name.removeprefix(prefix)
    if rest in known:
        return rest
    if KUBERNETES.fullmatch(name) and "__" not in name:
        return ""
    group, delimiter, _ = rest.partition("__")
    names = {setting.removeprefix(prefix): setting for setting in known}
    if near := _nearest(rest, names):
        return names[near]
    if delimiter and any(setting.startswith(f"{prefix}{group}__") for setting in known):
        return _nearest(name, known) or group
    return ""


def _nearest(name: str, among: Iterable[str]) -> str:
    return next(iter(difflib.get_close_matches(name, list(among), n=1, cutoff=SIMILAR_FROM)), "")


def _slips(word: str) -> set[str]:
    """Returns what a slip of the finger makes of a word: letters swapped, missed or doubled."""
    places = range(len(word))
    swapped = {word[:i] + word[i + 1 : i + 2] + word[i] + word[i + 2 :] for i in places}
    missed = {word[:i] + word[i + 1 :] for i in places if word[i] != "_"}
    return swapped | missed | {word[:i] + word[i] + word[i:] for i in places}


@functools.cache
def report_ignored(names: tuple[str, ...]) -> None:
    """Says once which variables have no effect. Before logging is configured, so to stderr."""
    shown = ", ".join(f"{name:.80}" for name in names[:MAX_NAMES_SHOWN])
    rest = f" and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else ""
    sys.stderr.write(
        f"Ignored environment variables, which are not settings: {shown}{rest}. "
        "See .env.example for all settings.\n"
    )
