"""Converts between the clients' values about labelled sets and protobuf messages."""

from collections.abc import Mapping
from datetime import datetime

from image_categorizer._dataset_values import DuplicateGroup
from image_categorizer._image_wire import words
from image_categorizer._review_wire import set_time
from image_categorizer.v1 import dataset_pb2, duplicate_pb2


def export_request(given: Mapping[str, object]) -> dataset_pb2.ExportDatasetRequest:
    """Returns the request for an export.

    Raises:
        TypeError: an option is unknown or of the wrong type, or a time has no time zone.
    """
    request = dataset_pb2.ExportDatasetRequest()
    if unknown := set(given) - set(request.DESCRIPTOR.fields_by_name):
        raise TypeError(f"unknown options: {', '.join(sorted(unknown))}")
    for name, value in given.items():
        if isinstance(value, datetime):
            set_time(request, name, value)
        elif name == "tags":
            request.tags.extend(words(value))
        elif value is not None:
            setattr(request, name, value)
    return request


def duplicate_group(wire: duplicate_pb2.DuplicateGroup) -> DuplicateGroup:
    """Returns images that look alike."""
    return DuplicateGroup(wire.image_count, tuple(wire.image_ids))
