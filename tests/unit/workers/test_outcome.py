"""What errors mean for an image."""

import image_categorizer as sdk
import pytest
from image_categorizer_server import errors
from image_categorizer_workers.outcome import (
    BatchFails,
    ItemFails,
    RetryLater,
    RetryLimited,
    outcome_of,
)
from image_categorizer_workers.streams import CallFailed


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (sdk.InvalidRequest("too dark"), ItemFails),
        (sdk.ModelNotFound("no model"), BatchFails),
        (sdk.CategoryNotFound("no category"), BatchFails),
        (sdk.Unavailable("busy"), RetryLater),
        (sdk.Unauthenticated("no key"), RetryLater),
        (sdk.RoleInsufficient("no right"), RetryLater),
        (CallFailed(sdk.InvalidRequest("wrong options")), BatchFails),
        (CallFailed(sdk.ModelNotFound("no model")), BatchFails),
        (CallFailed(sdk.RoleInsufficient("no right")), RetryLater),
        (CallFailed(sdk.Unavailable("gone")), RetryLater),
        (errors.ImageUnreachable("gone"), ItemFails),
        (errors.NotFound("the image is no longer stored"), ItemFails),
        (errors.DependencyDown("down"), RetryLater),
        (ConnectionResetError(), RetryLater),
        (TimeoutError(), RetryLater),
        (ZeroDivisionError(), RetryLimited),
    ],
)
def test_an_error_fails_the_image_or_its_batch_or_is_tried_again(error, outcome):
    assert isinstance(outcome_of(error), outcome)


def test_an_image_keeps_the_reason_of_its_error():
    outcome = outcome_of(errors.ImageUnreachable("the image cannot be fetched"))
    assert isinstance(outcome, ItemFails)
    assert outcome.error.reason == "IMAGE_UNREACHABLE"
    assert outcome.error.message == "the image cannot be fetched"
