"""One arm of a cohort's bandit, and the space of all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from experiment_engine.domain.identifiers import Channel, ComboKey
from experiment_engine.domain.moments import Duration, parse_duration

DIMENSIONS = ("delay", "channel", "angle", "offer")
NO_OFFER = "none"  # the level that offers nothing


@dataclass(frozen=True, slots=True)
class Combo:
    """One value for each dimension."""

    index: int  # its place in the cohort's space
    key: ComboKey
    delay: Duration
    channel: Channel
    angle: str
    offer: str

    def levels(self) -> dict[str, str]:
        """Return dimension -> level, in the order of the combo key."""
        return dict(zip(DIMENSIONS, self.key.split("|"), strict=True))


@dataclass(frozen=True)
class ComboSpace:
    """Every combo of a cohort, in the order of the configuration."""

    combos: tuple[Combo, ...]

    @classmethod
    def of(
        cls,
        delays: Sequence[str],
        channels: Sequence[str],
        angles: Sequence[str],
        offers: Sequence[str],
    ) -> "ComboSpace":
        """Build the full product; delays are labels such as `"2min"`."""
        spelled = product(delays, channels, angles, offers)
        return cls(
            tuple(
                Combo(
                    index=index,
                    key=ComboKey("|".join(levels)),
                    delay=parse_duration(levels[0]),
                    channel=Channel(levels[1]),
                    angle=levels[2],
                    offer=levels[3],
                )
                for index, levels in enumerate(spelled)
            )
        )

    def __len__(self) -> int:
        return len(self.combos)

    def __getitem__(self, index: int) -> Combo:
        return self.combos[index]

    @cached_property
    def by_key(self) -> Mapping[ComboKey, Combo]:
        """Find a combo by its key."""
        return {combo.key: combo for combo in self.combos}

    @cached_property
    def levels(self) -> tuple[Mapping[str, str], ...]:
        """Return dimension -> level of every combo, in the order of the space."""
        return tuple(combo.levels() for combo in self.combos)

    @cached_property
    def delays(self) -> tuple[Duration, ...]:
        """Return the distinct delays, shortest first."""
        return tuple(sorted({combo.delay for combo in self.combos}))

    @cached_property
    def channels(self) -> tuple[Channel, ...]:
        """Return the distinct channels, in the order of the configuration."""
        return tuple(dict.fromkeys(combo.channel for combo in self.combos))

    @property
    def shortest(self) -> Duration:
        """Return the shortest delay."""
        return self.delays[0]
