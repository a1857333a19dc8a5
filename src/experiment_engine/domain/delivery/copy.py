"""The texts: templates with placeholders, and which text a user gets.

Substitution only. User data and CleverTap's own Liquid are never evaluated, so there is no
template engine here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from string import Formatter

from experiment_engine.domain.errors import ConfigurationError
from experiment_engine.domain.events import Properties
from experiment_engine.domain.identifiers import Channel, CohortName

MAX_VALUE = 200  # characters of user data in a message, for each placeholder
_LARGEST = 1e15  # beyond it a number is not exact, and nothing that a person should read
_CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+"
)
# What nobody sees, and what can hide or part a word. Joiners stay, one at a time: scripts and
# emoji need them.
_UNSEEN = re.compile(
    r"[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u2060-\u2065\u206a-\u206f"
    r"\u3164\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]+|(?<=[\u200c\u200d])[\u200c\u200d]+"
)
# A value can open neither our placeholder nor Liquid's, nor with what may be read as a brace.
_BRACES = str.maketrans("{}\uff5b\uff5d\ufe5b\ufe5c\ufe37\ufe38", "()" * 4)
_SUSPICIOUS = re.compile(
    r"[{}\uff5b\uff5d\ufe5b\ufe5c\ufe37\ufe38\u034f\u115f\u1160\u17b4\u17b5"
    r"\u180b-\u180f\u3164\uffa0\U000e0100-\U000e01ef]"
)


@dataclass(frozen=True, slots=True)
class Template:
    """A text in pieces: what stands between the placeholders, and their names."""

    literals: tuple[str, ...]  # one more than names
    names: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> "Template":
        """Read a text with `{name}` placeholders; raise ConfigurationError if it is malformed."""
        literals, names = [""], []
        try:
            pieces = list(Formatter().parse(text))
        except ValueError as error:
            raise ConfigurationError(f"malformed placeholder in {text!r}: {error}") from None
        for literal, name, format_spec, conversion in pieces:
            literals[-1] += literal
            if name is None:
                continue
            if not name.isidentifier() or format_spec or conversion:
                raise ConfigurationError(
                    f"malformed placeholder in {text!r}: write a plain name, such as {{show_name}}"
                )
            names.append(name)
            literals.append("")
        if any("{" in literal or "}" in literal for literal in literals):
            raise ConfigurationError(f"{text!r} has a literal brace, which no message may have")
        return cls(tuple(literals), tuple(names))

    @property
    def longest(self) -> int:
        """Return how many characters the text can have when it is filled in."""
        return sum(map(len, self.literals)) + len(self.names) * MAX_VALUE

    def render(self, values: Mapping[str, str]) -> str:
        """Fill in the placeholders; every name must have a value."""
        if not self.names:
            return self.literals[0]
        pieces = [self.literals[0]]
        for name, literal in zip(self.names, self.literals[1:], strict=True):
            pieces.append(values[name])
            pieces.append(literal)
        return "".join(pieces)


@dataclass(frozen=True, slots=True)
class Text:
    """The copy of one message in one language."""

    language: str
    title: Template
    body: Template
    requires: tuple[str, ...] = ()  # facts that it rests on

    @property
    def placeholders(self) -> frozenset[str]:
        """Return the names of all placeholders."""
        return frozenset(self.title.names + self.body.names)


@dataclass(frozen=True, slots=True)
class Placeholder:
    """Where a placeholder's value comes from, and what stands in for it."""

    name: str
    path: tuple[str, str]  # ("event_properties", "show_name")
    default: str | None = None
    defaults: Mapping[str, str] | None = None  # by language, before `default`

    def default_in(self, language: str) -> str | None:
        """Return what stands in for a missing value, or None."""
        return (self.defaults or {}).get(language, self.default)


def clean(value: object) -> str | None:
    """Make a value of a user's event fit for a message, or return None if nothing is left."""
    if isinstance(value, str):
        return _clean_text(value) if len(value) <= MAX_VALUE else _cleaned(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not -_LARGEST < value < _LARGEST:  # NaN among them
        return None
    return f"{value:.15g}"


def _cleaned(text: str) -> str | None:
    if not text.isprintable() or _SUSPICIOUS.search(text):  # most values need no cleaning
        text = _CONTROL.sub(" ", text).translate(_BRACES)
        text = _UNSEEN.sub("", text)
        if not any(letter.isprintable() and letter != " " for letter in text):
            return None
    return text.strip()[:MAX_VALUE] or None


_clean_text = lru_cache(maxsize=8192)(_cleaned)  # languages, shows and plans come again and again


def placeholder_values(
    placeholders: Sequence[Placeholder],
    event_properties: Properties,
    user_properties: Properties,
) -> dict[str, str]:
    """Return the values that the event brings; what it does not bring is left out."""
    values = {}
    for placeholder in placeholders:
        folder, key = placeholder.path
        properties = event_properties if folder == "event_properties" else user_properties
        value = clean(properties.get(key))
        if value is not None:
            values[placeholder.name] = value
    return values


@dataclass(frozen=True)
class Catalogue:
    """All texts by language, cohort ("*" for any), channel, angle and offer ("*" for any)."""

    texts: Mapping[tuple[str, str, str, str, str], Text]
    placeholders: Mapping[str, Placeholder]

    def find(
        self,
        cohort: CohortName,
        channel: Channel,
        angle: str,
        offer: str,
        chain: Sequence[str],
    ) -> Text | None:
        """Return the text in the first language of the chain that has one.

        Within a language the cohort's own text goes before the one for every cohort, and the
        offer's own before the one for every offer.
        """
        for language in chain:
            for whose, which in (
                (cohort, offer),
                (cohort, "*"),
                ("*", offer),
                ("*", "*"),
            ):
                text = self.texts.get((language, whose, channel, angle, which))
                if text is not None:
                    return text
        return None

    def missing(self, text: Text, values: Mapping[str, str]) -> bool:
        """Say whether a placeholder of the text has neither a value nor a default."""
        return any(
            name not in values and self.placeholders[name].default_in(text.language) is None
            for name in text.placeholders
        )

    def render(self, text: Text, values: Mapping[str, str]) -> tuple[str, str]:
        """Return title and body; call it only where nothing is missing."""
        names = text.title.names + text.body.names
        if not names:
            return text.title.literals[0], text.body.literals[0]
        filled = {}
        for name in names:
            value = values.get(name)
            filled[name] = value or self.placeholders[name].default_in(text.language) or ""
        return text.title.render(filled), text.body.render(filled)
