"""What a person should know of the engine's state: findings, and those that the rules give."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from experiment_engine.domain.cohorts.combo import Combo
from experiment_engine.domain.identifiers import CohortName
from experiment_engine.domain.rules import Rules

State = Literal["ok", "note", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw, and how to mend it; `note` is for people to know, and no fault."""

    check: str
    state: State
    saw: str
    mend: str = ""


def of_rules(rules: Rules) -> Iterator[Finding]:
    """Look at what is right for a program and may still surprise a person."""
    yield from _coverage(rules)
    yield from _channels(rules)
    yield from _consent(rules)


def _coverage(rules: Rules) -> Iterator[Finding]:
    """Say for each language how many messages have a text of their own in it."""
    places = sorted(
        {
            (cohort.name, combo.channel, combo.angle, combo.offer): combo
            for cohort in rules.cohorts.values()
            for combo in cohort.space.combos
        }.items()
    )
    written = {language for language, *_ in rules.catalogue.texts}
    for language in sorted(written | set(rules.languages.codes.values())):
        lacking = [
            (cohort, combo)
            for (cohort, *_), combo in places
            if not _has_text(rules, cohort, combo, language)
        ]
        yield _covered(rules, language, len(places), lacking)


def _has_text(rules: Rules, cohort: CohortName, combo: Combo, language: str) -> bool:
    place = (combo.channel, combo.angle, combo.offer)
    return rules.catalogue.find(cohort, *place, (language,)) is not None


def _covered(
    rules: Rules, language: str, total: int, lacking: list[tuple[CohortName, Combo]]
) -> Finding:
    check, number = f"copy {language}", total - len(lacking)
    if not lacking:
        return Finding(check, "ok", f"all {total} messages have a text")
    cohort, combo = lacking[0]
    others = " then ".join(one for one in rules.languages.chain(language) if one != language)
    return Finding(
        check,
        "note",
        f"{number} of {total} messages have a text; the others go out in {others}, such as"
        f" {combo.channel}|{combo.angle}|{combo.offer} of {cohort}",
        f"write the missing texts into copy/{language}.toml; `preview --language {language}`",
    )


def _channels(rules: Rules) -> Iterator[Finding]:
    """Say which channels of the cohorts reach nobody, and which messages have no campaign."""
    used = {combo.channel for cohort in rules.cohorts.values() for combo in cohort.space.combos}
    for name in sorted(used):
        channel, check = rules.channels[name], f"channel {name}"
        lacking = {
            f"{text.language}|{combo.angle}|{combo.offer}"
            for cohort in rules.cohorts.values()
            for combo in cohort.space.combos
            if combo.channel == name
            for language in {language for language, *_ in rules.catalogue.texts}
            if (
                text := rules.catalogue.find(
                    cohort.name, name, combo.angle, combo.offer, (language,)
                )
            )
            and channel.lacks_form(name, text.language, combo.angle, combo.offer)
        }
        if not channel.connected:
            yield Finding(
                check,
                "note",
                f"its provider, {channel.provider}, has no credentials: nobody is written to",
                "set its credentials (docs/settings.md)",
            )
        elif lacking:
            yield Finding(
                check,
                "note",
                f"{len(lacking)} messages have no campaign or template, such as {min(lacking)}:"
                " they are not chosen (no_campaign)",
                f"name one in [channels.{name}] of engine.toml (docs/connect-clevertap.md)",
            )
        else:
            yield Finding(check, "ok", f"goes through {channel.provider}")


def _consent(rules: Rules) -> Iterator[Finding]:
    """Remind of channels that take a user's agreement for granted (CONTRACT R12)."""
    for name, channel in sorted(rules.channels.items()):
        if channel.consent == "assumed":
            yield Finding(
                f"consent {name}",
                "note",
                "`assumed`: everybody who did not opt out is written to",
                f'if your users have to agree first, set [channels.{name}] consent = "required"'
                " and report their yes",
            )
        else:
            yield Finding(f"consent {name}", "ok", "`required`: only who agreed is written to")
