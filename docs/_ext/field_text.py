"""What a field of a pydantic model takes, and its default, in words for a table."""

from __future__ import annotations

import types
import typing
from typing import Any

from pydantic.fields import FieldInfo

_WORDS = {
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "`true` or `false`",
    "SecretStr": "text (secret)",
}


def takes(field: FieldInfo) -> str:
    """``whole number, 1 to 1024``."""
    return ", ".join(filter(None, [_kind(field.annotation), _limits(field)]))


def default(field: FieldInfo) -> str:
    """``default 8``, as one would write it; the machine's own values by where they come from."""
    if field.default_factory is not None:
        made = getattr(field.default_factory, "__name__", "")
        return {"gethostname": "default the machine's name"}.get(made, "default empty")
    value = field.default
    if field.is_required():
        return "must be given"
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    if value is None or value == "" or isinstance(value, dict | list):
        return "default none"
    if hasattr(type(value), "model_fields"):
        return "default below"
    return f"default `{str(value).lower() if isinstance(value, bool) else value}`"


def _kind(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _kind(arguments[0])
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_kind(each) for each in arguments if each is not type(None))
    if origin is typing.Literal:
        return ", ".join(f"`{each}`" for each in arguments)
    if origin is tuple:
        return "names, comma-separated"
    if origin is dict:
        return "names with values"
    name = getattr(annotation, "__name__", str(annotation))
    return _WORDS.get(name, f"`{name}`")


def _limits(field: FieldInfo) -> str:
    found = {}
    for constraint in field.metadata:
        for name in ("ge", "gt", "le", "lt", "max_length", "pattern"):
            if getattr(constraint, name, None) is not None:
                found[name] = getattr(constraint, name)
    if "pattern" in found:
        return f"`{found['pattern']}`"
    low = f"{found['ge']:g}" if "ge" in found else (f"more than {found['gt']:g}" if "gt" in found else "")
    high = f"{found['le']:g}" if "le" in found else ""
    if low and high:
        return f"{low} to {high}"
    if low and "gt" not in found:
        return f"{low} or more"
    if "max_length" in found:
        return f"at most {found['max_length']} characters"
    return low or (f"at most {high}" if high else "")
