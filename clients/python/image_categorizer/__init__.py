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
    InvalidRequest,
    ModelFailed,
    ModelFailing,
    ModelInUse,
    ModelLoading,
    ModelNotFound,
    NotFound,
    Overloaded,
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
    "InvalidRequest",
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
