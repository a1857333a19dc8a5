"""Each channel names its provider: who is called, who cannot be, and what is kept of addresses."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from tests.support.clevertap_double import CleverTapDouble
from tests.support.configuration import COHORT, cohort
from tests.support.engine import RunningEngine
from tests.support.partner_doubles import HOOK, OUTGOING, SIGNING_SECRET
from tests.support.start import Start, live

from experiment_engine.adapters.storage import tables

PHONE = "+91 98000 00001"
BOTH = {COHORT: cohort(channel=["push", "whatsapp"])}
BY_WEBHOOK = {"whatsapp": {"provider": "webhook"}}
BY_PHONE = {"whatsapp": {"provider": "webhook", "address": "user_properties.phone"}}
ON_WHATSAPP = {COHORT: cohort(channel=["whatsapp"])}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with closing(_Stopping(tmp_path)) as starting:
        yield starting


class _Stopping(Start):
    def close(self) -> None:
        self.stop()


@pytest.fixture
def hook(tmp_path: Path) -> Iterator[CleverTapDouble]:
    with CleverTapDouble(tmp_path / "hook", fsync=False, dialect=OUTGOING) as double:
        yield double


@pytest.fixture
def clevertap(tmp_path: Path) -> Iterator[CleverTapDouble]:
    with CleverTapDouble(tmp_path / "clevertap", fsync=False) as double:
        yield double


def to_hook(hook: CleverTapDouble) -> dict[str, str]:
    return {
        "OUTGOING_WEBHOOK_URL": hook.base_url + HOOK,
        "OUTGOING_WEBHOOK_SECRET": SIGNING_SECRET,
        "OUTGOING_WEBHOOK_LOOPBACK": "1",
    }


def addresses(engine: RunningEngine) -> list[str | None]:
    """Return what is stored of addresses, in the order of the experiments."""
    with engine.engine.storage.readers.connect() as connection:
        made = tables.experiment.c
        return list(connection.execute(select(made.address).order_by(made.id)).scalars())


def not_eligible(engine: RunningEngine, experiment_id: str) -> dict[str, list[str]]:
    refused: dict[str, list[str]] = engine.experiment(experiment_id)["decision"]["not_eligible"]
    return refused


def test_two_channels_two_providers(
    start: Start, clevertap: CleverTapDouble, hook: CleverTapDouble
) -> None:
    """Each message goes to the provider of its channel, once, and to no other."""
    environ = {**live(clevertap), **to_hook(hook)}
    engine = start(environ=environ, cohorts=BOTH, channels=BY_WEBHOOK)
    ids = [engine.scheduled(f"usr_{number}") for number in range(30)]
    engine.deliver(after="2min")
    channels = {id_: engine.experiment(id_)["combo"]["channel"] for id_ in ids}

    assert {engine.state(id_) for id_ in ids} == {("sent", None)}
    for double, channel in ((clevertap, "push"), (hook, "whatsapp")):
        called = sorted(id_ for call in double.ledger() for id_ in call.experiment_ids)
        assert called == sorted(id_ for id_ in ids if channels[id_] == channel) != []


def test_a_channel_without_credentials_is_not_chosen(
    start: Start, clevertap: CleverTapDouble
) -> None:
    """Live on one provider, the channel of another one is not eligible, and says why."""
    engine = start(to=clevertap, cohorts=BOTH, channels=BY_WEBHOOK)
    made = engine.scheduled("usr_1")

    assert engine.experiment(made)["combo"]["channel"] == "push"
    assert not_eligible(engine, made) == {"not_connected": ["2min|whatsapp|helpful|none"]}


def test_no_connected_channel_is_a_dry_run(start: Start) -> None:
    """With no credentials for any channel's provider nobody is called, and all take part."""
    engine = start(cohorts=ON_WHATSAPP, channels=BY_WEBHOOK)
    made = engine.sent("usr_1")
    assert engine.experiment(made)["mode"] == "dry_run"


def test_an_account_of_a_provider_that_no_channel_names(
    start: Start, clevertap: CleverTapDouble
) -> None:
    """An account makes nothing live that does not go through it."""
    channels = {name: {"provider": "webhook"} for name in ("push", "whatsapp")}
    engine = start(to=clevertap, cohorts=ON_WHATSAPP, channels=channels)
    made = engine.sent("usr_1")
    assert engine.experiment(made)["mode"] == "dry_run"
    assert clevertap.calls() == []


def test_another_provider_alone_is_live(start: Start, hook: CleverTapDouble) -> None:
    """CleverTap is not needed to send."""
    engine = start(environ=to_hook(hook), cohorts=ON_WHATSAPP, channels=BY_WEBHOOK)
    made = engine.sent("usr_1")

    assert engine.experiment(made)["mode"] == "live"
    assert [call.experiment_ids for call in hook.ledger()] == [(made,)]


def test_what_waits_for_a_lost_connection_is_cancelled(
    start: Start, clevertap: CleverTapDouble, hook: CleverTapDouble
) -> None:
    """Without its credentials a waiting message is not handed to another provider."""
    both = {**live(clevertap), **to_hook(hook)}
    made = start(environ=both, cohorts=ON_WHATSAPP, channels=BY_WEBHOOK).scheduled("usr_1")
    engine = start(to=clevertap, cohorts=ON_WHATSAPP, channels=BY_WEBHOOK)
    engine.deliver(after="2min")

    assert engine.state(made) == ("cancelled", "not_connected")
    assert [*clevertap.calls(), *hook.calls()] == []


# Addresses


def with_phone(engine: RunningEngine, user: str, phone: Any = PHONE) -> str:
    return engine.scheduled(user, user_properties={"phone": phone})


@pytest.mark.parametrize("phone", [None, "98000 00001", "", "a b"])
def test_without_an_address(start: Start, hook: CleverTapDouble, phone: str | None) -> None:
    """A user whom the provider cannot find gets no message there, and the reason is told."""
    engine = start(environ=to_hook(hook), cohorts=ON_WHATSAPP, channels=BY_PHONE)
    result = engine.event("usr_1", user_properties={"phone": phone})

    assert (result["status"], result["reason"]) == ("ignored", "no_address")


def test_an_address_is_kept_while_the_message_waits(start: Start, hook: CleverTapDouble) -> None:
    """It is stored with the message, handed over with it, and gone when it is sent."""
    engine = start(environ=to_hook(hook), cohorts=ON_WHATSAPP, channels=BY_PHONE)
    made = with_phone(engine, "usr_1", "asha@example.com")
    assert addresses(engine) == ["asha@example.com"]
    assert "asha@" not in str(engine.experiment(made))
    hook.configure(behaviour="429")
    engine.deliver(after="2min")
    assert (engine.state(made)[0], addresses(engine)) == ("scheduled", ["asha@example.com"])
    hook.configure(behaviour="ok")
    engine.deliver(after="10min")

    assert engine.state(made) == ("sent", None)
    assert addresses(engine) == [None]
    assert "asha@" not in engine.log.getvalue()


@pytest.mark.parametrize("end", ["cancelled", "expired", "failed", "unknown", "erased"])
def test_an_address_goes_when_the_message_ends(
    start: Start, hook: CleverTapDouble, end: str
) -> None:
    """However a message ends, or if its user is erased, nothing is left of the address."""
    engine = start(environ=to_hook(hook), cohorts=ON_WHATSAPP, channels=BY_PHONE)
    made = with_phone(engine, "usr_1", "asha@example.com")
    if end == "cancelled":
        engine.converted(user_id="usr_1")
    elif end == "erased":
        engine.client.delete("/api/users/usr_1").raise_for_status()
    else:
        hook.configure(behaviour={"failed": "400", "unknown": "500"}.get(end, "ok"))
        engine.deliver(after="3h" if end == "expired" else "2min")

    assert addresses(engine) == [None]
    if end != "erased":
        assert engine.state(made)[0] == end


def test_nothing_is_kept_where_nothing_is_called(start: Start) -> None:
    """In dry run, where nobody is called, no address is stored."""
    engine = start(cohorts=ON_WHATSAPP, channels=BY_PHONE)
    with_phone(engine, "usr_1", "asha@example.com")
    assert addresses(engine) == [None]


def test_a_change_of_provider_finds_no_address(start: Start, hook: CleverTapDouble) -> None:
    """What was decided for a provider that needs no address is not sent to nowhere."""
    made = start(environ=to_hook(hook), cohorts=ON_WHATSAPP, channels=BY_WEBHOOK).scheduled("u")
    engine = start(environ=to_hook(hook), cohorts=ON_WHATSAPP, channels=BY_PHONE)
    engine.deliver(after="2min")

    assert engine.state(made) == ("cancelled", "no_address")
    assert hook.calls() == []
