"""What the body of a 2xx says: CleverTap can refuse, or leave users out, with HTTP 200."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from experiment_engine.adapters.calling.endings import Members
from experiment_engine.adapters.calling.statuses import ACCEPTED, UNCERTAIN, Meaning
from experiment_engine.adapters.clevertap.verdicts import of_code
from experiment_engine.domain.delivery.message import Call, Verdict
from experiment_engine.domain.identifiers import UserId

_ABOUT_THE_FAULT = ("status", "code", "error", "message", "processed")
_ID_KEYS = frozenset({"identity", "identities", "all_identities", "user_id", "userid", "objectid"})
_CODE = re.compile(r"[0-9]{1,9}")

Exceptions = dict[UserId, tuple[Verdict, str]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the call, and of users that the body names."""

    meaning: Meaning
    reason: str
    exceptions: Exceptions = field(default_factory=dict)


def outcome_of(call: Call, said: Members) -> Outcome:
    """Classify `{"status": "success" | "partial" | "fail", "unprocessed": [...], ...}`."""
    status = str(said.get("status")).lower()
    left_out = _entries(said)
    if status == "fail" and not said.get("processed"):
        return _refused(call, said, left_out)
    if left_out and status in ("success", "partial", "fail"):
        return _partly(call, left_out)
    if status == "success" and not said.get("error"):
        return Outcome(ACCEPTED, "accepted")
    return Outcome(UNCERTAIN, "status_unclear")


def telling(said: Members) -> bytes:
    """Keep what speaks of the fault; the records of users that it echoes are personal data."""
    left_out = [_about(entry) for entry in _entries(said)]
    return msgspec.json.encode({**_about(said), **({"unprocessed": left_out} if left_out else {})})


def _refused(call: Call, said: Members, left_out: list[object]) -> Outcome:
    """Nobody was taken; users named beside that are the culprits."""
    code = _code_of(said)
    named, _ = _sort_out(call, left_out, code)
    if call.carries_ids and left_out:
        return Outcome(_one(left_out[0], code), _reason(left_out[0], code, "status_fail"))
    meaning = of_code(code)
    halving_helps = meaning.whole_call and len(named) < len(call.recipients)
    return Outcome(Meaning(meaning.verdict, halving_helps), _reason(said, 0, "status_fail"), named)


def _partly(call: Call, left_out: list[object]) -> Outcome:
    """Everybody but those left out was taken, if it can be told who they are."""
    if call.carries_ids:
        return Outcome(_one(left_out[0]), _reason(left_out[0]))
    named, all_named = _sort_out(call, left_out)
    if all_named:
        return Outcome(ACCEPTED, "accepted", named)
    return Outcome(UNCERTAIN, "unprocessed_without_names", named)


def _sort_out(call: Call, left_out: list[object], code: int = 0) -> tuple[Exceptions, bool]:
    """Return the users of the call that the entries name, and whether each entry named some."""
    exceptions: Exceptions = {}
    all_named = True
    for entry in left_out:
        users = _users_in(entry, call)
        outcome = (_one(entry, code).verdict, _reason(entry, code))
        exceptions.update(dict.fromkeys(users, outcome))
        all_named = all_named and bool(users)
    return exceptions, all_named


def _one(entry: object, otherwise: int = 0) -> Meaning:
    """Read an entry about one user by its own code, else by that of the call."""
    return Meaning(of_code(_code_of(entry) or otherwise).verdict)


def _reason(said: object, otherwise: int = 0, without: str = "unprocessed") -> str:
    code = _code_of(said) or otherwise
    return f"code_{code}" if code else without


def _code_of(said: object) -> int:
    code = str(said.get("code")) if isinstance(said, dict) else ""
    return int(code) if _CODE.fullmatch(code) else 0


def _entries(said: Members) -> list[object]:
    unprocessed = said.get("unprocessed")
    if isinstance(unprocessed, list):
        return unprocessed
    return [unprocessed] if unprocessed else []


def _users_in(entry: object, call: Call) -> set[UserId]:
    """Find users of the call in an entry: under the names of ids, else anywhere."""
    for anywhere in (False, True):
        texts = map(UserId, _texts(entry, wanted=anywhere))
        if users := {text for text in texts if text in call.recipients}:
            return users
    return set()


def _texts(value: object, *, wanted: bool) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name.lower() not in _ABOUT_THE_FAULT:
                yield from _texts(inner, wanted=wanted or name.lower() in _ID_KEYS)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, wanted=wanted)
    elif wanted and isinstance(value, str | int):
        yield str(value)


def _about(said: object) -> Members:
    if not isinstance(said, dict):
        return {}
    return {name: said[name] for name in _ABOUT_THE_FAULT if isinstance(said.get(name), str | int)}
