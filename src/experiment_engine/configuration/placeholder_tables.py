"""`[placeholders.<name>]` in engine.toml: where a value comes from, and what stands in for it."""

from collections.abc import Mapping

from experiment_engine.configuration.kinds import PROPERTY, STAND_IN
from experiment_engine.configuration.languages import require_language
from experiment_engine.configuration.tables import Table, show
from experiment_engine.domain.delivery.copy import Placeholder


def read_placeholders(engine: Table, copy: Mapping[str, Table]) -> Mapping[str, Placeholder]:
    """Read every declared placeholder."""
    table = engine.table("placeholders")
    return {name: _read_placeholder(name, own, copy) for name, own in table.tables()}


def _read_placeholder(name: str, table: Table, copy: Mapping[str, Table]) -> Placeholder:
    if not name.isidentifier():
        raise table.mistake(
            None, f"{show(name)} cannot stand in a text: use letters, digits and _ only"
        )
    table.only("from", "default", "defaults")
    defaults = table.table("defaults")
    for language in defaults:
        require_language(defaults, language, language, copy)
    return Placeholder(
        name=name,
        path=table.need("from", PROPERTY),
        default=table.get("default", STAND_IN, None),
        defaults=defaults.each(STAND_IN),
    )
