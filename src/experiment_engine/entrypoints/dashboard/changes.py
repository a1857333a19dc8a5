"""Changes that people make on pages; each leaves an entry in the audit."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool

from experiment_engine.adapters.clevertap import callbacks as clevertap
from experiment_engine.adapters.json_input import TooManyEvents
from experiment_engine.application.noted import Noted
from experiment_engine.domain.errors import NotUnderstood
from experiment_engine.domain.events import Chosen, Fact, Source, Unreadable
from experiment_engine.domain.identifiers import EVERY_CHANNEL, CohortName, UserId
from experiment_engine.entrypoints.dashboard.pages import Asked, NoSuchPage
from experiment_engine.entrypoints.http.partners import PARTNERS

READERS: Mapping[str, Callable[[bytes], list[Fact]]] = {
    **{partner.name: partner.read_again for partner in PARTNERS},
    "opened": clevertap.parse_opened,
    "converted": clevertap.parse_converted,
    "opted-out": clevertap.parse_opted_out,
}


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a form that was sent."""

    fields: Mapping[str, str]

    def get(self, name: str) -> str | None:
        """Return a field, or None where it is empty."""
        return self.fields.get(name) or None

    def must(self, name: str) -> str:
        """Return a field that has to be there."""
        value = self.get(name)
        if value is None:
            raise NoSuchPage(f"The form has no {name}.")
        return value

    def back(self, otherwise: str) -> str:
        """Return where to go on: the page that the form stood on."""
        where = self.fields.get("back", "")
        is_ours = where.startswith("/") and not where.startswith(("//", "/\\"))
        return where if is_ours and where.isprintable() else otherwise


@dataclass(frozen=True, slots=True)
class Change:
    """One kind of change: its address, and what makes it and says where to go on."""

    path: str
    make: Callable[[Asked, Form], Awaitable[str]]


async def _pause(asked: Asked, form: Form) -> str:
    return await _set_paused(asked, form, paused=True)


async def _resume(asked: Asked, form: Form) -> str:
    return await _set_paused(asked, form, paused=False)


async def _set_paused(asked: Asked, form: Form, *, paused: bool) -> str:
    await run_in_threadpool(
        asked.engine.hands.pause, form.get("scope"), paused=paused, who=asked.visitor.who
    )
    return form.back("/guardrails")


async def _opt_out(asked: Asked, form: Form) -> str:
    return await _choose(asked, form, allowed=False)


async def _opt_in(asked: Asked, form: Form) -> str:
    return await _choose(asked, form, allowed=True)


async def _choose(asked: Asked, form: Form, *, allowed: bool) -> str:
    engine, user_id = asked.engine, UserId(form.must("user_id"))
    raw = urlencode({"user_id": user_id, "allowed": allowed}).encode()
    chosen = Chosen(user_id, allowed, engine.clock.now(), raw, Source.API, EVERY_CHANNEL)
    await asked.running.lane.submit([chosen])
    noted = Noted(
        asked.visitor.who,
        "opted in" if allowed else "opted out",
        user_id,
        {},
        {"channel": EVERY_CHANNEL, "allowed": allowed},
    )
    await run_in_threadpool(engine.hands.note_about, user_id, noted)
    return _of_user(user_id)


async def _erase(asked: Asked, form: Form) -> str:
    user_id = UserId(form.must("user_id"))
    if form.get("confirm") != user_id:
        raise NoSuchPage("Nothing was erased: type the user's id to confirm.")
    await run_in_threadpool(asked.engine.hands.erase, user_id, who=asked.visitor.who)
    return f"{_of_user(user_id)}&erased=1"


async def _trust(asked: Asked, form: Form) -> str:
    cohort = CohortName(form.must("cohort"))
    if cohort not in asked.engine.rules.cohorts:
        raise NoSuchPage("There is no such cohort.")
    await run_in_threadpool(asked.engine.hands.unfreeze, cohort, who=asked.visitor.who)
    return form.back("/")


async def _try_again(asked: Asked, form: Form) -> str:
    """Read a body of the quarantine once more, as a newer version may understand it."""
    number = form.must("number")
    kept = asked.engine.pages.reading.quarantined(int(number)) if number.isdecimal() else None
    parse = READERS.get(form.must("as"))
    if kept is None or parse is None:
        raise NoSuchPage("This is not in quarantine any more.")
    try:
        facts = parse(kept.raw)
    except (NotUnderstood, TooManyEvents):
        facts = []
    if not facts or any(isinstance(fact, Unreadable) for fact in facts):
        return f"/events?show=quarantine&still={kept.id}#kept-{kept.id}"
    await asked.running.lane.submit(facts)
    await run_in_threadpool(asked.engine.hands.release, kept.id, len(facts), who=asked.visitor.who)
    return f"/events?show=quarantine&released={kept.id}"


def _of_user(user_id: str) -> str:
    return f"/users?{urlencode({'id': user_id})}"


CHANGES: Sequence[Change] = (
    Change("/pause", _pause),
    Change("/resume", _resume),
    Change("/users/opt-out", _opt_out),
    Change("/users/opt-in", _opt_in),
    Change("/users/erase", _erase),
    Change("/quarantine/again", _try_again),
    Change("/trust", _trust),
)
