"""What CleverTap's pages leave open, and how one push, one upload and one webhook settle it."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import httpx2

from experiment_engine.adapters.calling.endings import of_failure
from experiment_engine.adapters.clevertap.trying import EVENT, RIDER, TITLE, Said, Trial
from experiment_engine.domain.moments import Instant
from experiment_engine.settings import Settings

_LIMITS = re.compile(r"(?i)rate|limit|retry|quota")
_OUTGROWN = 3.0  # seconds after which CleverTap tries again
_HOOK = "/webhook/opened"


@dataclass(frozen=True, slots=True)
class Settled:
    """One question: what was answered and how it was read, or how a person finds out."""

    question: str
    state: Literal["settled", "open"]
    answer: str
    read_by: str


def send(trial: Trial, deep_link: str, at: Instant, hook: Iterator[Settled]) -> Iterator[Settled]:
    """Send one push, one upload and one webhook, and read what they settle."""
    yield from _push(trial, deep_link)
    yield _uploaded(trial.upload(at))
    for name in ("Notification Clicked", "Notification Delivered"):
        yield _exported(name, trial.exported(name, at))
    yield from hook
    yield from _FOR_PEOPLE


def _push(trial: Trial, deep_link: str) -> Iterator[Settled]:
    said = first = trial.push(deep_link, rider=True)
    if first.refused:  # for the rider, perhaps; nothing went out, so another try is the only one
        said = trial.push(deep_link, rider=False)
    question = "What does CleverTap answer to a push for one named user?"
    by = "the answer to POST /1/send/push.json; `success` is what the engine takes for sent"
    yield Settled(question, "settled" if said.taken or said.refused else "open", str(said), by)
    if not said.taken:
        return
    told = sorted(set(said.members) - {"status", "message"})
    ids = f"it says also {', '.join(told)}" if told else "no: nothing but status and message"
    by = "the names in the answer; with an id of the message, reports could be matched by it"
    yield Settled("Does the answer carry an id of the message?", "settled", ids, by)
    kept = sorted(name for name in said.headers if _LIMITS.search(name))
    by = "the names of the answer's headers"
    question = "Does an answer carry limits of rate?"
    yield Settled(question, "settled", ", ".join(kept) or "no header speaks of one", by)
    question = f"Is a key of our own that begins with wzrk_ ({RIDER}) taken?"
    by = "the push was sent with it first, and without it only if that was refused"
    yield Settled(question, "settled", f"no: {first}" if first.refused else "yes", by)


def _uploaded(said: Said) -> Settled:
    by = f"the answer to POST /1/upload with one event {EVENT}: `processed` 1"
    settled = said.taken or said.refused
    question = "Is an event of ours taken by upload, and found for this user?"
    return Settled(question, "settled" if settled else "open", str(said), by)


def _exported(name: str, said: Said) -> Settled:
    question = f'May this account export "{name}"? (`reconcile` lives on it)'
    by = "the answer to POST /1/events.json: a cursor means yes, `not allowed` means no"
    if said.taken and said.members.get("cursor"):
        return Settled(question, "settled", "yes", by)
    if "not allowed" in str(said).lower():
        return Settled(question, "settled", f"no: {said}", by)
    return Settled(question, "open", str(said), by)


def hook(url: str | None, settings: Settings, user: str, test_id: str) -> Iterator[Settled]:
    """Send what CleverTap sends when a webhook campaign is saved, to our public address."""
    question = "Is CleverTap's test call, made when a campaign is saved, answered in time?"
    by = f"POST {_HOOK} with is_test: 200 and `test_ping` in well under {_OUTGROWN:.0f} s"
    if url is None:
        yield Settled(question, "open", "not tried: name --public-url", by)
        return
    held = settings.secrets("CLEVERTAP_WEBHOOK_SECRET")
    bearer = {"Authorization": f"Bearer {held[0].reveal().decode()}"} if held else {}
    body = {
        "is_test": True,
        "targetId": 1,
        "key_values": {"experiment_id": test_id},
        "profiles": [{"identity": user}],
    }
    try:
        reply = httpx2.post(url + _HOOK, json=body, headers=bearer, timeout=15.0, trust_env=False)
    except httpx2.HTTPError as error:
        yield Settled(question, "open", of_failure(error).answer, by)
        return
    took = reply.elapsed.total_seconds()
    good = reply.status_code == httpx2.codes.OK and "test_ping" in reply.text
    answer = f"{'yes' if good and took < _OUTGROWN else 'no'}: {reply.status_code} in {took:.2f} s"
    yield Settled(question, "settled", answer, by)


def described(found: Sequence[Settled]) -> Sequence[dict[str, Any]]:
    """Return the questions for a file."""
    return [
        {"question": q.question, "state": q.state, "answer": q.answer, "read_by": q.read_by}
        for q in found
    ]


def _open(question: str, read_by: str) -> Settled:
    return Settled(question, "open", "only a person can see it", read_by)


_FOR_PEOPLE = (
    _open(
        "Does an accepted push reach the phone?",
        f"a notification \"{TITLE}\" on the test user's phone; without one see CleverTap's error"
        " report, the app's notification channel and CleverTap's own caps",
    ),
    _open(
        f"Does {RIDER} come back with the click?",
        "tap the push, then look at Notification Clicked in the user's activity in CleverTap: if"
        f" {RIDER} stands among its properties, the webhook can carry it",
    ),
    _open(
        "Does the deep link bring the id back through the app?",
        "tap the push: the link ends in the id of this trial; your app's own event must have it"
        " in the property experiment_id",
    ),
    _open(
        "Which names have the macros, and are they filled in?",
        "save the webhook campaign, let it start for the test user, then GET /api/quarantine: a"
        " report there as macro_not_rendered shows the text that was not filled in",
    ),
    _open(
        "How does a webhook's body look: one profile or a list, and in which case?",
        "point the campaign at an address that keeps bodies, let it start once; the engine reads"
        " either, in any case",
    ),
    _open(
        "How often, and after how long, is a webhook tried again?",
        "point the campaign at an address that answers 500 and keeps the times; the pages say"
        " 3 s and one retry, or 5 s and two",
    ),
    _open(
        "What does an External Trigger campaign answer, and does it ask for X-CleverTap-Token?",
        "POST /api/trigger for the test user in a cohort with WhatsApp alone, then the attempts in"
        " GET /api/experiments/{experiment_id}",
    ),
    _open(
        "Does Amplitude keep numbers in event_properties, batch events, allow ?json_string?",
        "let one event of the test user come, then GET /api/users/{user_id} and"
        " GET /api/quarantine; `export --what events --raw` shows its body byte for byte",
    ),
)
