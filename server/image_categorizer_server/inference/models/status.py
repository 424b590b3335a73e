"""What users are told about a model version."""

from image_categorizer_server.domain.classification import ModelRef
from image_categorizer_server.domain.model import Localization, ModelStatus
from image_categorizer_server.inference.models.aliases import CANARY, Aliases
from image_categorizer_server.inference.models.residency import resident_bytes
from image_categorizer_server.inference.models.version import ModelVersion


def status_of(version: ModelVersion, aliases: Aliases, is_default: bool) -> ModelStatus:
    """Returns the status.

    Args:
        version: the version.
        aliases: of its model, as they are in force.
        is_default: whether it answers requests that name no model.
    """
    name, number, manifest = version.name, version.number, version.manifest
    runtime = version.serving.model.runtime if version.serving else None
    localizer = version.serving.model.localizer if version.serving else None
    names = aliases.pointing_to(number)
    return ModelStatus(
        ref=ModelRef(name, number, manifest.digest if manifest else ""),
        state=version.state,
        state_message=version.message,
        is_default=is_default,
        categories=manifest.domain_categories() if manifest else (),
        input_width_px=manifest.input.width_px if manifest else 0,
        input_height_px=manifest.input.height_px if manifest else 0,
        activation=manifest.activation if manifest else "",
        runtime=runtime.name if runtime else "",
        device=runtime.device if runtime else "",
        licence=manifest.licence if manifest else "",
        origin=manifest.origin if manifest else "",
        aliases=names,
        canary_percent=aliases.canary_percent if CANARY in names else 0.0,
        precision=runtime.precision if runtime else "",
        localization=localizer.localization if localizer else Localization.NONE,
        resident_bytes=resident_bytes(version),
    )
