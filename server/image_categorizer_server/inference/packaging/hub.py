"""Downloads models from the Hugging Face Hub."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.packaging.folder import FILES

WELL_KNOWN = {
    "resnet50": "microsoft/resnet-50",
    "efficientnet_b0": "google/efficientnet-b0",
    "mobilenet_v2": "google/mobilenet_v2_1.0_224",
}


def local_name(name: str) -> str:
    """Returns the local name of a downloaded model."""
    return name.rpartition("/")[2].lower()


@contextmanager
def downloaded(name: str) -> Iterator[tuple[Path, str]]:
    """Yields a folder with the model's files, and their origin.

    Raises:
        OperatorError: there is no such model, or the hub cannot be reached. One of the body names
            the model instead of the folder.
    """
    repository = WELL_KNOWN.get(name, name)
    if "/" not in repository:
        raise OperatorError(
            f"'{name}' is not one of {', '.join(WELL_KNOWN)}; "
            "use owner/name for other models on the hub."
        )
    with tempfile.TemporaryDirectory(prefix="image-categorizer-") as folder:
        try:
            snapshot_download(repository, local_dir=folder, allow_patterns=[*FILES, "README.md"])
        except RepositoryNotFoundError:
            raise OperatorError(f"The Hugging Face Hub has no public model {repository}.") from None
        except (HfHubHTTPError, OSError) as error:  # a lost network is an OSError
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise OperatorError(
                f"Cannot reach the Hugging Face Hub ({first}). "
                f"Download {repository} on another machine and add its folder: "
                f"image-categorizer models add {local_name(name)} FOLDER"
            ) from None
        try:
            yield Path(folder), f"hugging face: {repository}"
        except OperatorError as error:
            raise OperatorError(str(error).replace(folder, repository)) from None
