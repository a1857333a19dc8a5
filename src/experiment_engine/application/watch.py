"""Listening for sources that fall silent, beside everything else, and off the webhooks' path.

A step goes through the events that were received since the last one, counts them by source and
hour, and compares the time since each source was last heard with its rhythm. What it found is
kept in a small transaction, only if nobody has gone the same step.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple, Protocol

import msgspec

from experiment_engine.domain.measurement.silence import (
    ENGINE,
    EVENTS,
    Rhythm,
    Silence,
    Stream,
    is_silent,
)
from experiment_engine.domain.moments import DAY, HOUR, MINUTE, SECOND, Duration, Instant, hour_of
from experiment_engine.domain.rules import Rules

PROGRESS = "watch"
CONVERTED = "converted"  # the name under which reports of conversions are kept
AT_ONCE = Duration(6 * HOUR)  # of received events in one step
SETTLES = Duration(10 * SECOND)  # by then a batch that is being committed is there
DOWN_AFTER = Duration(30 * MINUTE)  # without a step, and without an event: nobody took in
DOWN_EXPECTED = 10.0  # minutes with an event: fewer than for a source, as two things agree
FRESH = Duration(2 * HOUR)  # older on arrival, and it does not say that its source speaks now
LOOKS_BACK = Duration(15 * DAY)
RHYTHMS_KEPT = Duration(22 * DAY)  # those before a silence of a week, too
REMEMBERED = Duration(400 * DAY)  # silences, as long as experiments are usually kept

Span = tuple[Instant, Instant]  # half open


class Heard(NamedTuple):
    """What one stream told in one hour of receipt."""

    stream: Stream
    hour: int  # since 1970
    minutes: int  # in which it told something
    first: Instant
    last: Instant


class Place(msgspec.Struct, frozen=True):
    """How far the watch has come, and when each stream was last heard ("source told")."""

    upto: int
    live: bool = False  # it had come up to its present
    heard: dict[str, int] = {}


class Watching(Protocol):
    """What the watch reads: one consistent view."""

    def progress(self, name: str) -> str:
        """Return how far a piece of work has come; '' at its beginning."""

    def first_received(self, since: Instant) -> Instant | None:
        """Return when the first event from then on was received."""

    def received_minutes(self, received: Span) -> Sequence[Instant]:
        """Return the beginnings of the minutes in which events were received, in order."""

    def heard(self, received: Span, goals: Collection[str]) -> Sequence[Heard]:
        """Return what each stream told in a span, by hour."""

    def told_late(
        self, silence: Silence, until: Instant, received: Span, goals: Collection[str]
    ) -> int:
        """Return of how many minutes of a silent span events were received in another."""

    def rhythms(self, from_hour: int) -> Mapping[Stream, Mapping[int, int]]:
        """Return the kept counts of each stream by hour, from an hour on."""

    def silences(self, since: Instant) -> Sequence[Silence]:
        """Return the silences that began since, oldest first."""


class Logbook(Protocol):
    """What the watch writes: one small transaction."""

    def progress(self, name: str) -> str:
        """Return how far a piece of work has come; '' at its beginning."""

    def set_progress(self, name: str, position: str) -> None:
        """Remember how far a piece of work has come."""

    def silences(self, since: Instant) -> Sequence[Silence]:
        """Return the silences that began since, oldest first."""

    def add_heard(self, heard: Sequence[Heard]) -> None:
        """Add to the counts by hour."""

    def set_silences(self, silences: Sequence[Silence]) -> None:
        """Keep these silences as they stand now."""

    def forget_rhythm(self, source: str, told: Sequence[str]) -> None:
        """Take the counts of a source away: nothing is usual for it any more."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What one step found."""

    before: str
    place: Place
    heard: Sequence[Heard]
    silences: Sequence[Silence]  # those that changed
    began: Sequence[Silence] = ()
    ended: Sequence[Silence] = ()
    more: bool = False


def watch(rules: Rules, watching: Watching, now: Instant) -> Watched | None:
    """Look at what came since the last step; None where silence is off or nothing is to do."""
    if rules.silent_after is None:
        return None
    before = watching.progress(PROGRESS)
    place = msgspec.json.decode(before, type=Place) if before else _beginning(watching, now)
    present = _whole(Instant(now - SETTLES))
    until = min(present, Instant(place.upto + AT_ONCE))
    if until <= place.upto:
        return None
    live = until == present
    step = _Step(rules, watching, now, place, (Instant(place.upto), until))
    step.go(listens=live)
    after = Place(until, live, {**place.heard, **step.last})
    changed = list(step.changed.values())
    return Watched(before, after, step.heard, changed, step.began, step.ended, not live)


def keep_watch(found: Watched, logbook: Logbook) -> bool:
    """Keep what a step found, unless another process has gone it; return whether it was kept."""
    if logbook.progress(PROGRESS) != found.before:
        return False
    logbook.add_heard(found.heard)
    logbook.set_silences(found.silences)
    logbook.set_progress(PROGRESS, msgspec.json.encode(found.place).decode())
    return True


def release_source(
    source: str, silences: Sequence[Silence], logbook: Logbook, now: Instant
) -> Sequence[Silence]:
    """Let go of what a source's silences hold, and forget its rhythm: it begins anew."""
    released = [
        replace_silence(silence, filled_at=now, until=silence.until or now)
        for silence in silences
        if silence.source == source and silence.filled_at is None
    ]
    logbook.set_silences(released)
    if released:
        logbook.forget_rhythm(source, sorted({silence.told for silence in released}))
    return released


def fill(source: str, span: Span, logbook: Logbook, now: Instant) -> Sequence[Silence]:
    """Let go of a source's silences that have ended inside a span of which all was told since."""
    filled = [
        replace_silence(silence, filled_at=now)
        for silence in logbook.silences(Instant(span[0]))
        if silence.source == source and silence.filled_at is None
        if silence.until is not None and silence.until <= span[1]
    ]
    logbook.set_silences(filled)
    return filled


def replace_silence(silence: Silence, **changes: object) -> Silence:
    """Return the silence with some fields changed."""
    return silence._replace(**changes)  # type: ignore[arg-type]  # the names are the fields'


def _beginning(watching: Watching, now: Instant) -> Place:
    since = Instant(now - LOOKS_BACK)
    first = watching.first_received(since)
    return Place(_whole(first or Instant(now - SETTLES - MINUTE)))


def _whole(at: Instant) -> Instant:
    """Return the beginning of the minute: what is counted is never cut in two."""
    return Instant(at - at % MINUTE)


@dataclass(slots=True)
class _Step:
    """One step as it goes."""

    rules: Rules
    watching: Watching
    now: Instant
    place: Place
    span: Span
    heard: Sequence[Heard] = ()
    rhythms: Mapping[Stream, Mapping[int, int]] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)
    changed: dict[tuple[Stream, Instant], Silence] = field(default_factory=dict)
    began: list[Silence] = field(default_factory=list)
    ended: list[Silence] = field(default_factory=list)

    def go(self, *, listens: bool) -> None:
        """Count, and look at every silence and every stream."""
        goals = {cohort.goal.event for cohort in self.rules.cohorts.values()} | {CONVERTED}
        self.heard = self.watching.heard(self.span, goals)
        self.rhythms = self.watching.rhythms(hour_of(Instant(self.now - RHYTHMS_KEPT)))
        for one in self.heard:
            key = " ".join(one.stream)
            self.last[key] = max(self.last.get(key, 0), one.last)
        silences = list(self.watching.silences(Instant(self.now - REMEMBERED)))
        silences += self._own_silence()
        for silence in silences:
            self._look_at(silence, goals)
        if listens:
            self._listen([*silences, *self.changed.values()])

    def _own_silence(self) -> list[Silence]:
        """Return the span in which no process of ours took in, if there was one."""
        since = Instant(self.place.upto)
        if not self.place.live or self.now - since < DOWN_AFTER:
            return []
        present = _whole(Instant(self.now - SETTLES))
        came = [since, *self.watching.received_minutes((since, present)), present]
        since, until = max(pairwise(came), key=lambda gap: gap[1] - gap[0])
        if until - since < DOWN_AFTER:
            return []
        rhythms = [self._rhythm(stream, since) for stream in self.rhythms if stream.told == EVENTS]
        expected = sum(rhythm.expected(since, until) for rhythm in rhythms if rhythm)
        if expected < DOWN_EXPECTED:
            return []  # the watch was late, and nothing was to come
        own = Silence(ENGINE, EVENTS, since, until, expected, 0, None)
        self._change(own)
        self.ended.append(own)
        return [own]

    def _rhythm(self, stream: Stream, before: Instant) -> Rhythm | None:
        return Rhythm.of(self.rhythms.get(stream, {}), hour_of(before))

    def _look_at(self, silence: Silence, goals: Collection[str]) -> None:
        """Let a silence end when its stream is heard again, and be filled by what comes late."""
        if silence.filled_at is not None:
            return
        if silence.until is None:
            again = [h.first for h in self.heard if h.stream == silence.stream]
            if again:
                until = min(again)
                rhythm = self._rhythm(silence.stream, silence.since)
                expected = rhythm.expected(silence.since, until) if rhythm else 0.0
                silence = replace_silence(silence, until=until, expected=expected)
                self.ended.append(silence)
                self._change(silence)
        if silence.until is None:
            return
        late = self.watching.told_late(silence, silence.until, self.span, goals)
        if late:
            silence = replace_silence(silence, late=silence.late + late)
            if silence.is_filled:
                silence = replace_silence(silence, filled_at=self.now)
            self._change(silence)

    def _listen(self, silences: Sequence[Silence]) -> None:
        """Begin a silence where a stream has not been heard for unusually long."""
        assert self.rules.silent_after is not None  # noqa: S101 - `watch` has looked
        open_now = {s.stream for s in silences if s.until is None and s.filled_at is None}
        open_now -= {s.stream for s in self.changed.values() if s.until is not None}
        down = [s.until for s in silences if s.source == ENGINE and s.until is not None]
        since_down = max(down, default=Instant(0))
        for key, at in {**self.place.heard, **self.last}.items():
            source, _, told = key.rpartition(" ")
            stream, heard_at = Stream(source, told), max(Instant(at), since_down)
            rhythm = self._rhythm(stream, Instant(at))
            if stream not in open_now and is_silent(
                rhythm, heard_at, self.now, self.rules.silent_after
            ):
                silence = Silence(source, told, heard_at, None, 0.0, 0, None)
                self._change(silence)
                self.began.append(silence)

    def _change(self, silence: Silence) -> None:
        self.changed[silence.stream, silence.since] = silence
