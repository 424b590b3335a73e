"""Replays: the image of a result is classified again, by the same version, and compared."""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from image_categorizer_server.domain.classification import Caller, Classification
from image_categorizer_server.domain.image import ImageResult
from image_categorizer_server.domain.receipt import Difference, are_alike, distance
from image_categorizer_server.domain.usage import Usage
from image_categorizer_server.errors import ReceiptMissing
from image_categorizer_server.inference.classifier import Classifier
from image_categorizer_server.inference.models.registry import Registry
from image_categorizer_server.services.image import Images
from image_categorizer_server.services.receipt import find_of_image
from image_categorizer_server.services.usage import UsageMeter
from image_categorizer_server.version import VERSION


@dataclass(frozen=True, slots=True)
class Replay:
    """What a model version answers now, and how that differs from a result."""

    answer: Classification
    matches: bool
    max_difference: float
    """Of confidences."""
    differences: tuple[Difference, ...]


class Replays:
    """Classifies the images of results again."""

    def __init__(
        self, registry: Registry, classifier: Classifier, images: Images, meter: UsageMeter
    ) -> None:
        """Configures it.

        Args:
            registry: loads the version.
            classifier: classifies with it.
            images: keeps the images.
            meter: counts the image.
        """
        self._registry = registry
        self._classifier = classifier
        self._images = images
        self._meter = meter

    async def replay(self, result_id: str, caller: Caller) -> Replay:
        """Returns what the version of a result answers now.

        Raises:
            ResultNotFound: the tenant has no such result of a stored image.
            ReceiptMissing: it was stored without its options.
            ModelNotFound: the version is gone, or unloaded.
            CategorizerError: see `Images.content`, `Registry.demand` and `Classifier.classify`.
        """
        result = await find_of_image(caller.tenant_id, result_id)
        if result.options is None:
            raise ReceiptMissing("an earlier release stored the result, without its options")
        content = await self._images.content(caller.tenant_id, result.image_id)
        name, version = result.model.name, result.model.version
        options = replace(
            result.options, model=name, version=version, bounding_boxes=False, explain=False
        )
        await self._registry.demand(name, version, content, caller)
        # Filters that the model cannot know were those of the tenant's categories.
        own = {*options.include_categories, *options.exclude_categories}
        answer = await self._classifier.classify(content, options, caller, own=own)
        self._meter.count(caller, name, Usage(images=1, bytes=len(content)))
        predictions = tuple(answer.predictions)
        return Replay(
            answer,
            are_alike(result.predictions, predictions),
            distance(result.predictions, predictions),
            tuple(_differences(result, content, answer)),
        )


def _differences(
    result: ImageResult, content: bytes, answer: Classification
) -> Iterator[Difference]:
    recorded = {
        "input": f"sha256:{result.input_sha256}",
        "model": result.model.digest,
        **asdict(result.digests),
        "server_version": result.server_version,
    }
    current = {
        "input": f"sha256:{hashlib.sha256(content).hexdigest()}",
        "model": answer.model.digest,
        **asdict(answer.digests),
        "server_version": VERSION,
    }
    for name, value in recorded.items():
        if value != current[name]:
            yield Difference(name, value, current[name])
