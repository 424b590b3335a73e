"""Converts protobuf messages about receipts to the clients' values."""

from image_categorizer._receipt_values import (
    Receipt,
    ReplayDifference,
    ResultReplay,
    ResultVerification,
)
from image_categorizer._wire import model_ref, prediction
from image_categorizer.v1 import receipt_pb2


def receipt(wire: receipt_pb2.Receipt) -> Receipt:
    """Returns a receipt."""
    return Receipt(wire.result_id, wire.receipt, wire.key_id)


def verification(wire: receipt_pb2.ResultVerification) -> ResultVerification:
    """Returns what is right, and wrong, with a receipt."""
    return ResultVerification(
        valid=wire.valid,
        key_known=wire.key_known,
        signature_valid=wire.signature_valid,
        result_unchanged=wire.result_unchanged,
        problems=tuple(wire.problems),
        result_id=wire.result_id,
    )


def replay(wire: receipt_pb2.ResultReplay) -> ResultReplay:
    """Returns what a version answers now."""
    return ResultReplay(
        matches=wire.matches,
        max_difference=wire.max_difference,
        predictions=tuple(map(prediction, wire.predictions)),
        model=model_ref(wire.model),
        differences=tuple(
            ReplayDifference(each.name, each.recorded, each.current) for each in wire.differences
        ),
    )


def key_set(wire: receipt_pb2.ReceiptKeys) -> dict[str, list[dict[str, str]]]:
    """Returns public keys as a JSON Web Key Set."""
    names = [field.name for field in receipt_pb2.ReceiptKey.DESCRIPTOR.fields]
    return {"keys": [{name: str(getattr(key, name)) for name in names} for key in wire.keys]}
