"""Values as rows of a table."""

import dataclasses
import importlib.util
from collections.abc import Iterable
from typing import TYPE_CHECKING

from image_categorizer.errors import CategorizerError

if TYPE_CHECKING:
    import pandas

# The columns that come first, where they exist.
FIRST = ("key", "filename", "category", "confidence", "error")
# Values whose fields need no name in front of theirs.
TRANSPARENT = ("classification",)


def to_pandas(values: Iterable[object]) -> "pandas.DataFrame":
    """Returns values as a pandas data frame with a row for each.

        frame = to_pandas(result for result in results if result.error is None)
        print(frame.groupby("category").confidence.mean())

    The columns are the fields of the values; those of a value in a value have its name in front,
    such as `model_name`. `category` and `confidence` are those of the best prediction,
    `predictions` is a dictionary from categories to confidences, `error` the reason of a failure.
    Heat maps, secrets and the failures of batches are left out. `image-categorizer[notebook]`
    installs pandas.

    Args:
        values: answers of this package, such as results, images or batches.

    Raises:
        ImportError: pandas is not installed.
        TypeError: a value is none of this package's.
    """
    require_pandas()
    import pandas

    return pandas.DataFrame([row(value) for value in values])


def require_pandas() -> None:
    """Does nothing if pandas is installed.

    Raises:
        ImportError: it is not.
    """
    if importlib.util.find_spec("pandas") is None:
        raise ImportError("to_pandas needs pandas: pip install 'image-categorizer[notebook]'")


def row(value: object) -> dict[str, object]:
    """Returns the columns of one value, by name.

    Raises:
        TypeError: it is none of this package's.
    """
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        raise TypeError(f"a row is an answer of this package, not {type(value).__name__}")
    cells: dict[str, object] = {}
    if hasattr(value, "predictions"):
        names = "filename", "category", "confidence"  # some of them are properties
        cells = {name: getattr(value, name) for name in names if hasattr(value, name)}
    for field in dataclasses.fields(value):
        if field.repr:
            cells |= _columns(field.name, getattr(value, field.name))
    first = {name: cells[name] for name in FIRST if name in cells}
    return first | cells


def _columns(name: str, value: object) -> dict[str, object]:
    if name == "predictions" and isinstance(value, tuple):
        return {name: {one.category: one.confidence for one in value}}
    if isinstance(value, CategorizerError):
        return {name: value.reason or str(value)}
    if isinstance(value, OSError):
        return {name: value.strerror or str(value)}
    if isinstance(value, tuple):
        return {name: [row(one) if dataclasses.is_dataclass(one) else one for one in value]}
    if not dataclasses.is_dataclass(value):
        return {name: value} if value is not None or name not in TRANSPARENT else {}
    inner = row(value)
    if name in TRANSPARENT:
        return inner
    return {f"{name}_{column}": cell for column, cell in inner.items()}
