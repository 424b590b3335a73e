"""Between values and messages, also those of a newer server."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
from google.protobuf.message import Message
from image_categorizer import _values, _wire
from image_categorizer.v1 import (
    admin_pb2,
    batch_pb2,
    classify_pb2,
    metadata_pb2,
    types_pb2,
)

NEW: Any = 99
CONVERSIONS: list[tuple[Callable[..., object], Message]] = [
    (_wire.batch, batch_pb2.Batch(state=NEW)),
    (_wire.webhook, admin_pb2.Webhook(state=NEW)),
    (_wire.delivery, admin_pb2.WebhookDelivery(state=NEW)),
    (_wire.model, metadata_pb2.Model(state=NEW, activation=NEW, localization=NEW)),
    (
        lambda wire: _wire.classification("a.jpg", wire),
        classify_pb2.ClassifyResponse(timing=types_pb2.Timing(batch_close_reason=NEW), cache=NEW),
    ),
]


def leaves(value):
    if is_dataclass(value):
        for field in fields(value):
            yield from leaves(getattr(value, field.name))
    elif isinstance(value, tuple):
        for entry in value:
            yield from leaves(entry)
    else:
        yield value


@pytest.mark.parametrize(("convert", "wire"), CONVERSIONS)
def test_unknown_enum_values_become_their_number(convert, wire):
    # Over the wire, as a newer server would send it.
    value = convert(type(wire).FromString(wire.SerializeToString()))
    assert str(NEW) in leaves(value)


@pytest.mark.parametrize(
    ("convert", "wire"),
    [
        *CONVERSIONS,
        (_wire.category, metadata_pb2.Category(ancestors=["animal"])),
        (_wire.server_info, metadata_pb2.ServerInfo(image_formats=["JPEG"])),
        (_wire.batch_result, batch_pb2.BatchResult(item_id="0")),
    ],
)
def test_answers_are_plain_values(convert, wire):
    found = list(leaves(convert(wire)))
    assert not any(isinstance(leaf, Message | list) for leaf in found)
    assert not any(type(leaf).__module__.startswith("google") for leaf in found)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (_values.Model, metadata_pb2.Model),
        (_values.Category, metadata_pb2.Category),
        (_values.Limits, metadata_pb2.Limits),
        (_values.ServerInfo, metadata_pb2.ServerInfo),
        (_values.Webhook, admin_pb2.Webhook),
        (_values.WebhookDelivery, admin_pb2.WebhookDelivery),
        (_values.WebhookAttempt, admin_pb2.WebhookAttempt),
        (_values.Prediction, types_pb2.Prediction),
        (_values.ModelRef, types_pb2.ModelRef),
        (_values.Timing, types_pb2.Timing),
    ],
)
def test_a_value_has_the_fields_of_its_message(value, message):
    assert {field.name for field in fields(value)} == set(message.DESCRIPTOR.fields_by_name)


def test_the_options_are_those_of_the_message():
    own = {"webhook_url", "request_id", "priority"}
    names = set(classify_pb2.ClassifyOptions.DESCRIPTOR.fields_by_name)
    assert set(_values.Options.__annotations__) == names
    assert set(_values.BatchOptions.__annotations__) == names | own


def test_a_version_may_be_a_number():
    assert _wire.classify_options({"version": 3}).version == "3"
    assert _wire.classify_options({"version": "stable"}).version == "stable"
    assert _wire.batch_config({"version": 3}).options.version == "3"
    for wrong in (None, 1.5, True):
        with pytest.raises(TypeError, match="version takes a str or an int"):
            _wire.classify_options({"version": wrong})


@pytest.mark.parametrize("name", ["include_categories", "exclude_categories"])
def test_a_single_category_where_many_are_expected_is_a_type_error(name):
    with pytest.raises(TypeError, match=f"{name} takes a list of names"):
        _wire.classify_options({name: "cat"})


def test_an_unknown_option_is_named():
    with pytest.raises(TypeError, match="unknown options: tok_k"):
        _wire.classify_options({"tok_k": 3})


def test_a_batch_has_a_request_id_by_which_it_can_be_sent_again():
    assert _wire.batch_config({}).request_id != _wire.batch_config({}).request_id
    assert _wire.batch_config({"request_id": "mine"}).request_id == "mine"


def test_a_bounding_box_has_four_edges_or_is_none():
    response = classify_pb2.ClassifyResponse(
        predictions=[
            types_pb2.Prediction(bounding_box=[1, 2, 3, 4]),
            types_pb2.Prediction(),
            types_pb2.Prediction(bounding_box=[1, 2, 3, 4, 5]),
        ]
    )
    boxes = [p.bounding_box for p in _wire.classification("", response).predictions]
    assert boxes == [(1, 2, 3, 4), None, None]


def test_a_confidence_before_calibration_may_be_zero_or_absent():
    response = classify_pb2.ClassifyResponse(
        predictions=[
            types_pb2.Prediction(raw_confidence=0.5),
            types_pb2.Prediction(raw_confidence=0),
            types_pb2.Prediction(),
        ]
    )
    found = _wire.classification("", response).predictions
    assert [p.raw_confidence for p in found] == [0.5, 0, None]


def test_each_object_has_a_box():
    edges = [
        types_pb2.BoundingBox(x_max=3, y_max=4),
        types_pb2.BoundingBox(x_min=5, y_min=6, x_max=7, y_max=8),
    ]
    prediction = types_pb2.Prediction(bounding_box=[0, 0, 3, 4], bounding_boxes=edges)
    response = classify_pb2.ClassifyResponse(predictions=[prediction])
    (found,) = _wire.classification("", response).predictions
    assert found.bounding_boxes == ((0, 0, 3, 4), (5, 6, 7, 8))
