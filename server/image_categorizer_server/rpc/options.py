"""Options of a classification: the one conversion between wire and domain."""

from collections.abc import Sequence
from dataclasses import fields, replace

from google.protobuf.message import Message
from image_categorizer.v1 import classify_pb2

from image_categorizer_server.access.roles import authorize_scope
from image_categorizer_server.domain.access import Scope
from image_categorizer_server.domain.blur import rectangles_of
from image_categorizer_server.domain.classification import DEFAULT_TOP_K, ClassifyOptions
from image_categorizer_server.errors import InvalidRequest
from image_categorizer_server.rpc.call import current_call
from image_categorizer_server.rpc.validation import (
    MAX_NAME_CHARACTERS,
    raise_if_any,
    version_or_alias,
)

# The domain's fields have the names of the proto's; a test holds them equal.
NAMES = tuple(field.name for field in fields(ClassifyOptions))
FILTERS = ("include_categories", "exclude_categories")


def copy_fields(source: Message, target: Message) -> None:
    """Copies the fields of `source` that `target` has by the same name.

    Some requests contain the fields of `ClassifyOptions` or `BatchConfig` themselves: query
    parameters and form fields are flat.
    """
    for field, value in source.ListFields():
        if field.name not in target.DESCRIPTOR.fields_by_name:
            continue
        if field.is_repeated:
            getattr(target, field.name).extend(value)
        elif field.message_type is not None:
            getattr(target, field.name).CopyFrom(value)
        else:
            setattr(target, field.name, value)


def options_in(request: Message) -> classify_pb2.ClassifyOptions:
    """Returns the options of a request that contains their fields itself."""
    options = classify_pb2.ClassifyOptions()
    copy_fields(request, options)
    return options


def options_from_wire(
    wire: classify_pb2.ClassifyOptions,
    max_filter_categories: int,
    prefix: str = "",
    *,
    is_batch: bool = False,
) -> ClassifyOptions:
    """Returns validated options.

    Args:
        wire: options of a request.
        max_filter_categories: maximum number of names in one filter.
        prefix: precedes the field names in error messages, such as `options.`.
        is_batch: whether images are kept also without `store`.

    Raises:
        InvalidRequest: names every invalid field.
    """
    wrong: list[tuple[str, str]] = []
    if len(wire.model) > MAX_NAME_CHARACTERS:
        wrong.append(("model", f"must have at most {MAX_NAME_CHARACTERS} characters"))
    version = version_or_alias(wire.version, wrong)
    threshold = wire.confidence_threshold
    if not 0 <= threshold <= 1:
        wrong.append(("confidence_threshold", f"must be in [0, 1], is {threshold:g}"))
    top_k = wire.top_k if wire.HasField("top_k") else DEFAULT_TOP_K
    if top_k < 1:
        wrong.append(("top_k", f"must be at least 1, is {top_k}"))
    values: dict[str, object] = {name: getattr(wire, name) for name in NAMES}
    roll_up = wire.roll_up if wire.HasField("roll_up") else None
    values |= {"version": version, "top_k": top_k, "roll_up": roll_up}
    for name in FILTERS:
        names = tuple(getattr(wire, name))
        values[name] = names
        if len(names) > max_filter_categories:
            text = f"must have at most {max_filter_categories} names, has {len(names)}"
            wrong.append((name, text))
        elif any(not 1 <= len(category) <= MAX_NAME_CHARACTERS for category in names):
            wrong.append((name, f"must have names of 1 to {MAX_NAME_CHARACTERS} characters"))
    values["blur"] = tuple(wire.blur)
    wrong += wrong_blur(wire.blur, is_kept=wire.store or is_batch)
    raise_if_any(wrong, prefix)
    return ClassifyOptions(**values)  # type: ignore[arg-type]  # the proto has the same types


def wrong_blur(texts: Sequence[str], *, is_kept: bool) -> list[tuple[str, str]]:
    """Returns what is wrong with rectangles to blur: fields, each with a message.

    Args:
        texts: the rectangles, as they were sent.
        is_kept: whether the image is kept.
    """
    wrong = [("blur", "needs store")] if texts and not is_kept else []
    try:
        rectangles_of(texts)
    except InvalidRequest as error:
        wrong.extend(error.violations)
    return wrong


def with_blur(options: ClassifyOptions, more: Sequence[str]) -> ClassifyOptions:
    """Returns options of a stream with rectangles of one image beside those of all.

    Raises:
        InvalidRequest: one is malformed, there are too many, or nothing is kept.
    """
    blur = (*options.blur, *more)
    raise_if_any(wrong_blur(blur, is_kept=options.store), "item.")
    return replace(options, blur=blur)


def refuse_blur(options: ClassifyOptions, prefix: str, text: str) -> None:
    """Passes options that blur nothing.

    Raises:
        InvalidRequest: with the text, they do.
    """
    if options.blur:
        raise InvalidRequest.of([(f"{prefix}blur", text)])


def authorize_store(options: ClassifyOptions) -> None:
    """Passes options that keep no images, or whose caller may store them.

    Raises:
        RoleInsufficient: the caller is limited to other scopes.
    """
    if options.store:
        principal = current_call.get().principal
        assert principal is not None
        authorize_scope(principal, Scope.IMAGES_WRITE, "to store images")


def options_to_wire(options: ClassifyOptions) -> classify_pb2.ClassifyOptions:
    """Returns options as a message."""
    values = {name: getattr(options, name) for name in NAMES}
    values["version"] = "" if options.version is None else str(options.version)
    return classify_pb2.ClassifyOptions(**values)
