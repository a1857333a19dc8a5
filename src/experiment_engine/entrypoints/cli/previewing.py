"""`preview`: what users would read, before anybody does."""

import json as json_text
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiment_engine import bootstrap
from experiment_engine.application.rendering import Rendered, render_cohort
from experiment_engine.configuration.loading import load
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.errors import ConfigurationError, WrongUse
from experiment_engine.domain.rules import Rules
from experiment_engine.settings import read_settings

_PARTS = 3  # channel, angle, offer


def preview(
    combo: Annotated[
        str,
        Parameter(
            name="COMBO",
            help="A combo key, or channel|angle|offer; * stands for any.",
        ),
    ] = "*|*|*",
    /,
    *,
    cohort: Annotated[str | None, Parameter(help="One cohort; all, if left out.")] = None,
    language: Annotated[
        tuple[str, ...],
        Parameter(
            help="By name or code, once for each; `all` for every one that has texts.",
            negative_iterable=(),
        ),
    ] = (),
    attribute: Annotated[
        tuple[str, ...],
        Parameter(
            name=["--attribute", "-a"],
            help="NAME=VALUE, once for each: what the event would bring, such as"
            " show_name=Ramayan; user_properties.NAME=VALUE for the user's own.",
            negative_iterable=(),
        ),
    ] = (),
    attributes: Annotated[
        str, Parameter(help="The same as JSON, as in the body of POST /api/trigger.")
    ] = "{}",
    config: Annotated[
        Path | None, Parameter(help="A configuration folder; else the one of ENGINE_CONFIG.")
    ] = None,
    json: Annotated[bool, Parameter(help="Answer as JSON.")] = False,
) -> None:
    """Render texts as a user would read them: any combo, in any language, for given attributes.

    It names what stands in for values that the user does not bring, texts that are missing, and
    each one's External Trigger campaign. Nothing is sent and no database is opened.
    """
    rules = load(config) if config else bootstrap.read_rules(read_settings(os.environ))
    told = {**_from_json(attributes)}
    for one in attribute:
        _put(told, one)
    pattern = _pattern(combo)
    found = [
        (one, asked, text)
        for one in _wanted(rules, cohort)
        for asked in _languages(rules, language, told)
        for text in render_cohort(rules, one, pattern, asked, told)
    ]
    if not found:
        raise ConfigurationError(f'COMBO: "{combo}" fits nothing: {_known(rules, cohort)}')
    if json:
        print(json_text.dumps(list(_described(found)), ensure_ascii=False))  # noqa: T201
    else:
        Console().print(_table(found))


def _from_json(text: str) -> Mapping[str, Any]:
    try:
        told = json_text.loads(text)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise WrongUse('--attributes: not a JSON object: write \'{"show_name": "Ramayan"}\'')
    return told


def _put(told: dict[str, Any], one: str) -> None:
    name, equals, value = one.partition("=")
    if not equals or not name:
        raise WrongUse(f'--attribute: "{one}": write NAME=VALUE')
    of_user = name.removeprefix("user_properties.")
    if of_user != name:
        told["user_properties"] = {**told.get("user_properties", {}), of_user: value}
    else:
        told[name.removeprefix("event_properties.")] = value


def _pattern(combo: str) -> tuple[str, str, str]:
    parts = combo.split("|")
    if len(parts) not in (_PARTS, _PARTS + 1):
        raise WrongUse(
            f'COMBO: "{combo}": write a combo key, such as "2min|push|scarcity|none", or'
            ' channel|angle|offer, such as "push|*|*"'
        )
    channel, angle, offer = parts[-_PARTS:]
    return channel, angle, offer


def _wanted(rules: Rules, cohort: str | None) -> Sequence[Cohort]:
    return list(rules.cohorts.values()) if cohort is None else [rules.require_cohort(cohort)]


def _languages(rules: Rules, asked: Sequence[str], told: Mapping[str, Any]) -> Sequence[object]:
    if not asked:
        return [told.get("language", rules.languages.default)]
    if "all" in asked:
        return sorted({language for language, *_ in rules.catalogue.texts})
    for one in asked:
        if rules.languages.chain(one) == (rules.languages.default,) and not _is_default(
            rules, one
        ):
            there = ", ".join(sorted({language for language, *_ in rules.catalogue.texts}))
            raise ConfigurationError(f'--language: no text is in "{one}": there are {there}')
    return asked


def _is_default(rules: Rules, asked: str) -> bool:
    return rules.languages.codes.get(asked.strip().lower()) == rules.languages.default


def _known(rules: Rules, cohort: str | None) -> str:
    combos = [combo for one in _wanted(rules, cohort) for combo in one.space.combos]
    return "; ".join(
        f"{what}: {', '.join(dict.fromkeys(getattr(combo, what) for combo in combos))}"
        for what in ("channel", "angle", "offer")
    )


def _described(
    found: Sequence[tuple[Cohort, object, Rendered]],
) -> Iterator[Mapping[str, Any]]:
    for cohort, asked, text in found:
        yield {"cohort": cohort.name, "asked_language": asked, **asdict(text)}


def _table(found: Sequence[tuple[Cohort, object, Rendered]]) -> Table:
    table = Table("cohort", "message", "language", "text", box=SIMPLE_HEAD)
    for cohort, asked, text in found:
        message = f"{text.channel}\n{text.angle}\n{text.offer}"
        language = text.language or f"none for {asked}"
        table.add_row(cohort.name, message, language, _words(text), end_section=True)
    return table


def _words(text: Rendered) -> Text:
    if text.language is None:
        return Text("no text: not eligible", "red")
    if text.missing:
        return Text(f"not eligible without {', '.join(text.missing)}", "red")
    words = Text(text.title, "bold").append(f"\n{text.body}", "not bold")
    if text.stand_ins:
        words.append(f"\n(stand-ins for {', '.join(text.stand_ins)})", "not bold dim")
    return words
