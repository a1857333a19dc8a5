"""JSON Schema of the configuration's files, for editors: what the readers ask for, written down.

A folder in which every table stands is read once, and each question that a reader asks of a table
is noted. So a key has one place, its reader, and the schema cannot say anything else.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, TypeVar

from experiment_engine.configuration.cohort_file import CHANNELS
from experiment_engine.configuration.files import ConfigurationFiles
from experiment_engine.configuration.kinds import Kind
from experiment_engine.configuration.loading import read
from experiment_engine.configuration.tables import Table
from experiment_engine.domain.bandit.policies import CONFIGURED, POLICIES
from experiment_engine.domain.cohorts.cohort import PolicyChoice

T = TypeVar("T")
D = TypeVar("D")
Schema = dict[str, Any]

_DRAFT = "http://json-schema.org/draft-07/schema#"  # the one that Taplo reads

# A table that is read only where it stands must stand here; keys need not.
_QUIET: Mapping[str, object] = {"start": "23:00", "end": "08:00"}
_CAP: Mapping[str, object] = {"messages": 3, "per": "7d"}
_CHANNEL: Mapping[str, object] = {"quiet_hours": _QUIET, "frequency_cap": _CAP}
_ENGINE: Mapping[str, object] = {
    "quiet_hours": _QUIET,
    "frequency_cap": _CAP,
    "languages": {"fallback": {"bho": "hi"}},
    "channels": {
        "push": _CHANNEL,
        "whatsapp": {
            **_CHANNEL,
            "campaigns": {"*|*|*": "1700000000"},
            "templates": {"*|*|*": {"name": "come_back", "language": "en"}},
        },
    },
    "placeholders": {
        "show_name": {
            "from": "event_properties.show_name",
            "default": "your show",
            "defaults": {"hi": "आपका शो"},
        }
    },
    "facts": {"seats_left": {"from": "event_properties.left", "kind": "number", "at_least": 1}},
    "offers": {"gift": {"per_day": 5000}},
    "send_rate": {"per_second": 200},
}
_COHORT: Mapping[str, object] = {
    "trigger": {"event": "left", "count": 3, "within": "7d"},
    "goal": {"event": "bought", "window": "3d", "value": "revenue"},
    "combos": {
        "delay": ["2min"],
        "channel": list(CHANNELS),
        "angle": ["helpful"],
        "offer": ["gift"],
    },
    "prior": {"lean": {"angle": {"helpful": 1.3}}},
}
_TEXTS: Mapping[str, object] = {
    channel: {"helpful": {"gift": {"title": "Come back", "body": "{show_name} waits."}}}
    for channel in CHANNELS
}


@dataclass
class Shape:
    """What the readers asked of the tables in one place."""

    keys: "dict[str, Shape | Kind[Any]]" = field(default_factory=dict)
    named: "Shape | Kind[Any] | None" = None  # what stands under names of the user's own
    names: str | None = None  # the pattern of such names
    allowed: tuple[str, ...] | None = None  # None: any
    needed: dict[str, None] = field(default_factory=dict)
    optional: set[str] = field(default_factory=set)  # read only where they stand

    def schema(self) -> Schema:
        """Return it as JSON Schema; raises LookupError for a key that nobody asked for."""
        properties = {key: _schema(self._of(key)) for key in self.allowed or self.keys}
        inside = [key for key in self.keys if properties.get(key, {}).get("required")]
        rest: bool | Schema = self.allowed is None and self.named is None
        if self.allowed is None and self.named is not None:
            rest = _schema(self.named)
        answer = {"type": "object", "properties": properties, "additionalProperties": rest}
        required = [key for key in (*self.needed, *inside) if key not in self.optional]
        named = {"propertyNames": {"pattern": self.names}} if self.names else {}
        return answer | named | ({"required": required} if required else {})

    def _of(self, key: str) -> "Shape | Kind[Any]":
        found = self.keys.get(key) or self.named
        if found is None:
            raise LookupError(f"no reader asked for {key}: put its table into schema.py")
        return found


@dataclass(frozen=True)
class _Listening(Table):
    """A table that notes what is asked of it."""

    shape: Shape

    def __contains__(self, key: str) -> bool:
        self.shape.optional.add(key)
        return super().__contains__(key)

    def only(self, *allowed: str) -> Table:
        self.shape.allowed = tuple(dict.fromkeys((*(self.shape.allowed or ()), *allowed)))
        return super().only(*allowed)

    def need(self, key: str, kind: Kind[T]) -> T:
        self.shape.keys[key] = kind
        self.shape.needed[key] = None
        return super().need(key, kind)

    def get(self, key: str, kind: Kind[T], default: D) -> T | D:
        self.shape.keys[key] = kind
        return super().get(key, kind, default)

    def table(self, key: str) -> Table:
        inside = self.shape.keys.setdefault(key, Shape())
        return self._listen(key, inside)

    def named(self, key: str) -> Table:
        self.shape.named = self.shape.named or Shape()
        return self._listen(key, self.shape.named)

    def each(self, kind: Kind[T], names: str | None = None) -> dict[str, T]:
        self.shape.named, self.shape.names = kind, names
        return super().each(kind)

    def _listen(self, key: str, shape: Shape | Kind[Any]) -> Table:
        if not isinstance(shape, Shape):
            raise TypeError(f"{key} is asked for as a table and as a value")
        return _Listening(self.file, (*self.path, key), self._inside(key), shape)


def schemas() -> dict[str, Schema]:
    """Return the schema of `engine`, `cohort` and `copy`, by these names."""
    engine, copy, cohorts = Shape(), Shape(), {name: Shape() for name in POLICIES}
    texts = {**_TEXTS, next(iter(POLICIES)): _TEXTS}
    read(
        ConfigurationFiles(
            engine=_Listening("engine.toml", (), _ENGINE, engine),
            cohorts={
                name: _Listening(name, (), {**_COHORT, "policy": _every_option(name)}, shape)
                for name, shape in cohorts.items()
            },
            copy={"en": _Listening("copy/en.toml", (), texts, copy)},
            fingerprint="",
        )
    )
    cohort = cohorts[PolicyChoice().name].schema()
    cohort["properties"]["policy"] = {
        "oneOf": [_policy(name, shape.schema()) for name, shape in cohorts.items()]
    }
    return {
        name: {"$schema": _DRAFT, "title": title, **schema}
        for name, title, schema in (
            ("engine", "engine.toml: rules for everything", engine.schema()),
            ("cohort", "cohorts/<cohort>.toml: who is written to, and what competes", cohort),
            ("copy", "copy/<language>.toml: the texts", copy.schema()),
        )
    }


def _every_option(name: str) -> Mapping[str, object]:
    return {"name": name, **{option: most for option, (_, most) in CONFIGURED[name].items()}}


def _policy(name: str, cohort: Schema) -> Schema:
    """Return the schema of `[policy]` with this name, which says what options there are."""
    schema: Schema = deepcopy(cohort["properties"]["policy"])
    schema["properties"]["name"] = {"const": name}
    return schema if name == PolicyChoice().name else {**schema, "required": ["name"]}


def _schema(what: Shape | Kind[Any]) -> Schema:
    if isinstance(what, Shape):
        return what.schema()
    return {**what.schema, "description": f"Write {what.expected}."}
