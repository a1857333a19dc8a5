"""What is known of the user's situation, bucketed into a bounded number of levels."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec

FEATURES = ("region", "language", "plan", "show")
MOST_LEVELS = 16  # named ones of a feature; everything else is `other`

Context = tuple[int, ...]  # a level of each feature; the last level of each is `other`

_SEEN_ENOUGH = 10  # times in a sample of recent contexts


@dataclass(frozen=True)
class ContextLevels:
    """The named levels of each feature."""

    names: tuple[tuple[str, ...], ...] = ((),) * len(FEATURES)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return how many levels each feature has, `other` among them."""
        return tuple(len(names) + 1 for names in self.names)

    @cached_property
    def _places(self) -> tuple[dict[str, int], ...]:
        return tuple({name: place for place, name in enumerate(names)} for names in self.names)

    @cached_property
    def _parsed(self) -> dict[str, Context]:
        return {}

    def bucket(self, values: Mapping[str, str]) -> Context:
        """Return the level of each feature; a value that has no level is `other`."""
        return tuple(
            places.get(values[feature], len(places)) if feature in values else len(places)
            for feature, places in zip(FEATURES, self._places, strict=True)
        )

    def key(self, context: Context) -> str:
        """Write a context by the names of its levels, as it is stored: '' if all are `other`."""
        named = {
            feature: names[place]
            for feature, names, place in zip(FEATURES, self.names, context, strict=True)
            if place < len(names)
        }
        return msgspec.json.encode(named).decode() if named else ""

    def parse(self, key: str) -> Context:
        """Read a stored context; what has no level any more is `other`."""
        known = self._parsed.get(key)
        if known is None:
            known = self.bucket(msgspec.json.decode(key) if key else {})
            self._parsed[key] = known
        return known

    def refreshed(self, recent: Sequence[Mapping[str, str]]) -> "ContextLevels":
        """Return the levels with what recent contexts bring.

        A value becomes a level when it is seen often enough; when there is no room left, it
        takes the place of one that is not seen any more.
        """
        return ContextLevels(
            tuple(
                _refreshed(names, Counter(_values(feature, recent)))
                for feature, names in zip(FEATURES, self.names, strict=True)
            )
        )


def _values(feature: str, recent: Iterable[Mapping[str, str]]) -> Iterable[str]:
    return (context[feature] for context in recent if feature in context)


def _refreshed(names: tuple[str, ...], seen: Counter[str]) -> tuple[str, ...]:
    kept = list(names)
    coming = [
        value
        for value, times in sorted(seen.items(), key=lambda item: (-item[1], item[0]))
        if times >= _SEEN_ENOUGH and value not in names
    ]
    for value in coming:
        if len(kept) < MOST_LEVELS:
            kept.append(value)
            continue
        gone = next((name for name in kept if not seen[name]), None)
        if gone is None:
            break
        kept[kept.index(gone)] = value
    return tuple(kept)
