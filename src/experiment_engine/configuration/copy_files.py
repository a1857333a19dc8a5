"""`copy/<language>.toml`: the texts by cohort, channel, angle and offer."""

from collections.abc import Collection, Iterator, Mapping

from experiment_engine.configuration.cohort_file import CHANNELS
from experiment_engine.configuration.kinds import ANY_TEXT, NAMES, TEXT
from experiment_engine.configuration.tables import Table
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.delivery.copy import MAX_VALUE, Template, Text
from experiment_engine.domain.errors import ConfigurationError
from experiment_engine.domain.identifiers import CohortName

TextKey = tuple[str, str, str, str, str]  # language, cohort or "*", channel, angle, offer or "*"
ANY = "*"

_LONGEST = {"title": 600, "body": 2_000}  # characters; far above what a phone shows


def read_texts(
    copy: Mapping[str, Table], cohorts: Mapping[CohortName, Cohort]
) -> Mapping[TextKey, Text]:
    """Read all texts of all languages."""
    texts: dict[TextKey, Text] = {}
    for language, root in copy.items():
        for path, table in _walk(root, cohorts):
            texts[language, *path] = _read_text(table, language, is_push=path[1] == "push")
    return texts


def place_of(key: TextKey) -> tuple[str, tuple[str, ...]]:
    """Return the file of a text, and its path in there."""
    language, *path = key
    return f"copy/{language}.toml", tuple(path if path[0] != ANY else path[1:])


def _walk(
    root: Table, cohorts: Mapping[CohortName, Cohort]
) -> Iterator[tuple[tuple[str, str, str, str], Table]]:
    for name in root:
        if name in CHANNELS:
            for angle, offer, text in _walk_channel(
                root.table(name), cohorts.values(), "any cohort"
            ):
                yield (ANY, name, angle, offer), text
        elif name in cohorts:
            table = root.named(name)
            for channel in table.only(*CHANNELS):
                cohort = cohorts[CohortName(name)]
                for angle, offer, text in _walk_channel(
                    table.table(channel), [cohort], f'cohort "{name}"'
                ):
                    yield (name, channel, angle, offer), text
        else:
            raise root.unknown(name, (*cohorts, *CHANNELS), "cohort or channel")


def _walk_channel(
    table: Table, cohorts: Collection[Cohort], whose: str
) -> Iterator[tuple[str, str, Table]]:
    # A channel that a cohort leaves out may keep its texts, so that it can be switched off.
    combos = [combo for cohort in cohorts for combo in cohort.space.combos]
    angles = dict.fromkeys(combo.angle for combo in combos)
    for angle, by_offer in table.tables():
        if angle not in angles:
            raise table.unknown(angle, angles, f"angle in {whose}")
        offers = dict.fromkeys(combo.offer for combo in combos if combo.angle == angle)
        for offer, text in by_offer.tables():
            if offer not in (*offers, ANY):
                raise by_offer.unknown(offer, (*offers, ANY), f"offer in {whose}")
            yield angle, offer, text


def _read_text(table: Table, language: str, *, is_push: bool) -> Text:
    table.only("title", "body", "requires")
    title = table.need("title", TEXT) if is_push else table.get("title", ANY_TEXT, "")
    return Text(
        language=language,
        title=_read_template(table, "title", title),
        body=_read_template(table, "body", table.need("body", TEXT)),
        requires=table.get("requires", NAMES, ()),
    )


def _read_template(table: Table, key: str, text: str) -> Template:
    try:
        template = Template.of(text)
    except ConfigurationError as error:
        raise table.mistake(key, str(error), "-") from None
    if template.longest > _LONGEST[key]:
        raise table.mistake(
            key,
            f"can be {template.longest} characters long with its placeholders filled in"
            f" ({MAX_VALUE} each): keep it to {_LONGEST[key]}",
            "-",
        )
    return template
