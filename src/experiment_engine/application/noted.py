"""An entry of the audit."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Noted:
    """One change that a person made, ready to be kept."""

    who: str  # never a secret
    what: str
    target: str
    before: Mapping[str, object] = field(default_factory=dict)
    after: Mapping[str, object] = field(default_factory=dict)
