"""Templates: escaped everywhere, with the few filters that they use."""

from collections.abc import Mapping
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined

from experiment_engine.entrypoints.dashboard import labels


def environment(address: Any) -> Environment:
    """Return the templates; `address` says where a static file is served."""
    made = Environment(
        loader=PackageLoader("experiment_engine.entrypoints.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals["static"] = address
    made.filters |= {
        "words": labels.words,
        "combo": labels.combo,
        "reason": labels.reason,
        "num": labels.number,
        "pct": labels.percent,
        "signed": labels.signed,
        "span": labels.span,
        "at": labels.day_and_time,
        "time": labels.clock_time,
        "day": labels.day,
        "state": lambda state: labels.STATES.get(state, state),
        "status": lambda status: labels.STATUSES.get(status, status),
        "policy": lambda policy: labels.POLICIES.get(policy, labels.words(policy)),
        "scope": labels.scope,
        "ninth": _ninth,
        "json": _json,
    }
    made.globals["level"] = labels.level
    return made


def plain(view: Mapping[str, Any]) -> Any:
    """Return a view as JSON would say it; names that begin with `_` are left out."""
    return _public(msgspec.to_builtins(view, str_keys=True, enc_hook=lambda _: None))


def _public(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _public(v) for k, v in value.items() if not k.startswith("_")}
    return [_public(one) for one in value] if isinstance(value, list) else value


def _ninth(value: float, low: float, high: float) -> int:
    """Return which of nine colours a value has between two ends."""
    return max(0, min(8, int((value - low) / ((high - low) or 1) * 8.999)))


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
