"""Sums that add over batches, days and processes: what every measurement is made of."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Sums:
    """Named numbers that add, and that start at nothing."""

    def __add__(self, other: Self) -> Self:
        return type(self)(
            **{
                field.name: getattr(self, field.name) + getattr(other, field.name)
                for field in fields(self)
            }
        )

    def named(self, prefix: str) -> dict[str, float]:
        """Return the numbers by their names behind a prefix."""
        return {f"{prefix}.{name}": float(value) for name, value in asdict(self).items()}

    @classmethod
    def read(cls, prefix: str, kept: Mapping[str, float]) -> Self:
        """Return what `named` wrote; what is not there is nothing."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: kept.get(f"{prefix}.{name}", 0.0) for name in names})


def total(sums: Iterable[Any], nothing: Any) -> Any:
    """Add any number of sums up."""
    for one in sums:
        nothing = nothing + one
    return nothing
