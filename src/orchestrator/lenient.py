"""An event of another version, as far as it can be understood. Pure.

The same names have stood for other types before: what does not fit is left out, and the rest
still says what happened.
"""

from __future__ import annotations

from typing import Any, get_args

import msgspec

from . import events as ev

_BY_TAG: dict[str, type[ev.JobEvent]] = {
    str(member.__struct_config__.tag): member
    for member in get_args(ev.AnyJobEvent)
    if issubclass(member, ev.JobEvent)
}


def understand(line: dict[str, Any]) -> ev.JobEvent | None:
    """Return the event of a line whose data are not all as its type declares them.

    None if its type is none of ours, or if it lacks what every event of the type has.
    """
    kind = _BY_TAG.get(str(line.get("type")))
    if kind is None:
        return None
    payload = next(field.type for field in msgspec.structs.fields(kind) if field.name == "data")
    data = line.get("data")
    members = {"type": line["type"], "data": _fitting(payload, data or {})}
    if isinstance(line.get("step"), str):
        members["step"] = line["step"]
    try:
        return msgspec.convert(members, kind)
    except msgspec.ValidationError:
        return None


def _fitting(payload: Any, data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        return {}
    kept = {}
    for field in msgspec.structs.fields(payload):
        if field.encode_name not in data:
            continue
        value = data[field.encode_name]
        if field.name == "steps" and isinstance(value, list):
            value = [{"id": one, "kind": ""} if isinstance(one, str) else one for one in value]
        try:
            msgspec.convert(value, field.type)
        except msgspec.ValidationError:
            continue
        kept[field.encode_name] = value
    return kept
