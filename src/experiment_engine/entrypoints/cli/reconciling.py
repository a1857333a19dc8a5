"""`reconcile`: what partners can tell afterwards, of lost events and of unknown messages."""

import json as json_text
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar

from cyclopts import Parameter
from rich.console import Console
from rich.progress import Progress

from experiment_engine import bootstrap
from experiment_engine.adapters.amplitude.export import facts_of as facts_of_file
from experiment_engine.adapters.amplitude.export import files_of
from experiment_engine.adapters.amplitude.export_api import READY_AFTER
from experiment_engine.adapters.clevertap.events_api import NotExported
from experiment_engine.application.reconcile import (
    CLICKED,
    DELIVERED,
    Tally,
    facts_of,
    goals_of,
    sort_out,
)
from experiment_engine.domain.errors import ConfigurationError, WrongUse
from experiment_engine.domain.events import Happened
from experiment_engine.domain.moments import HOUR, Instant, to_datetime, to_instant
from experiment_engine.domain.past import ToldLater
from experiment_engine.domain.rules import Rules
from experiment_engine.entrypoints.cli.past_sinks import Nowhere, Sink, open_sink
from experiment_engine.settings import Settings, read_settings

T = TypeVar("T")

_AT_ONCE = 500  # events in one transaction
_LONGEST = timedelta(days=365)  # that Amplitude exports


def reconcile(
    *paths: Annotated[
        Path, Parameter(help="Amplitude export files, or folders of them, besides its API.")
    ],
    since: Annotated[
        datetime | None, Parameter(help="From then on (ISO 8601, UTC); a day ago, if left out.")
    ] = None,
    until: Annotated[
        datetime | None, Parameter(help="Up to then; two hours ago, if left out or later.")
    ] = None,
    timezone: Annotated[
        str | None, Parameter(help="Of the CleverTap project; that of engine.toml, if left out.")
    ] = None,
    dry_run: Annotated[bool, Parameter(help="Ask and count; take nothing in.")] = False,
    json: Annotated[bool, Parameter(help="Answer as JSON.")] = False,
) -> None:
    """Fetch what never arrived, and settle what is unknown. Nothing is ever sent.

    Of Amplitude (AMPLITUDE_API_KEY, AMPLITUDE_SECRET_KEY; or files) goals, opt-outs and opt-ins
    are taken in at their own time; triggers are counted and start nothing. Of CleverTap goals,
    clicks of our campaigns, and delivery reports: these alone settle `unknown`. On SQLite it works
    through the server that runs, or by itself where none does.
    """
    settings = read_settings(os.environ)
    rules = bootstrap.read_rules(settings)
    span = _span(since, until)
    _require_something(settings, paths)
    answer: dict[str, Any] = {
        "since": span[0].isoformat(),
        "until": span[1].isoformat(),
        "dry_run": dry_run,
    }
    with ExitStack() as opened, Progress(console=Console(stderr=True)) as bars:
        sink = Nowhere() if dry_run else opened.enter_context(open_sink(settings))
        work = _Work(settings, rules, sink, span, bars)
        if paths:
            answer["files"] = dict(work.files(paths))
        if settings.amplitude_secret_key:
            answer["amplitude"] = dict(work.amplitude())
        if settings.clevertap_account_id:
            answer["clevertap"] = work.clevertap(timezone or rules.timezone)
    print(json_text.dumps(answer) if json else _text(answer))  # noqa: T201 - the answer


def _span(since: datetime | None, until: datetime | None) -> tuple[datetime, datetime]:
    ready = to_datetime(Instant(int(time.time() * 1_000) - READY_AFTER))
    end = min(_aware(until) if until else ready, ready)
    begin = _aware(since) if since else end - timedelta(days=1)
    if not begin < end:
        raise WrongUse(
            "--since: must be before --until, and more than two hours ago: partners have events"
            " two hours later"
        )
    if end - begin > _LONGEST:
        raise WrongUse("--since: more than 365 days before --until: Amplitude has less")
    return begin, end


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _require_something(settings: Settings, paths: Sequence[Path]) -> None:
    if not (paths or settings.amplitude_secret_key or settings.clevertap_account_id):
        raise ConfigurationError(
            "reconcile: nobody to ask: set AMPLITUDE_API_KEY and AMPLITUDE_SECRET_KEY, or the"
            " CleverTap account, or name export files"
        )


class _Work:
    """Asks one partner after another, and hands over what is of use."""

    def __init__(
        self,
        settings: Settings,
        rules: Rules,
        sink: Sink,
        span: tuple[datetime, datetime],
        bars: Progress,
    ) -> None:
        self._settings, self._rules, self._sink = settings, rules, sink
        self._span, self._bars = span, bars

    def files(self, paths: Sequence[Path]) -> Tally:
        """Take in what export files hold."""
        files, tally = files_of(list(paths)), Counter[str]()
        task = self._bars.add_task("reading files", total=len(files))
        for file in files:
            self._file(file, tally)
            self._bars.advance(task)
        return tally

    def amplitude(self) -> Tally:
        """Take in what was uploaded in each hour of the span."""
        first, last = (to_instant(at) // HOUR for at in self._span)
        tally = Counter[str](hours=0, hours_without=0)
        task = self._bars.add_task("asking Amplitude", total=last - first)
        with (
            tempfile.TemporaryDirectory(prefix="reconcile-") as folder,
            bootstrap.open_export(self._settings) as export,
        ):
            for hour in range(first, last):
                file = export.download(Instant(hour * HOUR), Path(folder))
                tally["hours" if file else "hours_without"] += 1
                if file is not None:
                    self._file(file, tally)
                    file.unlink()
                self._bars.advance(task)
        span = Instant(first * HOUR), Instant(last * HOUR)
        tally["filled"] = self._sink.filled("amplitude", span)
        return tally

    def clevertap(self, zone: str) -> dict[str, Any]:
        """Take in goals and clicks, and settle by delivery reports, as far as exported."""
        tally, kept_back = Counter[str](), list[str]()
        names = [*goals_of(self._rules), CLICKED, DELIVERED]
        task = self._bars.add_task("asking CleverTap", total=len(names))
        with bootstrap.open_events(self._settings, zone) as events:
            for name in names:
                try:
                    for reports in _together(events.reports(name, *self._span)):
                        self._reports(reports, tally)
                except NotExported:
                    kept_back.append(name)
                self._bars.advance(task)
        if not kept_back:
            tally["filled"] = self._sink.filled(
                "clevertap", (to_instant(self._span[0]), to_instant(self._span[1]))
            )
        return {**tally, "not_exported": kept_back}

    def _file(self, file: Path, tally: Tally) -> None:
        for facts in _together(facts_of_file(file)):
            useful = sort_out(facts, self._rules, tally)
            for fact in useful:
                tally["useful"] += isinstance(fact, Happened)
            if useful:
                tally.update(self._sink.events(useful))

    def _reports(self, reports: Sequence[ToldLater], tally: Tally) -> None:
        facts_of(reports, self._rules, tally)  # counts them; the engine makes them again
        tally["deliveries"] += sum(report.name == DELIVERED for report in reports)
        tally.update(self._sink.reports(reports))


def _together(found: Iterator[T]) -> Iterator[list[T]]:
    some: list[T] = []
    for one in found:
        some.append(one)
        if len(some) >= _AT_ONCE:
            yield some
            some = []
    if some:
        yield some


def _text(answer: dict[str, Any]) -> str:
    lines = [f"From {answer['since']} to {answer['until']}."]
    for name in ("files", "amplitude", "clevertap"):
        if name in answer:
            counts = {key: n for key, n in answer[name].items() if key != "not_exported"}
            told = ", ".join(f"{key.replace('_', ' ')} {n}" for key, n in counts.items())
            lines.append(f"{name}: {told or 'nothing'}")
    lines += [
        f'CleverTap does not export "{name}" for this account: nothing follows from it.'
        for name in answer.get("clevertap", {}).get("not_exported", ())
    ]
    lines.append("Nothing was taken in." if answer["dry_run"] else "Nothing was sent.")
    return "\n".join(lines)
