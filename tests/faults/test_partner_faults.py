"""The faults of providers other than CleverTap, through the real worker, storage and sender.

Each message meets one fault; then the provider is well. The provider's own ledger, which knows
what reached it, is the judge: nobody gets two messages, and no state says what is not so.
"""

import json
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.faults.test_provider_faults import FastClock
from tests.support.builders import empty_database
from tests.support.clevertap_double import BEHAVIOURS, Call, CleverTapDouble, Dialect, _packed
from tests.support.configuration import COHORT, cohort, write_configuration
from tests.support.engine import RunningEngine, running_engine
from tests.support.events import Json, amplitude_event
from tests.support.partner_doubles import (
    FCM,
    HOOK,
    META,
    META_TOKEN,
    OUTGOING,
    PHONE_NUMBER_ID,
    SIGNING_SECRET,
    service_account,
    token_server,
)

from experiment_engine.domain.moments import MINUTE, iso

HUGE = 4 * 2**20
RETRIED = {"401", "403", "429", "429_seconds", "429_date", "429_garbage"}
REFUSED = {"400", "404", "redirect_307"}
LEFT_OUT = {"refuse", "429_huge", "unprocessed"}  # outages, waits, and batches: see CleverTap's
SLOW = {"hang", "drip", "processed_then_timeout"}  # hold a call for its whole time limit

# What a 2xx is worth, where the body does not say what a body should.
SAYS_NO_MORE = {"html_200", "fail_200", "processed_then_html"}
CUT_SHORT = {"processed_then_cut", "huge_body", "gzip_bomb"}


class Partner:
    """One provider: its double, what connects it, and what it makes of odd successes."""

    def __init__(
        self,
        dialect: Dialect,
        settings: Mapping[str, str],
        at: str,
        channels: Mapping[str, Any],
        taken_by_status: frozenset[str] = frozenset(),
    ) -> None:
        self.dialect, self._settings, self._at = dialect, settings, at
        self.channels, self.taken_by_status = channels, taken_by_status

    def environ(self, double: CleverTapDouble) -> dict[str, str]:
        return {**self._settings, self._at: double.base_url + self._settings.get(self._at, "")}


PARTNERS = {
    "fcm": Partner(
        FCM,
        {"FCM_CREDENTIALS": "key.json"},
        "FCM_BASE_URL",
        {"push": {"provider": "fcm", "address": "user_properties.token"}},
    ),
    "meta": Partner(
        META,
        {"META_ACCESS_TOKEN": META_TOKEN, "META_PHONE_NUMBER_ID": PHONE_NUMBER_ID},
        "META_BASE_URL",
        {
            "whatsapp": {
                "provider": "meta",
                "address": "user_properties.phone",
                "templates": {"*|*|*": {"name": "x", "language": "en", "parameters": ["title"]}},
            }
        },
    ),
    "webhook": Partner(
        OUTGOING,
        {
            "OUTGOING_WEBHOOK_URL": HOOK,
            "OUTGOING_WEBHOOK_SECRET": SIGNING_SECRET,
            "OUTGOING_WEBHOOK_LOOPBACK": "1",
        },
        "OUTGOING_WEBHOOK_URL",
        {"whatsapp": {"provider": "webhook", "address": "user_properties.phone"}},
        frozenset(SAYS_NO_MORE | CUT_SHORT),
    ),
}


def end_of(fault: str, partner: Partner) -> str:
    """Return the state in which a message must end that met this fault."""
    if fault in RETRIED | {"ok"} | partner.taken_by_status:
        return "sent"
    return "failed" if fault in REFUSED else "unknown"


@pytest.mark.parametrize("name", sorted(PARTNERS))
def test_every_fault_ends_as_it_must(tmp_path: Path, name: str) -> None:
    """At most one message each; what may have arrived is unknown, what did not is repeated."""
    partner, faults = PARTNERS[name], sorted(BEHAVIOURS.keys() - LEFT_OUT - SLOW)
    _packed(HUGE)  # once, so that no call waits for it
    empty_database(tmp_path)
    lane = {"max_in_flight": 3}
    (channel,) = partner.channels
    config = write_configuration(
        tmp_path / "configuration",
        cohorts={COHORT: cohort(delay=["1s"], channel=[channel])},
        channels={channel: {**lane, **partner.channels[channel]}},
        delivery={"expires_after": "30min"},
    )
    with (
        token_server() as google,
        CleverTapDouble(
            tmp_path / "ledger",
            fsync=False,
            dialect=partner.dialect,
            huge_bytes=HUGE,
            bomb_bytes=HUGE,
            script=faults,
        ) as double,
    ):
        key = {**service_account(), "token_uri": google.url}
        (tmp_path / "key.json").write_text(json.dumps(key))
        environ = partner.environ(double)
        if "FCM_CREDENTIALS" in environ:
            environ["FCM_CREDENTIALS"] = str(tmp_path / "key.json")
        with running_engine(
            tmp_path, config=config, clock=FastClock(), environ=environ, worker_runs=True
        ) as engine:
            experiments = _send_and_settle(engine, len(faults))
        calls, stats = double.calls(), double.stats()

    met = _faults_met(calls)
    ends = Counter(one["status"] for one in experiments)
    print(f"{name}: {len(faults)} faults, {dict(ends)}, {len(calls)} calls")
    taken = Counter(id_ for call in calls if call.processed for id_ in call.experiment_ids)
    assert not {id_: count for id_, count in taken.items() if count > 1}
    for one in experiments:
        fault = met.get(one["experiment_id"])
        if fault is not None:
            assert one["status"] == end_of(fault, partner), (fault, one["reason"])
        else:  # it met what ends a call before its body: which message it was, nobody can tell
            assert one["status"] == "unknown"
        if one["status"] == "failed":
            assert one["experiment_id"] not in taken
    assert stats.redirect_hits == 0
    assert stats.max_in_flight.most_common(1)[0][1] <= 3


def _send_and_settle(engine: RunningEngine, number: int) -> list[Json]:
    at = iso(engine.clock.now())
    people = [f"usr_{n:03}" for n in range(number)]
    phones = [
        {"phone": f"+91980000{n:04}", "token": f"device-token-{n:04}"} for n in range(number)
    ]
    told = zip(people, phones, strict=True)
    results = engine.events(
        *(amplitude_event(user, at, user_properties=known) for user, known in told)
    )
    ids = [str(result["experiment_id"]) for result in results]
    deadline = engine.clock.now() + 60 * MINUTE
    while True:
        experiments = [engine.experiment(id_) for id_ in ids]
        if all(one["status"] not in ("scheduled", "claimed") for one in experiments):
            return experiments
        assert engine.clock.now() < deadline, "stuck beyond its deadline"
        time.sleep(0.05)


def _faults_met(calls: list[Call]) -> dict[str, str]:
    """Return the last behaviour that each experiment's calls met."""
    return {id_: call.behaviour for call in calls for id_ in call.experiment_ids}
