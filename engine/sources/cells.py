"""The cells of a row as JSON has them, whatever table, data set or data frame they come from."""

import math
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from engine.base.foreign_json import WrongShape
from engine.config.sources import FieldsConfig


def cell(row: Mapping[str, Any], column: str) -> Any:
    """What a column holds as JSON; None where there is none. `answers.text` is within the column `answers`.

    Raises:
        WrongShape: it holds something that JSON has not, or is nested too deeply.
    """
    value: Any = row.get(column)
    if column not in row and "." in column:
        value = row
        for step in column.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
    try:
        return as_json(value, column)
    except RecursionError:
        raise WrongShape(f"{column}: nested too deeply") from None


def choices_of(row: Mapping[str, Any], fields: FieldsConfig) -> Any:
    """The choices of a row as its data set has them; None where there are none.

    Columns whose names are letters are their choices' labels. Raises WrongShape as `cell`, or for a missing column.
    """
    if fields.choice_columns is None:
        return cell(row, fields.choices)
    if missing := [name for name in fields.choice_columns if not has(row, name)]:
        raise WrongShape(f"there is no column `{missing[0]}`")
    texts = {name: cell(row, name) for name in fields.choice_columns}
    return texts if all(len(name) == 1 for name in texts) else list(texts.values())


def has(row: Mapping[str, Any], column: str) -> bool:
    """Whether a row has such a column, be it empty."""
    return column in row or column.partition(".")[0] in row


def as_json(value: Any, place: str = "") -> Any:
    """A value of a table as JSON: NaN and NaT as null, decimals as numbers, dates as text, lists within lists too.

    Raises:
        WrongShape: bytes that are no text, or a thing of another kind.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, list | tuple):
        return [as_json(one, place) for one in value]
    if isinstance(value, Mapping):
        return {str(key): as_json(one, place) for key, one in value.items()}
    if isinstance(value, Decimal):
        return _number(value)
    if isinstance(value, datetime):
        # NaT is the one time that is not itself; a date in a column of times stands at midnight.
        midnight = value.tzinfo is None and value.time() == time() if value == value else None
        return None if midnight is None else (value.date() if midnight else value).isoformat()
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return str(value)
    if isinstance(value, bytes | bytearray):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            raise WrongShape(f"{place}: expected text, found bytes that are no UTF-8") from None
    if hasattr(value, "tolist"):  # of numpy
        return as_json(value.tolist(), place)
    raise WrongShape(f"{place}: expected text, found a {type(value).__name__}")


def _number(value: Decimal) -> int | float | str | None:
    """The same number; as text where neither an integer nor a float is the same, null for NaN."""
    if value.is_nan():
        return None
    if not value.is_finite() or abs(value.adjusted()) > 300:
        return float(value)
    if value == value.to_integral_value():
        return int(value)
    return float(value) if Decimal(repr(float(value))) == value else format(value.normalize(), "f")
