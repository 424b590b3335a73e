"""The Python client of Image Categorizer: sorts photographs into categories.

from image_categorizer import ImageCategorizationClient

client = ImageCategorizationClient(api_key="ic_...", base_url="localhost:8080")
result = client.classify_image("cat.jpg")
print(result.category, result.confidence)
"""

from image_categorizer._calls import Classification, Image, ModelRef, Options, Prediction, Timing
from image_categorizer._streams import Lane, Progress, Result, Source, image_files
from image_categorizer.aio import AsyncImageCategorizationClient
from image_categorizer.client import ImageCategorizationClient
from image_categorizer.errors import (
    BatchNotFound,
    BatchRunning,
    BatchTooLarge,
    CategorizerError,
    CategoryNotFound,
    CredentialsInvalid,
    CredentialsMissing,
    DeadlineExceeded,
    DeadlineUnreachable,
    DependencyDown,
    Draining,
    FailedPrecondition,
    ImageTooLarge,
    ImageUnreachable,
    InvalidRequest,
    ItemKilledWorkers,
    ModelFailed,
    ModelFailing,
    ModelInUse,
    ModelLoading,
    ModelNotFound,
    NotFound,
    Overloaded,
    RequestIdReused,
    RoleInsufficient,
    TooManyPixels,
    Unauthenticated,
    Unavailable,
    UnclassifiableImage,
    UndecodableImage,
    UnsupportedFormat,
)

__all__ = [
    "AsyncImageCategorizationClient",
    "BatchNotFound",
    "BatchRunning",
    "BatchTooLarge",
    "CategorizerError",
    "CategoryNotFound",
    "Classification",
    "CredentialsInvalid",
    "CredentialsMissing",
    "DeadlineExceeded",
    "DeadlineUnreachable",
    "DependencyDown",
    "Draining",
    "FailedPrecondition",
    "Image",
    "ImageCategorizationClient",
    "ImageTooLarge",
    "ImageUnreachable",
    "InvalidRequest",
    "ItemKilledWorkers",
    "Lane",
    "ModelFailed",
    "ModelFailing",
    "ModelInUse",
    "ModelLoading",
    "ModelNotFound",
    "ModelRef",
    "NotFound",
    "Options",
    "Overloaded",
    "Prediction",
    "Progress",
    "RequestIdReused",
    "Result",
    "RoleInsufficient",
    "Source",
    "Timing",
    "TooManyPixels",
    "Unauthenticated",
    "Unavailable",
    "UnclassifiableImage",
    "UndecodableImage",
    "UnsupportedFormat",
    "image_files",
]
