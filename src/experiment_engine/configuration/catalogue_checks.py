"""What must hold for the texts, cohorts and placeholders together."""

from collections.abc import Iterable, Sequence

from experiment_engine.configuration.copy_files import place_of
from experiment_engine.configuration.tables import dotted, mistake, nearest
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.cohorts.combo import Combo
from experiment_engine.domain.delivery.copy import Catalogue, Text
from experiment_engine.domain.rules import Rules


def check_placeholders(catalogue: Catalogue) -> None:
    """Refuse a placeholder that engine.toml does not declare."""
    for key, text in catalogue.texts.items():
        for part, template in (("title", text.title), ("body", text.body)):
            for name in template.names:
                if name not in catalogue.placeholders:
                    file, path = place_of(key)
                    guess = nearest(name, catalogue.placeholders, "Declared")
                    raise mistake(
                        file,
                        f"{{{name}}} is not declared: add [placeholders.{name}] to engine.toml"
                        f"{guess}",
                        (*path, part),
                        stand_in="-",
                    )


def check_facts(rules: Rules) -> None:
    """Refuse a fact that is not declared, and an angle whose every text rests on one (R16)."""
    for key, text in rules.catalogue.texts.items():
        for name in text.requires:
            if name not in rules.facts:
                file, path = place_of(key)
                guess = nearest(name, rules.facts, "Declared")
                raise mistake(
                    file,
                    f'"{name}" is not declared: add [facts.{name}] to engine.toml{guess}',
                    (*path, "requires"),
                )
    if rules.facts:
        for language in dict.fromkeys(key[0] for key in rules.catalogue.texts):
            for cohort in rules.cohorts.values():
                _check_facts_of(cohort, rules.languages.chain(language), rules.catalogue)


def _check_facts_of(cohort: Cohort, chain: Sequence[str], catalogue: Catalogue) -> None:
    bound: dict[str, Text] = {}
    free: set[str] = set()
    for combo in cohort.space.combos:
        text = catalogue.find(cohort.name, combo.channel, combo.angle, combo.offer, chain)
        if text is not None and text.requires:
            bound.setdefault(combo.angle, text)
        elif text is not None:
            free.add(combo.angle)
    for angle, text in bound.items():
        if angle not in free:
            raise mistake(
                f"copy/{text.language}.toml",
                f"every text of cohort {cohort.name}, angle {angle} rests on a fact"
                f" ({', '.join(text.requires)}): write one that needs none",
                where=dotted((cohort.name, angle)),
            )


def check_texts(catalogue: Catalogue, cohorts: Iterable[Cohort], default: str) -> None:
    """Refuse a combo without a text, and an angle that always needs a fact (R16)."""
    for cohort in cohorts:
        needed: dict[str, set[str]] = {}  # angle -> what every text so far cannot do without
        free: set[str] = set()
        for combo in cohort.space.combos:
            text = _text_of(combo, cohort, catalogue, default)
            facts = {name for name in text.placeholders if _is_required(name, catalogue, default)}
            needed.setdefault(combo.angle, set()).update(facts)
            if not facts:
                free.add(combo.angle)
        for angle, facts in needed.items():
            if angle not in free:
                names = ", ".join(f"{{{name}}}" for name in sorted(facts))
                raise mistake(
                    "engine.toml",
                    f"every text of cohort {cohort.name}, angle {angle} needs {names}:"
                    f" give it a default, or write a text without it in copy/{default}.toml",
                    ("placeholders", min(facts), "default"),
                    stand_in="-",
                )


def _text_of(combo: Combo, cohort: Cohort, catalogue: Catalogue, default: str) -> Text:
    text = catalogue.find(cohort.name, combo.channel, combo.angle, combo.offer, (default,))
    if text is None:
        path = (cohort.name, combo.channel, combo.angle, combo.offer)
        raise mistake(
            f"copy/{default}.toml",
            f"cohort {cohort.name} has no text for channel {combo.channel}, angle {combo.angle},"
            f" offer {combo.offer} in the default language: add [{dotted(path)}] with title and"
            " body",
            path,
            stand_in={"title": "-", "body": "-"},
        )
    return text


def _is_required(name: str, catalogue: Catalogue, language: str) -> bool:
    return catalogue.placeholders[name].default_in(language) is None
