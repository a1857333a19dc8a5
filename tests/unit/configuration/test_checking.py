"""`config check` tells every mistake at once, and nothing that only follows from another one."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.configuration.small_folder import SMALL, Files, write
from tests.unit.configuration.test_configuration_any_content import EXAMPLE, spoil
from tests.unit.configuration.test_configuration_mistakes import COHORT, COPY, ENGINE, MISTAKES

from experiment_engine.configuration.checking import check
from experiment_engine.configuration.loading import bundled_example, load
from experiment_engine.domain.errors import ConfigurationError


def told(folder: Path, files: Files) -> list[str]:
    return [str(one) for one in check(write(folder, files)).mistakes]


def refusal_of(folder: Path) -> str | None:
    try:
        load(folder)
    except ConfigurationError as error:
        return str(error)
    return None


def test_a_right_folder_has_none() -> None:
    """The bundled example has no mistake."""
    found = check(bundled_example())
    assert (found.mistakes, found.unchecked) == ([], False)


def test_all_are_told_at_once(tmp_path: Path) -> None:
    """Mistakes of several files and places are told together."""
    files = {
        ENGINE: SMALL[ENGINE]
        .replace("share = 0.05", "share = 5")
        .replace('start = "23', 'strat = "23')
        .replace("per_second = 200", "per_second = 0"),
        COHORT: SMALL[COHORT].replace("rate = 0.05", "rate = 5").replace('"left"', '""'),
        COPY: SMALL[COPY].replace("{order_id}", "{ordr_id}").replace("tle = ", "tel = "),
    }
    lines = told(tmp_path, {**SMALL, **files})

    places = sorted(line.split(": ")[1] for line in lines)
    assert places == sorted(
        [
            "holdout.share",
            "quiet_hours.strat",
            "send_rate.per_second",
            "prior.rate",
            "trigger.event",
            'push.helpful."*".body',
            'push.helpful."*".titel',
            'push.urgency."*".titel',
            "leavers.whatsapp.helpful.none.titel",
        ]
    )


def test_a_missing_language_of_many_texts(tmp_path: Path) -> None:
    """Every text that is missing is told, not the first alone."""
    texts = SMALL[COPY].split("[leavers.whatsapp.helpful.none]")[0]
    lines = told(tmp_path, {**SMALL, COPY: texts})
    assert len(lines) == 2
    assert all("cohort leavers has no text" in line for line in lines)


@pytest.mark.parametrize(("file", "old", "new", "says"), MISTAKES)
def test_one_mistake(tmp_path: Path, file: str, old: str, new: str, says: tuple[str, ...]) -> None:
    """The first that is told is the one that stops a start."""
    files = {**SMALL, file: SMALL[file].replace(old, new)}
    lines = told(tmp_path, files)

    with pytest.raises(ConfigurationError) as stopped:
        load(tmp_path)
    assert lines[0] == str(stopped.value)
    assert len(lines) <= 5


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_whatever_stands_there(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Something is told exactly where loading refuses, and the search ends."""
    files = spoil(spoil(dict(SMALL), data), data)
    folder = write(tmp_path_factory.mktemp("any"), files)
    lines = [str(one) for one in check(folder).mistakes]

    assert len(set(lines)) == len(lines)
    refused = refusal_of(folder)
    assert refused in lines if refused else not lines


def test_a_file_that_is_no_toml(tmp_path: Path) -> None:
    """Two broken files are both named, and what stands in the others as well."""
    cohort = EXAMPLE["cohorts/payment_failed.toml"].replace("rate = ", "rte = ")
    lines = told(
        tmp_path,
        {
            **EXAMPLE,
            "engine.toml": "a = [",
            "copy/en.toml": "x",
            "cohorts/payment_failed.toml": cohort,
        },
    )
    assert [line.split(":")[0] for line in lines] == [
        "copy/en.toml",
        "engine.toml",
        "cohorts/payment_failed.toml",
    ]
