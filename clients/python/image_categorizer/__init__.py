"""The Python client of Image Categorizer: sorts photographs into categories.

from image_categorizer import ImageCategorizationClient

client = ImageCategorizationClient(api_key="ic_...", base_url="localhost:8080")
result = client.classify_image("cat.jpg")
print(result.category, result.confidence)
"""

from image_categorizer._calls import Classification, Image, ModelRef, Options, Prediction, Timing
from image_categorizer.aio import AsyncImageCategorizationClient
from image_categorizer.client import ImageCategorizationClient
from image_categorizer.errors import (
    CategorizerError,
    CategoryNotFound,
    CredentialsInvalid,
    CredentialsMissing,
    DeadlineExceeded,
    DependencyDown,
    Draining,
    ImageTooLarge,
    InvalidRequest,
    ModelLoading,
    ModelNotFound,
    NotFound,
    Overloaded,
    RoleInsufficient,
    TooManyPixels,
    Unauthenticated,
    Unavailable,
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
    "DependencyDown",
    "Draining",
    "Image",
    "ImageCategorizationClient",
    "ImageTooLarge",
    "InvalidRequest",
    "ModelLoading",
    "ModelNotFound",
    "ModelRef",
    "NotFound",
    "Options",
    "Overloaded",
    "Prediction",
    "RoleInsufficient",
    "Timing",
    "TooManyPixels",
    "Unauthenticated",
    "Unavailable",
    "UndecodableImage",
    "UnsupportedFormat",
]
