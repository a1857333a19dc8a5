"""One user: what happened and why, in an order that a person can follow."""

from collections.abc import Sequence

from experiment_engine.application.preview import Foreseen
from experiment_engine.application.timeline import Kept, Timeline, timeline
from experiment_engine.domain.identifiers import UserId
from experiment_engine.entrypoints.dashboard.pages import Asked, Page, View

_EXPERIMENTS = 20  # of which a page tells everything
_EVENTS = 100
_LONGEST_ID = 256


def view(asked: Asked) -> View:
    """Return the story of the user whose id was typed, or nothing yet."""
    wanted = asked.query("id").strip()[:_LONGEST_ID]
    user = _timeline(asked, UserId(wanted)) if wanted else None
    return {"wanted": wanted, "user": user, "preview": _preview(asked, user)}


def drawn(_made: View, asked: Asked) -> View:
    """Return what the template needs besides."""
    rules = asked.engine.rules
    return {"erased": asked.query("erased") == "1", "cap": rules.frequency_cap}


def _preview(asked: Asked, user: Timeline | None) -> Sequence[Foreseen] | None:
    if user is None or asked.query("preview") != "1":
        return None
    context = {name: str(value) for name, value in user.context.items()}
    return asked.engine.traffic.foresee(UserId(user.user_id), context, user.zone)


def _timeline(asked: Asked, user_id: UserId) -> Timeline:
    engine = asked.engine
    records = engine.report.reading
    experiments = records.users_experiments(user_id, _EXPERIMENTS)
    kept = Kept(
        experiments=experiments,
        events=records.users_events(user_id, _EVENTS),
        choices=records.users_choices(user_id),
        distributions=records.distributions([made.distribution_id for made in experiments]),
        attempts=records.attempts_of([made.id for made in experiments]),
    )
    return timeline(user_id, kept, engine.clock.now(), engine.mode, engine.rules.frequency_cap)


PAGE = Page("/users", "/users.json", "Users", "users.html", view, drawn)
FRAGMENTS: tuple[Page, ...] = ()
