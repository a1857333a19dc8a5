"""As much of FreeMarker and Liquid as the guides' templates use; as strict as they are."""

import json
import re
from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]

_PLACE = re.compile(r"\$\{(.*?)\}")
_STEP = re.compile(r'\.(\w+)|\["([^"]+)"\]')
_MACRO = re.compile(r"\{\{ (\w+)\.(\w+) \}\}")
_MISSING = object()


class TemplateFails(Exception):
    """What stops FreeMarker: a missing value, or text that is asked of something else."""


def freemarker(template: str, event: Json) -> str:
    """Fill in `${input...}` with `!""`, brackets and `?json_string`; nothing else."""
    return _PLACE.sub(lambda found: _value(found[1], event), template)


def _value(expression: str, event: Json) -> str:
    inner, escaped, rest = expression.partition("?json_string")
    if rest:
        raise TemplateFails(expression)
    value = _operand(inner, event)
    if not isinstance(value, str):
        raise TemplateFails(f"{expression}: {value!r} is no text")
    return json.dumps(value)[1:-1] if escaped else value


def _operand(text: str, event: Json) -> Any:
    if text.startswith("(") and text.endswith(")"):
        return _operand(text[1:-1], event)
    path, guarded, _ = text.partition('!""')
    try:
        value = _path(path.removeprefix("(").removesuffix(")"), event)
    except TemplateFails:
        if not (guarded and path.startswith("(")):  # `a.b!""` guards b alone, `(a.b)!""` both
            raise
        value = _MISSING
    if value is _MISSING:
        if not guarded:
            raise TemplateFails(f"{text} is missing")
        return ""
    return value


def _path(text: str, event: Json) -> Any:
    assert text.startswith("input"), text
    value: Any = event
    for dotted, quoted in _STEP.findall(text):
        if not isinstance(value, Mapping):
            raise TemplateFails(f"{text}: what is before {dotted or quoted} is missing")
        found = value.get(dotted or quoted)
        value = _MISSING if found is None else found
    return value


def liquid(template: str, **objects: Json) -> str:
    """Fill in `{{ Object.name }}`; what is not there is empty."""
    return _MACRO.sub(lambda m: str(objects.get(m[1], {}).get(m[2], "")), template)
