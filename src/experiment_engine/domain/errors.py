"""Every error the engine raises on purpose.

EngineError
├── ConfigurationError      the configuration folder or a setting is wrong: file, key and mend
│   ├── InvalidDuration     a span of time that cannot be read
│   └── WrongUse            arguments of a command that mean nothing, whatever there is
├── UnknownCohort           a name that no cohort has
├── UnknownExperiment       an id that no experiment has
├── NotUnderstood           an authenticated body that cannot be read: it goes to quarantine
├── MissingExtra            an optional dependency that is not installed
├── PartnerRefused          Amplitude or CleverTap does not give what was asked for
├── Overloaded              the queue of the webhooks is full: try again
├── StorageUnavailable      the database cannot be written or read now: try again
│   └── OutcomeUnknown      it went away while it was to say whether something was stored
├── StorageInUse            another process holds the database
└── UnknownSchema           the database's schema is not the one this version knows
"""

from collections.abc import Callable
from typing import Any


class EngineError(Exception):
    """Base of every error the engine raises on purpose; its text tells a person what to do."""


class ConfigurationError(EngineError):
    """The configuration is wrong; the message names file, key and mend in one line."""


class InvalidDuration(ConfigurationError):
    """A span of time that cannot be read."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f'"{text}" is not a duration: a number and a unit (s, min, h, d), such as "15min"'
        )


class WrongUse(ConfigurationError):
    """Arguments that mean nothing, whatever the configuration and the database hold."""


class UnknownCohort(EngineError):
    """No cohort has this name."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f'There is no cohort "{name}". Known: {", ".join(known)}.')


class UnknownScope(EngineError):
    """There is no such channel, combo or level to pause."""


class UnknownExperiment(EngineError):
    """No experiment has this id."""


class NotUnderstood(EngineError):
    """An authenticated body, or one event of it, that cannot be read as what it should be."""


class MissingExtra(EngineError):
    """What was asked for needs an optional dependency that is not installed."""


class PartnerRefused(EngineError):
    """A partner, or the server, does not give what was asked for; the message says what to do."""


class Overloaded(EngineError):
    """More webhooks wait than the engine is willing to hold."""


class StorageUnavailable(EngineError):
    """The database cannot be reached, or has no room."""


class OutcomeUnknown(StorageUnavailable):
    """The database went away between a commit and its answer; `look` tells what came of it.

    `look` returns the result of the work that turns out to be stored, None if it was not, and
    raises StorageUnavailable while the database is away.
    """

    def __init__(self, message: str, look: Callable[[], Any]) -> None:
        super().__init__(message)
        self.look = look


class StorageInUse(EngineError):
    """Another process holds the embedded database."""


class UnknownSchema(EngineError):
    """The database's schema is not the one this version of the engine knows."""
