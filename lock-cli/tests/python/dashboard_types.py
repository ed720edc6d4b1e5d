"""Checks a dashboard against the types that Grafana publishes for it.

Usage: dashboard_types.py FILE

Reads the file into the types of grafana-foundation-sdk and writes it back. A property that no type
has is lost by that. Then each value is compared with the type that is declared for it.
"""

import enum
import json
import sys
import types
import typing

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard


def find_lost(given, kept, path):
    """Yields the paths of what was given and is not kept."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            if key in kept:
                yield from find_lost(value, kept[key], f"{path}.{key}")
            else:
                yield f"{path}.{key} is not a property that Grafana knows"
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for at, (value, other) in enumerate(zip(given, kept)):
            yield from find_lost(value, other, f"{path}[{at}]")
    elif given != kept:
        yield f"{path} is {given!r}, of which Grafana makes {kept!r}"


def fits(value, declared):
    """Returns whether a value is of the type that is declared for it."""
    parts = typing.get_args(declared)
    origin = typing.get_origin(declared) or declared
    if origin in (typing.Any, object):
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in parts)
    if origin is typing.Literal:
        return value in parts
    if origin is list:
        return isinstance(value, list) and all(fits(item, *parts) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(item, parts[1]) for item in value.values())
    if issubclass(origin, enum.Enum):
        return value in [member.value for member in origin]
    if origin in (int, float):
        # In JSON a truth value is no number, and a whole number may stand for a fraction.
        return isinstance(value, (int, origin)) and not isinstance(value, bool)
    return isinstance(value, origin)


def find_mistyped(value, path):
    """Yields the paths of the values that are not of the type that is declared for them."""
    if isinstance(value, list):
        for at, item in enumerate(value):
            yield from find_mistyped(item, f"{path}[{at}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from find_mistyped(item, f"{path}.{key}")
    elif type(value).__module__.startswith("grafana_foundation_sdk."):
        for name, declared in typing.get_type_hints(type(value)).items():
            item = getattr(value, name, None)
            if not fits(item, declared):
                yield f"{path}.{name} is {item!r}, which is not {declared}"
            yield from find_mistyped(item, f"{path}.{name}")


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        given = json.load(file)
    register_default_plugins()
    dashboard = Dashboard.from_json(given)
    kept = json.loads(JSONEncoder(sort_keys=True).encode(dashboard))
    problems = [*find_lost(given, kept, "dashboard"), *find_mistyped(dashboard, "dashboard")]
    print("\n".join(problems))
    sys.exit(1 if problems else 0)


main()
