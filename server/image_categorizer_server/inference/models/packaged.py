"""The model that ships with the program: EfficientNet-Lite0, from its own Python package.

    <cache>/packaged-<format>/efficientnet_lite0/1/   a model version like any other

It is made once, before the first server looks into the repository.
"""

from pathlib import Path

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.conversion import (
    ConversionFailed,
    ensure_converted,
)
from image_categorizer_server.inference.models.manifest import MANIFEST_FILE
from image_categorizer_server.settings.model import ModelSettings

NAME = "efficientnet_lite0"
FORMAT = 2
"""Higher for other contents of the folder."""
MODULE = "image_categorizer_server.inference.packaging.efficientnet_lite"


def packaged_models(settings: ModelSettings) -> list[Path]:
    """Returns the folders of models that ship with the program; none if the settings say so."""
    return [_folder(settings)] if settings.packaged else []


async def ensure_packaged(settings: ModelSettings) -> None:
    """Makes the packaged model, unless it is there or not wanted; takes seconds.

    Raises:
        OperatorError: its weights are not installed, or the cache cannot be written to.
    """
    if not settings.packaged:
        return
    folder = _folder(settings) / NAME / "1"
    try:
        await ensure_converted(folder, MANIFEST_FILE, MODULE, [NAME], settings.export_timeout_s)
    except ConversionFailed as error:
        raise OperatorError(f"The packaged model {NAME} cannot be made: {error}") from None
    except OSError as error:
        raise OperatorError(
            f"The packaged model {NAME} cannot be written to {folder}: {error.strerror}. "
            "Choose another folder with CATEGORIZER_MODELS__CACHE_PATH."
        ) from None


def _folder(settings: ModelSettings) -> Path:
    return settings.cache_path.expanduser() / f"packaged-{FORMAT}"
