"""The configuration of a batch, and the names and URIs of its items."""

import pytest
from image_categorizer.v1.batch_pb2 import BatchConfig
from image_categorizer.v1.classify_pb2 import ClassifyOptions
from image_categorizer_server.errors import InvalidRequest
from image_categorizer_server.rpc.batch.validation import (
    BatchLimits,
    batch_config,
    image_uri,
    name_of,
)

LIMITS = BatchLimits(
    max_page_bytes=2**20,
    max_items=10,
    max_filter_categories=3,
    max_url_characters=100,
    allow_http=False,
)


def test_every_wrong_field_of_a_configuration_is_named():
    config = BatchConfig(
        options=ClassifyOptions(top_k=0, confidence_threshold=2),
        webhook_url="http://example.com",
        request_id="r" * 65,
        priority=11,
    )
    with pytest.raises(InvalidRequest) as caught:
        batch_config(config, LIMITS, options_prefix="options.")
    assert [field for field, _ in caught.value.violations] == [
        "options.confidence_threshold",
        "options.top_k",
        "webhook_url",
        "request_id",
        "priority",
    ]


def test_heat_maps_are_not_for_batches():
    config = BatchConfig(options=ClassifyOptions(explain=True))
    with pytest.raises(InvalidRequest, match="config.options.explain: is not supported in batches"):
        batch_config(config, LIMITS, "config.", "config.options.")


@pytest.mark.parametrize(
    ("uri", "is_right"),
    [
        ("https://example.com/a.jpg", True),
        ("s3://bucket/a.jpg", True),
        ("gs://bucket/a.jpg", True),
        ("az://container/a.jpg", True),
        ("http://example.com/a.jpg", False),
        ("file:///etc/passwd", False),
        ("https://", False),
        ("https:///a", False),
        ("https://[::1", False),
        ("https://example.com/a b", False),
        ("https://example.com/a\n", False),
        ("https://example.com/" + "a" * 100, False),
        ("", False),
    ],
)
def test_images_come_by_known_schemes_only(uri, is_right):
    assert (image_uri(uri, LIMITS) == "") is is_right


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("https://example.com/photos/a%20b.jpg?size=3", "a b.jpg"),
        ("s3://bucket/photos/", "7"),
        ("https://example.com", "7"),
    ],
)
def test_an_item_without_a_name_is_called_by_the_end_of_its_address(uri, name):
    assert name_of(uri, 7) == name
