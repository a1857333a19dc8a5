"""`[facts.<name>]` in engine.toml: what a text may rest on, and when that holds."""

from collections.abc import Mapping

from experiment_engine.configuration.kinds import PROPERTY, choice, number
from experiment_engine.configuration.tables import Table
from experiment_engine.domain.delivery.facts import FactKind, FactRule

_KINDS = tuple(kind.value for kind in FactKind)


def read_facts(engine: Table) -> Mapping[str, FactRule]:
    """Read every declared fact."""
    return {name: _read_fact(name, own) for name, own in engine.table("facts").tables()}


def _read_fact(name: str, table: Table) -> FactRule:
    table.only("from", "kind", "at_least")
    kind = FactKind(table.need("kind", choice(_KINDS)))
    if "at_least" in table and kind is not FactKind.NUMBER:
        raise table.mistake("at_least", 'has a meaning for kind = "number" only: take it out')
    return FactRule(
        name=name,
        path=table.need("from", PROPERTY),
        kind=kind,
        at_least=table.need("at_least", number(-1e15, 1e15)) if kind is FactKind.NUMBER else 0,
    )
