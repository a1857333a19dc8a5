"""`replay`: history in, nothing out: what would have been decided, what is usual, what worked."""

import json as json_text
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.progress import Progress

from experiment_engine import bootstrap
from experiment_engine.adapters.amplitude.export import facts_of, files_of
from experiment_engine.adapters.storage.sqlite import SqliteStorage
from experiment_engine.adapters.system.chance import ChanceOfThePast
from experiment_engine.adapters.system.logs import Journal
from experiment_engine.application.history import (
    History,
    is_of_history,
    read_history,
    take_in_history,
)
from experiment_engine.application.rehearse import Rehearsal, Rehearsed
from experiment_engine.domain.delivery.experiment import Experiment, Mode
from experiment_engine.domain.delivery.message import Answer, Verdict
from experiment_engine.domain.errors import WrongUse
from experiment_engine.domain.events import Happened
from experiment_engine.domain.identifiers import CohortName, ExperimentId
from experiment_engine.domain.moments import MINUTE, Duration, Instant
from experiment_engine.domain.rules import Rules
from experiment_engine.engine.engine import Engine
from experiment_engine.engine.ground import Ground
from experiment_engine.settings import Settings, read_settings

_SLICE = Duration(5 * MINUTE)  # of the history, taken in at once
_CALLS = 1_000  # of each channel at once: nobody waits for a provider
_READ_AT_ONCE = 5_000


@dataclass
class _Past:
    """A clock that stands where the history is."""

    at: Instant = Instant(0)

    def now(self) -> Instant:
        """Return the moment that is replayed."""
        return self.at


def replay(
    *paths: Annotated[
        Path, Parameter(help="Amplitude export files (.json, .json.gz, .zip) or folders of them.")
    ],
    learn: Annotated[
        bool,
        Parameter(negative=(), help="Put the trials that they carry in place of earlier ones."),
    ] = False,
    unlearn: Annotated[
        bool,
        Parameter(negative=(), help="Take back what was learned from exports; needs no file."),
    ] = False,
    json: Annotated[bool, Parameter(help="Answer as JSON.")] = False,
) -> None:
    """Let the engine live through exported events, and tell what it would have done.

    The rules and policies of the configuration run on a database that is thrown away. Nothing is
    sent: it says how many would have been written to, what would have stopped messages, and how
    many users reach the goal by themselves, and how soon.

    With --learn, rows that say what was sent and when (`experiment_sent` events with `cohort` and
    `combo_key`, as the engine tells Amplitude) become trials in the engine's own database, and
    policies begin with them. Name all files at once: they take the place of earlier history.
    """
    settings = read_settings(os.environ)
    rules = bootstrap.read_rules(settings)
    if unlearn:
        _learn(rules, settings, History())
        print(json_text.dumps({"history": {}}) if json else "History is forgotten.")  # noqa: T201
        return
    if not paths:
        raise WrongUse("replay: name at least one export file or folder")
    wanted = {c.trigger.event for c in rules.cohorts.values()}
    wanted |= {c.goal.event for c in rules.cohorts.values()}
    wanted |= rules.opt_out_events | rules.opt_in_events
    with Progress(console=Console(stderr=True)) as bars:
        read = _Read()
        files = files_of(list(paths))
        reading = bars.add_task("reading", total=len(files))
        for file in files:
            read.add(file, wanted)
            bars.advance(reading)
        living = bars.add_task("living through it", total=len(read.facts))
        found = _live_through(rules, read.facts, lambda done: bars.advance(living, done))
    history = read_history([*read.sent, *read.facts], rules.cohorts, read.until)
    if learn:
        history = _learn(rules, settings, history)
    answer = {
        "events": read.events,
        "of_no_use": read.events - len(read.facts) - len(read.sent) - read.unreadable,
        "unreadable": read.unreadable,
        "cohorts": {name: _described(one) for name, one in found.items()},
        "history": {
            "learned": learn,
            "trials": len(history.trials),
            "successes": sum(trial.converted is not None for trial in history.trials),
            "left_out": dict(history.left_out),
        },
    }
    print(json_text.dumps(answer) if json else _text(answer))  # noqa: T201 - the answer


class _Read:
    """What the files hold."""

    def __init__(self) -> None:
        self.facts: list[Happened] = []
        self.sent: list[Happened] = []  # messages of the past, with their combo
        self.until = Instant(0)  # the newest moment that they tell of
        self.events = self.unreadable = 0

    def add(self, file: Path, wanted: set[Any]) -> None:
        """Keep the events that the configuration knows, and count the others."""
        for fact in facts_of(file):
            self.events += 1
            if isinstance(fact, Happened):
                self.until = max(self.until, fact.at or self.until)
                if is_of_history(fact):
                    self.sent.append(fact)
                elif fact.name in wanted and fact.at is not None:
                    self.facts.append(fact)
            elif not hasattr(fact, "name"):
                self.unreadable += 1


def _learn(rules: Rules, settings: Settings, history: History) -> History:
    mode = bootstrap.mode_of(settings, rules)
    with closing(bootstrap.open_storage(settings)) as storage:
        return storage.run(lambda tx: take_in_history(history, mode, tx))


def _live_through(rules: Rules, facts: list[Happened], tell: Any) -> dict[CohortName, Rehearsed]:
    facts.sort(key=lambda fact: fact.at or 0)
    clock, rehearsal = _Past(), Rehearsal(rules.cohorts)
    if facts:
        clock.at = facts[0].at or clock.at
    with tempfile.TemporaryDirectory(prefix="replay-") as folder:
        storage = SqliteStorage(Path(folder) / "replay.db")
        journal = Journal("json", StringIO())
        ground = Ground(Mode.DRY_RUN, storage, journal, clock, ChanceOfThePast())
        engine = Engine(rules, ground)
        with closing(engine):
            engine.open()
            life = _Life(engine, clock)
            for together in _slices(facts):
                life.go_on_to(together[-1].at or clock.at)
                taken = engine.traffic.take(together)
                life.expect(made for made, _ in taken.decided.values())
                rehearsal.add(taken.results)
                tell(len(together))
            life.go_on_to(Instant(clock.at + max(c.goal.window for c in rules.cohorts.values())))
            made = _experiments(storage)
    return {
        name: rehearsal.of(name, [e for e in made if e.cohort == name]) for name in rules.cohorts
    }


def _slices(facts: Sequence[Happened]) -> Iterator[list[Happened]]:
    together: list[Happened] = []
    for fact in facts:
        if together and (fact.at or 0) - (together[0].at or 0) >= _SLICE:
            yield together
            together = []
        together.append(fact)
    if together:
        yield together


class _Life:
    """Lets time pass, and ends what is due as if it were sent; nobody is called."""

    def __init__(self, engine: Engine, clock: _Past) -> None:
        self._engine, self._clock = engine, clock
        self._last_due = Instant(0)

    def expect(self, experiments: Iterable[Experiment]) -> None:
        """Remember that these wait for their time."""
        self._last_due = max([self._last_due, *(made.due_at for made in experiments)])

    def go_on_to(self, moment: Instant) -> None:
        """Go on slice by slice while something waits, then at once."""
        while self._clock.at < min(moment, self._last_due):
            self._clock.at = Instant(min(self._clock.at + _SLICE, moment))
            self._deliver()
        self._clock.at = max(self._clock.at, moment)
        self._deliver()

    def _deliver(self) -> None:
        while True:
            claimed = self._engine.traffic.claim(
                dict.fromkeys(self._engine.rules.channels, _CALLS), ()
            )
            self.expect(claimed.experiments)
            if claimed.calls:
                taken = Answer(Verdict.ACCEPTED, "replayed", answer="", status=None)
                self._engine.traffic.record([(call, taken) for call in claimed.calls])
            if not claimed.experiments:
                return


def _experiments(storage: SqliteStorage) -> list[Experiment]:
    made: list[Experiment] = []
    last = ExperimentId("")
    while found := storage.run(
        lambda tx, last=last: tx.experiments_after(last, _READ_AT_ONCE)  # type: ignore[misc]
    ):
        made += found
        last = found[-1].id
    return made


def _described(one: Rehearsed) -> dict[str, Any]:
    rate = one.converted / one.started if one.started else None
    return {
        "started": one.started,
        "per_day": round(one.started / one.days, 1) if one.days else 0.0,
        "ignored": dict(one.ignored),
        "ended": dict(one.ended),
        "converted_by_themselves": one.converted,
        "base_rate": rate,
        "base_rate_interval": [one.base_rate.low, one.base_rate.high],
        "hours_to_convert": {
            f"{100 * quantile:.0f}%": None if hours != hours else round(hours, 2)  # noqa: PLR0124
            for quantile, hours in one.hours_to_convert.items()
        },
        "postponed": one.postponed,
        "drawn": {dimension: dict(levels) for dimension, levels in one.levels.items()},
    }


def _text(answer: dict[str, Any]) -> str:
    lines = [_head(answer)]
    for name, one in answer["cohorts"].items():
        if not (one["started"] or one["ignored"]):
            lines += ["", f"{name}: its trigger is in none of these files"]
            continue
        rate = "-" if one["base_rate"] is None else f"{100 * one['base_rate']:.2f} %"
        low, high = (f"{100 * end:.2f}" for end in one["base_rate_interval"])
        soon = _soon(one["hours_to_convert"])
        lines += [
            "",
            f"{name}: {one['started']} would have been decided, {one['per_day']} a day",
            f"  by themselves {rate} [{low}, {high}] reach the goal in the window; {soon}",
            f"  not decided: {_counts(one['ignored'])}",
            f"  ended: {_counts(one['ended'])}; after quiet hours: {one['postponed']}",
            *(f"  {dimension}: {_counts(levels)}" for dimension, levels in one["drawn"].items()),
        ]
    past = answer["history"]
    if past["trials"] or past["left_out"]:
        learned = "learned" if past["learned"] else "not learned: --learn does"
        lines += [
            "",
            f"sent before: {past['trials']} trials, {past['successes']} successes ({learned})",
            f"  left out: {_counts(past['left_out'])}",
        ]
    return "\n".join(lines)


def _head(answer: dict[str, Any]) -> str:
    return (
        f"{answer['events']} events: {answer['of_no_use']} that no cohort knows,"
        f" {answer['unreadable']} not understood. Nothing was sent."
    )


def _soon(hours: dict[str, float | None]) -> str:
    known = [f"{share} within {number} h" for share, number in hours.items() if number is not None]
    return ", ".join(known) or "nobody did"


def _counts(counts: dict[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {number}" for name, number in ordered) or "none"
