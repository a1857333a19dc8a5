"""The configuration folder, read and checked as a whole."""

from pathlib import Path

from experiment_engine.configuration.catalogue_checks import (
    check_facts,
    check_placeholders,
    check_texts,
)
from experiment_engine.configuration.channel_tables import read_channels
from experiment_engine.configuration.cohort_file import read_cohort
from experiment_engine.configuration.copy_files import read_texts
from experiment_engine.configuration.engine_file import (
    ENGINE_KEYS,
    read_budgets,
    read_choice_events,
    read_expires_after,
    read_frequency_cap,
    read_holdout_share,
    read_quiet_hours,
    read_retention,
    read_send_rate,
    read_silent_after,
    read_timezone,
)
from experiment_engine.configuration.fact_tables import read_facts
from experiment_engine.configuration.files import ConfigurationFiles, read_files
from experiment_engine.configuration.kinds import spell
from experiment_engine.configuration.languages import read_languages
from experiment_engine.configuration.placeholder_tables import read_placeholders
from experiment_engine.configuration.tables import mistake
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.delivery.copy import Catalogue
from experiment_engine.domain.identifiers import CohortName
from experiment_engine.domain.rules import Rules


def bundled_example() -> Path:
    """Return the folder of the configuration that comes with the engine."""
    return Path(__file__).parent / "example"


def load(folder: Path) -> Rules:
    """Read a configuration folder.

    Raises ConfigurationError with one line that names file, key and mend; never anything else,
    whatever stands in the files.
    """
    return read(read_files(folder))


def read(files: ConfigurationFiles) -> Rules:
    """Read the files of a configuration folder; raises ConfigurationError likewise."""
    cohorts = _read_cohorts(files)
    rules = _read_rules(files, cohorts)
    check_placeholders(rules.catalogue)
    check_facts(rules)
    check_texts(rules.catalogue, cohorts.values(), rules.languages.default)
    if rules.retention.experiments < rules.memory():
        raise files.engine.table("retention").mistake(
            "experiments",
            f'"{spell(rules.retention.experiments)}" is less than what the windows, pauses and'
            f' caps look back at: write "{spell(rules.memory())}" or more',
        )
    return rules


def _read_cohorts(files: ConfigurationFiles) -> dict[CohortName, Cohort]:
    if not files.cohorts:
        raise mistake(
            "cohorts/", "there is no cohort: add a file such as cohorts/checkout_abandoners.toml"
        )
    cohorts = (read_cohort(name, table) for name, table in files.cohorts.items())
    return {cohort.name: cohort for cohort in cohorts}


def _read_rules(files: ConfigurationFiles, cohorts: dict[CohortName, Cohort]) -> Rules:
    engine = files.engine.only(*ENGINE_KEYS)
    opt_out, opt_in = read_choice_events(engine)
    return Rules(
        cohorts=cohorts,
        languages=read_languages(engine.table("languages"), files.copy),
        catalogue=Catalogue(
            texts=read_texts(files.copy, cohorts),
            placeholders=read_placeholders(engine, files.copy),
        ),
        channels=read_channels(engine, cohorts.values(), files.copy),
        timezone=read_timezone(engine),
        quiet_hours=read_quiet_hours(engine),
        frequency_cap=read_frequency_cap(engine),
        expires_after=read_expires_after(engine),
        holdout_share=read_holdout_share(engine),
        opt_out_events=opt_out,
        opt_in_events=opt_in,
        facts=read_facts(engine),
        offers=read_budgets(engine, cohorts.values()),
        send_per_second=read_send_rate(engine),
        retention=read_retention(engine),
        silent_after=read_silent_after(engine),
        fingerprint=files.fingerprint,
    )
