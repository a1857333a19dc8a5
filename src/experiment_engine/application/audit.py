"""What people change: each change leaves one entry, in the transaction that makes it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from experiment_engine.application.manage import erase_user, set_paused
from experiment_engine.application.noted import Noted
from experiment_engine.application.ports import Administration
from experiment_engine.domain.delivery.experiment import Experiment
from experiment_engine.domain.identifiers import UserId
from experiment_engine.domain.moments import Instant
from experiment_engine.domain.pausing import EVERYTHING
from experiment_engine.domain.rules import Rules

FORGOTTEN = "a user who is forgotten"


@dataclass(frozen=True, slots=True)
class Doer:
    """Who makes a change, when, and the id of its entry."""

    who: str  # never a secret
    at: Instant
    note_id: str


def pause_and_note(
    scope: str | None, rules: Rules, administration: Administration, doer: Doer, *, paused: bool
) -> None:
    """Pause or resume, as `set_paused` does."""
    wanted = scope or EVERYTHING
    before = wanted in administration.paused()
    set_paused(scope, rules, administration, doer.at, paused=paused)
    what = "paused" if paused else "resumed"
    noted = Noted(doer.who, what, wanted, {"paused": before}, {"paused": paused})
    administration.note(noted, doer.note_id, doer.at)


def release_and_note(
    number: int, understood: int, administration: Administration, doer: Doer
) -> None:
    """Take a body out of quarantine whose events have been taken in."""
    if administration.release(number):
        after = {"events": understood}
        noted = Noted(doer.who, "tried again", f"quarantine {number}", after=after)
        administration.note(noted, doer.note_id, doer.at)


def note_about(user_id: UserId, noted: Noted, administration: Administration, doer: Doer) -> None:
    """Keep what a person changed about a user; of one who is forgotten, without the id."""
    known = administration.users([user_id], doer.at, []).get(user_id)
    if known is not None and known.erased:
        noted = replace(noted, target=FORGOTTEN)
    administration.note(noted, doer.note_id, doer.at)


def erase_and_note(
    user_id: UserId, administration: Administration, doer: Doer
) -> Sequence[Experiment]:
    """Forget a user, as `erase_user` does."""
    # Before it is done: the entry's target becomes nobody's with everything else of the user.
    administration.note(Noted(doer.who, "erased", user_id), doer.note_id, doer.at)
    return erase_user(user_id, administration, doer.at)
