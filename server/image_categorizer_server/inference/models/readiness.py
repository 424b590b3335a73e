"""Why the default model of a server does not answer, in a sentence that says what to do."""

from collections.abc import Sequence

from image_categorizer_server.domain.model import ModelState
from image_categorizer_server.inference.models.aliases import ALIASES_FILE
from image_categorizer_server.inference.models.version import ModelVersion
from image_categorizer_server.quoting import quoted


def why_silent(name: str, versions: Sequence[ModelVersion], has_aliases: bool) -> str:
    """Returns the sentence.

    Args:
        name: the default model.
        versions: of the model; none of them is LOADING.
        has_aliases: whether its alias file can be read, or is missing.
    """
    if not versions:
        return (
            f"the default model {quoted(name)} is not in the repository: add it with "
            "`image-categorizer models add`, or change CATEGORIZER_MODELS__DEFAULT"
        )
    if not has_aliases:
        return (
            f"the aliases of the default model {quoted(name)} cannot be read: delete its "
            f"{ALIASES_FILE}, and set them again with `image-categorizer models alias`"
        )
    failed = [version for version in versions if version.state is ModelState.FAILED]
    if failed:
        newest = max(failed, key=lambda version: version.number)
        return (
            f"version {newest.number} of the default model {quoted(name)} cannot answer: "
            f"{newest.message}"
        )
    return (
        f"the default model {quoted(name)} cannot answer: its `stable` version is not in the "
        "repository, or unloaded. Choose another with "
        f"`image-categorizer models alias {name} stable VERSION`"
    )
