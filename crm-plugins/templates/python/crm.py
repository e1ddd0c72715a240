"""Between the host's typed fields and dictionaries, in the form of the HTTP API: decimals, instants,
dates, times and ids are strings."""

import functools
import json

from componentize_py_types import Err
from wit_world.imports import types

_VALUES = {
    bool: types.Value_Boolean,
    int: types.Value_Integer,
    str: types.Value_Text,
}


def read(fields):
    """A record's fields as a dictionary."""
    return {field.name: _plain(field.value) for field in fields or []}


def _plain(value):
    if isinstance(value, types.Value_Null):
        return None
    if isinstance(value, types.Value_Json):
        return json.loads(value.value)
    return value.value


def write(values):
    """A dictionary as fields to write."""
    return [types.Field(name, _typed(value)) for name, value in values.items()]


def _typed(value):
    if value is None:
        return types.Value_Null()
    kind = _VALUES.get(type(value))
    return kind(value) if kind else types.Value_Json(json.dumps(value))


def reason(error):
    """Why a call of the host did nothing, as one sentence."""
    error = error.value if isinstance(error, Err) else error
    if isinstance(error, types.Error_Invalid):
        return " ".join(f"{field.pointer}: {field.message}" for field in error.value)
    if isinstance(error, Exception):
        return f"{type(error).__name__}: {error}"
    name = type(error).__name__.removeprefix("Error_")
    return f"{name}: {error.value}" if hasattr(error, "value") else str(name)


def plugin(run):
    """The function with what it raises made the run's error."""

    @functools.wraps(run)
    def caught(self, value):
        try:
            return run(self, value)
        except Exception as error:
            raise Err(reason(error)) from error

    return caught
