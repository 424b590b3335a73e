"""Options of a classification, from and to the wire."""

from dataclasses import fields

import pytest
from image_categorizer.v1.batch_pb2 import BatchConfig, CreateBatchRequest, UploadBatchFormRequest
from image_categorizer.v1.classify_pb2 import ClassifyOptions, ClassifyUploadRequest
from image_categorizer_server.domain.classification import ClassifyOptions as Domain
from image_categorizer_server.errors import InvalidRequest
from image_categorizer_server.rpc.options import (
    copy_fields,
    options_from_wire,
    options_in,
    options_to_wire,
)

MAX_CATEGORIES = 3
WRONG_VERSION = "must be a number from 1 up, an alias such as stable, or empty"
ALL = Domain(
    model="small",
    version=3,
    confidence_threshold=0.25,
    top_k=2,
    include_categories=("cat", "dog"),
    exclude_categories=("dog",),
    bounding_boxes=True,
    explain=True,
    no_cache=True,
    roll_up=True,
    raw_confidence=True,
    store=True,
    subject_id="ann",
    blur=("1,2,3,4", "percent:0,0,50.5,50"),
)


def test_the_domain_has_the_fields_of_the_proto_and_of_every_request_that_contains_them():
    names = {field.name for field in fields(Domain)}
    assert names == set(ClassifyOptions.DESCRIPTOR.fields_by_name)
    assert names < set(ClassifyUploadRequest.DESCRIPTOR.fields_by_name)
    assert names - {"explain", "blur"} < set(UploadBatchFormRequest.DESCRIPTOR.fields_by_name)
    assert [n for n in names if getattr(ALL, n) == getattr(Domain(), n)] == []


@pytest.mark.parametrize(
    "options", [Domain(), ALL, Domain(version="stable"), Domain(roll_up=False)]
)
def test_options_survive_the_way_there_and_back(options):
    assert options_from_wire(options_to_wire(options), MAX_CATEGORIES) == options


def test_a_request_that_contains_the_fields_gives_the_same_options():
    wire = options_to_wire(ALL)
    request = ClassifyUploadRequest(webhook_url="https://example.com")
    copy_fields(wire, request)
    assert options_in(request) == wire


def test_unset_fields_stay_unset():
    assert not options_in(ClassifyUploadRequest(model="m")).HasField("top_k")
    assert options_in(ClassifyUploadRequest(top_k=0)).HasField("top_k")


def test_messages_are_copied_too():
    config = BatchConfig()
    request = CreateBatchRequest(options=ClassifyOptions(model="m"), request_id="r", priority=-2)
    request.items.add(image=b"x")
    copy_fields(request, config)
    assert config == BatchConfig(options=request.options, request_id="r", priority=-2)


def test_defaults_are_those_of_the_contract():
    assert options_from_wire(ClassifyOptions(), MAX_CATEGORIES) == Domain()
    assert (Domain().top_k, Domain().confidence_threshold) == (5, 0)


@pytest.mark.parametrize(
    ("fields", "violation"),
    [
        ({"confidence_threshold": 7}, ("options.confidence_threshold", "must be in [0, 1], is 7")),
        (
            {"confidence_threshold": float("nan")},
            ("options.confidence_threshold", "must be in [0, 1], is nan"),
        ),
        ({"top_k": -1}, ("options.top_k", "must be at least 1, is -1")),
        ({"top_k": 0}, ("options.top_k", "must be at least 1, is 0")),
        (
            {"version": "Latest"},
            ("options.version", WRONG_VERSION),
        ),
        (
            {"version": "0"},
            ("options.version", WRONG_VERSION),
        ),
        ({"model": "m" * 257}, ("options.model", "must have at most 256 characters")),
        (
            {"include_categories": list("abcd")},
            ("options.include_categories", "must have at most 3 names, has 4"),
        ),
        (
            {"exclude_categories": [""]},
            ("options.exclude_categories", "must have names of 1 to 256 characters"),
        ),
    ],
)
def test_each_wrong_field_is_named(fields, violation):
    with pytest.raises(InvalidRequest) as caught:
        options_from_wire(ClassifyOptions(**fields), MAX_CATEGORIES, "options.")
    assert caught.value.violations == [violation]


@pytest.mark.parametrize(
    ("text", "version"), [("", None), ("12", 12), ("stable", "stable"), ("a-1", "a-1")]
)
def test_a_version_is_a_number_or_an_alias(text, version):
    assert options_from_wire(ClassifyOptions(version=text), MAX_CATEGORIES).version == version


def test_all_wrong_fields_are_named_at_once():
    with pytest.raises(InvalidRequest) as caught:
        options_from_wire(
            ClassifyOptions(confidence_threshold=-1, top_k=0, version="-"), MAX_CATEGORIES
        )
    assert [field for field, _ in caught.value.violations] == [
        "version",
        "confidence_threshold",
        "top_k",
    ]
    assert "top_k: must be at least 1, is 0" in caught.value.message
