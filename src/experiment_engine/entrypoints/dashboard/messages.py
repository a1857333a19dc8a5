"""The texts: which there are in each language, what they look like, and what is missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from experiment_engine.application.cohort_results import levels_of
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.delivery.copy import Catalogue, Text
from experiment_engine.domain.identifiers import Channel, CohortName
from experiment_engine.domain.rules import Rules
from experiment_engine.entrypoints.dashboard.pages import Asked, NoSuchPage, Page, View

TITLE_FITS: Mapping[str, int] = {"push": 50, "whatsapp": 60}  # characters that phones show whole
BODY_FITS: Mapping[str, int] = {"push": 150, "whatsapp": 550}


@dataclass(frozen=True, slots=True)
class Copy:
    """One text as users see it, with stand-ins for what is unknown."""

    language: str
    title: str
    body: str
    faults: Sequence[str]


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many offers of one angle and channel have a text of their own in a language."""

    language: str
    there: int
    wanted: int
    faults: int


@dataclass(frozen=True, slots=True)
class Row:
    """One angle on one channel, over all languages."""

    channel: str
    angle: str
    cells: Sequence[Coverage]


def view(asked: Asked) -> View:
    """Return the coverage of a cohort's texts, and the texts of one angle and language."""
    rules = asked.engine.rules
    cohort = _cohort(asked, rules)
    languages = _languages(rules)
    angles, channels = levels_of(cohort, "angle"), levels_of(cohort, "channel")
    language = _one_of(asked.query("language"), languages)
    angle = _one_of(asked.query("angle"), angles)
    return {
        "cohort": cohort.name,
        "languages": languages,
        "angle": angle,
        "angles": angles,
        "language": language,
        "rows": [
            Row(channel, name, [_coverage(rules, cohort, channel, name, one) for one in languages])
            for channel in channels
            for name in angles
        ],
        "previews": [
            {
                "channel": channel,
                "offer": offer,
                "text": _copy(rules, cohort, channel, angle, offer, language),
            }
            for offer in levels_of(cohort, "offer")
            for channel in channels
        ],
        "fallback": rules.languages.chain(language)[1:2],
    }


def _cohort(asked: Asked, rules: Rules) -> Cohort:
    wanted = asked.query("cohort") or next(iter(rules.cohorts))
    if wanted not in rules.cohorts:
        raise NoSuchPage(f'There is no cohort "{wanted}".')
    return rules.cohorts[CohortName(wanted)]


def _languages(rules: Rules) -> list[str]:
    there = {language for language, *_ in rules.catalogue.texts}
    return sorted(there, key=lambda language: (language != rules.languages.default, language))


def _one_of(wanted: str, known: Sequence[str]) -> str:
    return wanted if wanted in known else known[0]


def _coverage(rules: Rules, cohort: Cohort, channel: str, angle: str, language: str) -> Coverage:
    offers = levels_of(cohort, "offer")
    found = [_copy(rules, cohort, channel, angle, offer, language) for offer in offers]
    own = [copy for copy in found if copy is not None]
    return Coverage(language, len(own), len(offers), sum(bool(copy.faults) for copy in own))


def _copy(
    rules: Rules, cohort: Cohort, channel: str, angle: str, offer: str, language: str
) -> Copy | None:
    """Return the text in this language alone, or None where there is none."""
    text = rules.catalogue.find(cohort.name, Channel(channel), angle, offer, [language])
    if text is None:
        return None
    faults = []
    unknown = sorted(_without_stand_in(rules.catalogue, text))
    if unknown:
        faults.append(f"needs {', '.join(unknown)}: who brings no value gets another text")
        title, body = (
            _raw(text.title.literals, text.title.names),
            _raw(text.body.literals, text.body.names),
        )
    else:
        title, body = rules.catalogue.render(text, {})
    if len(title) > TITLE_FITS.get(channel, len(title)):
        faults.append(f"the title has {len(title)} characters, and may be cut off")
    if len(body) > BODY_FITS.get(channel, len(body)):
        faults.append(f"the text has {len(body)} characters, and may be cut off")
    return Copy(language, title, body, faults)


def _without_stand_in(catalogue: Catalogue, text: Text) -> set[str]:
    return {
        name
        for name in text.placeholders
        if catalogue.placeholders[name].default_in(text.language) is None
    }


def _raw(literals: Sequence[str], names: Sequence[str]) -> str:
    pieces = [literals[0]]
    for name, literal in zip(names, literals[1:], strict=True):
        pieces += [f"[{name}]", literal]
    return "".join(pieces)


PAGE = Page("/messages", "/messages.json", "Messages", "messages.html", view)
