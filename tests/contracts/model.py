"""What the engine must do, written from the contract: no database, no policy, no code of its own.

It knows what was told, what the provider may have delivered, and the rules R1 to R12. What chance
decides (combo, holdout) it takes from the engine, and checks that the rules allow it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
DELAYS = {"2min": 2 * MINUTE, "1h": HOUR}
COHORTS = ("checkout_abandoners", "payment_failed")  # with the same goal
AGAIN_AFTER, CONVERTED_QUIET, WINDOW, MAX_AGE = 30 * MINUTE, HOUR, 3 * DAY, 6 * HOUR
CAP_SPAN, MIN_GAP, EXPIRES_AFTER, LEASE = DAY + 17 * SECOND, 5 * MINUTE, 30 * MINUTE, 2 * MINUTE
QUIET_FROM, QUIET_TO, SPREAD = 22, 8, 30 * MINUTE  # hours of the user's clock
PLACED = ("claimed", "sent", "unknown", "held_out")
OUT = ("claimed", "sent", "unknown")


@dataclass(frozen=True)
class Settings:
    """What a change of the configuration changes."""

    cap: int = 3
    quiet: bool = True
    channels: tuple[str, ...] = ("push", "whatsapp")


@dataclass
class Message:
    """One experiment, from the decision on."""

    id: str
    user: str | None  # None: erased
    cohort: str
    channel: str
    zone: str
    held_out: bool
    triggered_at: int
    decided_at: int
    due_at: int
    expires_at: int
    state: str = "scheduled"
    reason: str | None = None
    placed_at: int | None = None
    opened_at: int | None = None
    converted_at: int | None = None
    call: str | None = None
    may_be_out: bool = False  # the provider may have taken it

    def holds(self, at: int) -> bool:
        return self.triggered_at <= at <= self.triggered_at + WINDOW

    def end(self, state: str, reason: str | None = None) -> None:
        self.state, self.reason = state, reason

    def counts(self) -> tuple[int, int, int, int, int]:
        """Return trials, successes, sent, opened and converted (R1, R2)."""
        back = int(self.converted_at is not None)
        match self.state, self.reason:
            case (("scheduled" | "claimed"), _):
                return 1, 0, 0, 0, 0
            case "sent", _:
                return 1, back, 1, int(self.opened_at is not None), back
            case "held_out", _:
                return 1, back, 0, 0, back
            case "cancelled", "converted":
                return back, back, 0, 0, 0
            case _:
                return 0, 0, 0, 0, 0


@dataclass
class Person:
    """What was told of a user."""

    events: set[str] = field(default_factory=set)
    goals: list[int] = field(default_factory=list)
    choices: list[tuple[int, bool, str]] = field(default_factory=list)  # when, no, channel
    erased_at: int | None = None

    @property
    def erased(self) -> bool:
        return self.erased_at is not None

    def says_no(self, channel: str) -> bool:
        said = [(at, no) for at, no, about in self.choices if about in ("*", channel)]
        return bool(said) and max(said)[1]  # of a yes and a no of the same moment the no

    def reached_goal(self, triggered_at: int) -> bool:
        return any(at >= triggered_at - CONVERTED_QUIET for at in self.goals)


@dataclass
class Model:
    """Everybody and every message."""

    settings: Settings = field(default_factory=Settings)
    people: dict[str, Person] = field(default_factory=dict)
    messages: dict[str, Message] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)

    def person(self, user: str) -> Person:
        return self.people.setdefault(user, Person())

    def of(self, user: str, *states: str) -> Iterator[Message]:
        for message in self.messages.values():
            if message.user == user and (not states or message.state in states):
                yield message

    # Triggers

    def against(self, user: str, cohort: str, at: int, now: int) -> set[str]:
        """Return why a trigger starts nothing; any of the reasons is a right answer."""
        person, mine = self.person(user), [m for m in self.of(user) if m.cohort == cohort]
        if person.erased:
            return {"erased"}
        reasons = {
            "too_old": at < now - MAX_AGE,
            "paused": bool(self.paused & {"*", cohort}),
            "already_active": any(m.state in ("scheduled", "claimed") for m in mine),
            "converted": person.reached_goal(at),
            "cooldown": any(now - m.decided_at < AGAIN_AFTER for m in mine),
        }
        return {reason for reason, holds in reasons.items() if holds}

    def refused(self, user: str, at: int, zone: str, now: int) -> list[str | None]:
        """Return for every delay and channel why its combos are not eligible, or None."""
        found: list[str | None] = []
        for delay in DELAYS.values():
            for channel in self.settings.channels:
                due = max(at + delay, now)
                if self.person(user).says_no(channel):
                    found.append("opted_out")
                elif at + delay < now - MINUTE:
                    found.append("overdue")
                elif self.is_quiet(zone, due):
                    found.append("quiet_hours")
                else:
                    found.append(None if self.fits(user, due) else "frequency_cap")
        return found

    def is_quiet(self, zone: str, at: int) -> bool:
        hour = datetime.fromtimestamp(at // 1_000, UTC).astimezone(ZoneInfo(zone)).hour
        return self.settings.quiet and (hour >= QUIET_FROM or hour < QUIET_TO)

    def fits(self, user: str, at: int, but: Message | None = None) -> bool:
        """Say whether the caps allow one more message of the user."""
        placed = [m.placed_at for m in self.of(user, *PLACED) if m is not but]
        moments = [moment for moment in placed if moment is not None]
        recent = [moment for moment in moments if moment > at - CAP_SPAN]
        near = any(abs(at - moment) < MIN_GAP for moment in moments)
        return len(recent) < self.settings.cap and not near

    # Feedback

    def convert(self, user: str, at: int) -> str:
        """Return the status of the answer (R6)."""
        if self.person(user).erased:
            return "ignored"
        cancelled = [
            m for m in self.of(user, "scheduled") if at >= m.triggered_at - CONVERTED_QUIET
        ]
        for message in cancelled:
            message.end("cancelled", "converted")
            message.converted_at = at if message.holds(at) else None
        self.person(user).goals.append(at)
        credited = [self._credited(user, cohort, at) for cohort in COHORTS]
        found = [m for m in credited if m is not None and m not in cancelled]
        fresh = [m for m in found if m.converted_at is None]
        for message in fresh:
            message.converted_at = at
        if fresh:
            return "recorded"
        return "cancelled" if cancelled else "duplicate" if found else "ignored"

    def _credited(self, user: str, cohort: str, at: int) -> Message | None:
        inside = [m for m in self.of(user) if m.cohort == cohort and m.holds(at)]
        reached = [m for m in inside if m.state in ("claimed", "sent", "held_out")]
        found = reached or [m for m in inside if m.converted_at is not None]
        return max(found, key=lambda m: (m.triggered_at, -m.decided_at), default=None)

    def open(self, user: str, message: Message, at: int) -> tuple[str, str | None]:
        if self.person(user).erased:
            return "ignored", "erased"
        if message.user != user:
            return "ignored", "mismatch"
        if message.state not in OUT:
            return "ignored", "not_sent"
        if message.opened_at is not None:
            return "duplicate", None
        message.opened_at = at
        return "recorded", None

    def choose(self, user: str, channel: str, at: int, *, no: bool) -> str:
        person = self.person(user)
        if person.erased_at is not None and (no or at < person.erased_at):
            return "recorded" if no else "ignored"
        person.erased_at = None
        person.choices.append((at, no, channel))
        for message in self.of(user, "scheduled"):
            if person.says_no(message.channel):
                message.end("cancelled", "opted_out")
        return "recorded"

    def erase(self, user: str, now: int) -> None:
        for message in self.of(user, "scheduled"):
            message.end("cancelled", "erased")
        for message in list(self.of(user)):
            message.user = None
        before = self.person(user).erased_at
        self.people[user] = Person(erased_at=now if before is None else before)

    # Delivery

    def why_not(self, message: Message, now: int) -> set[str]:
        """Return what forbids a waiting message now; nothing: it goes out, or is held out."""
        assert message.user is not None
        person = self.person(message.user)
        reasons = {
            "early": now < message.due_at,
            "expired": now > message.expires_at,
            "converted": person.reached_goal(message.triggered_at),
            "opted_out": person.says_no(message.channel),
            "combo_removed": message.channel not in self.settings.channels,
            "paused": bool(self.paused & {"*", message.cohort}),
            "quiet_hours": self.is_quiet(message.zone, now),
            "frequency_cap": not self.fits(message.user, now, but=message),
        }
        return {reason for reason, holds in reasons.items() if holds}

    def lose(self, messages: Iterable[Message]) -> None:
        """Nobody will hear what became of these."""
        for message in messages:
            message.end("unknown", "stopped")
