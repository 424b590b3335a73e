"""Converts between the clients' values about categories of one's own and protobuf messages."""

from collections.abc import Sequence
from datetime import UTC

from image_categorizer._category_values import CategoryHead, HeadTrial, OwnCategory
from image_categorizer._wire import model_ref, name_of, version_text
from image_categorizer.v1 import category_pb2

Kind = category_pb2.CategoryHead.Kind


def create_request(
    category: str, examples: Sequence[bytes], image_ids: Sequence[str], subject_id: str
) -> category_pb2.CreateCategoryRequest:
    """Returns the request that creates a category."""
    return category_pb2.CreateCategoryRequest(
        category=category, examples=examples, image_ids=image_ids, subject_id=subject_id
    )


def add_request(
    category: str, examples: Sequence[bytes], image_ids: Sequence[str], subject_id: str
) -> category_pb2.AddCategoryExamplesRequest:
    """Returns the request that adds examples."""
    return category_pb2.AddCategoryExamplesRequest(
        category=category, examples=examples, image_ids=image_ids, subject_id=subject_id
    )


def head_request(model: str, version: object) -> category_pb2.GetCategoryHeadRequest:
    """Returns the request that asks what decides."""
    return category_pb2.GetCategoryHeadRequest(model=model, version=version_text(version))


def category(wire: category_pb2.OwnCategory) -> OwnCategory:
    """Returns a category."""
    return OwnCategory(
        category=wire.category,
        example_count=wire.example_count,
        create_time=wire.create_time.ToDatetime(UTC),
        image_ids=tuple(wire.image_ids),
    )


def head(wire: category_pb2.CategoryHead) -> CategoryHead:
    """Returns what decides."""
    return CategoryHead(
        model=model_ref(wire.model),
        kind=name_of(Kind.Name, wire.kind),
        example_count=wire.example_count,
        fitting=wire.fitting,
        trial=_trial(wire.trial) if wire.HasField("trial") else None,
    )


def _trial(wire: category_pb2.HeadTrial) -> HeadTrial:
    return HeadTrial(
        create_time=wire.create_time.ToDatetime(UTC),
        total_count=wire.total_count,
        right_count=wire.right_count,
        baseline_right_count=wire.baseline_right_count,
        promoted=wire.promoted,
        refusal=wire.refusal,
    )
