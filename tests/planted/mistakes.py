"""Fifteen mistakes that somebody could make, and the test that finds each.

Every mistake is a few replaced pieces of text. If a piece is not found exactly once, the source
has moved on: write the mistake anew for the source as it is, and run `make planted`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Edit:
    """One piece of text and what stands in its place; the file is one of the package's."""

    file: str
    before: str
    after: str

    def apply(self, package: Path) -> None:
        """Change the file; raises DoesNotApply where the text is not there exactly once."""
        path = package / self.file
        text = path.read_text(encoding="utf-8")
        found = text.count(self.before)
        if found != 1:
            raise DoesNotApply(f"{self.file} has this {found} times, not once:\n{self.before}")
        path.write_text(text.replace(self.before, self.after), encoding="utf-8")


class DoesNotApply(Exception):
    """The source has changed since the mistake was written down."""


@dataclass(frozen=True)
class Mistake:
    """What is wrong, where, which test must find it, and what that test says then."""

    name: str
    edits: Sequence[Edit]
    found_by: str  # pytest's name of the test
    saying: str  # regular expression, in the text of the failed assertion

    def plant(self, package: Path) -> None:
        """Put the mistake into a copy of the package."""
        for edit in self.edits:
            edit.apply(package)


_SQLITE = "adapters/storage/sqlite.py"
_FIRST_SCHEMA = "adapters/storage/migrations/versions/v0001_first_schema.py"

# The transaction before is committed when the next one begins.
_COMMIT_LATE = Edit(
    _SQLITE,
    '                self._writer.execute("BEGIN IMMEDIATE")\n',
    "                if self._writer.in_transaction:\n"
    '                    self._writer.execute("COMMIT")\n'
    '                self._writer.execute("BEGIN IMMEDIATE")\n',
)
_NO_DEDUP_INDEX = (
    Edit(
        "adapters/storage/tables.py",
        '    PrimaryKeyConstraint("user_id", "dedup_key"),\n    Index("event_by_age"',
        '    Index("event_by_age"',
    ),
    Edit(_FIRST_SCHEMA, '        sa.PrimaryKeyConstraint("user_id", "dedup_key"),\n', ""),
)

MISTAKES = (
    Mistake(
        "the answer goes out before the commit",
        (
            Edit(
                _SQLITE,
                '                self._writer.execute("BEGIN IMMEDIATE")\n',
                "                if not self._writer.in_transaction:\n"
                '                    self._writer.execute("BEGIN IMMEDIATE")\n',
            ),
            Edit(
                _SQLITE,
                '                self._writer.execute("COMMIT")\n'
                "                self._require_files()\n",
                '                self._done = getattr(self, "_done", 0) + 1\n'
                "                if self._done % 20 == 0:  # one wait for the disk does for many\n"
                '                    self._writer.execute("COMMIT")\n'
                "                self._require_files()\n",
            ),
        ),
        "tests/faults/test_random_kills.py::test_a_few_kills_break_no_promise[1]",
        "lost: ",
    ),
    Mistake(
        "a commit does not wait for the disk",
        (
            Edit(_SQLITE, '"PRAGMA synchronous = FULL"', '"PRAGMA synchronous = NORMAL"'),
            Edit(_SQLITE, "if level < 2:", "if level < 1:"),
        ),
        "tests/adapters/storage/test_sqlite.py::test_the_writer_is_durable",
        r"\(1,\) == \(2,\)",
    ),
    Mistake(
        "no index refuses the same event",
        _NO_DEDUP_INDEX,
        "tests/contracts/test_storage.py::test_a_second_event_with_the_same_key_is_refused",
        "DID NOT RAISE",
    ),
    Mistake(
        "only the process's memory knows which events came",
        (
            *_NO_DEDUP_INDEX,
            Edit(
                "adapters/storage/hot.py",
                "        found = self._ask(self.sql.SEEN, *self._pairs(keys))\n"
                "        return {(user_id, key): experiment_id"
                " for user_id, key, experiment_id in found}\n",
                "        found = {key: None for key in keys if key in _KNOWN}\n"
                "        _KNOWN.update(keys)\n"
                "        return found\n",
            ),
            Edit(
                "adapters/storage/hot.py",
                "\n_EVERY_CHANNEL =",
                "\n_KNOWN = set()\n_EVERY_CHANNEL =",
            ),
        ),
        "tests/faults/test_random_kills.py::test_a_few_kills_break_no_promise[1]",
        "taken_twice: ",
    ),
    Mistake(
        "a message is sent before the claim is stored",
        (
            _COMMIT_LATE,
            Edit(
                _SQLITE,
                "    def close(self) -> None:\n"
                '        """Close every connection and let go of the lock."""\n',
                "    def run_open(self, work):\n"
                "        with self._turn:\n"
                "            if self._writer.in_transaction:\n"
                '                self._writer.execute("COMMIT")\n'
                '            self._writer.execute("BEGIN IMMEDIATE")\n'
                "            return work(SqliteTransaction(core=self._core,"
                " erasure_key=self._erasure_key, connection=self._writer))\n\n"
                "    def close(self) -> None:\n"
                '        """Close every connection and let go of the lock."""\n',
            ),
            Edit(
                "engine/traffic.py",
                "            return self.ground.storage.run(\n                lambda tx: claim(",
                "            return self.ground.storage.run_open(\n"
                "                lambda tx: claim(",
            ),
        ),
        "tests/faults/test_claim_first.py::test_nothing_is_called_before_its_claim_is_stored[sqlite]",
        "called before",
    ),
    Mistake(
        "a call that timed out is made again",
        (
            Edit(
                "adapters/calling/endings.py",
                "    return Answer(Verdict.UNCERTAIN, fault_of(error)",
                "    return Answer(Verdict.NOT_TAKEN, fault_of(error)",
            ),
        ),
        "tests/faults/test_provider_faults.py::"
        "test_each_fault_ends_as_it_must[processed_then_timeout]",
        "double_sends",
    ),
    Mistake(
        "a claim is taken back by time, and nothing fences its holder off",
        (
            Edit(
                "application/settle.py",
                "lambda e: e.move(State.UNKNOWN, Reason.STOPPED)",
                "lambda e: e.move(State.SCHEDULED, Reason.STOPPED)",
            ),
            Edit(
                "application/settle.py",
                "            and experiment.call_id == call.id\n"
                "            and experiment.state is State.CLAIMED\n",
                "            and experiment.state is State.CLAIMED\n",
            ),
        ),
        "tests/faults/test_many_processes.py::test_workers_that_come_back_late",
        "double_sends|sends_by_user",
    ),
    Mistake(
        "quiet hours are looked at when a message is scheduled, and never again",
        (
            Edit(
                "application/deliver.py",
                "if self.guardrails.is_quiet(experiment.channel, due.zone, self.now):",
                "if False:",
            ),
        ),
        "tests/faults/test_clock_steps.py::test_a_clock_that_is_set[sqlite-40]",
        "quiet at ",
    ),
    Mistake(
        "the server's own clock stands for the user's",
        (
            Edit(
                "domain/delivery/quiet_hours.py",
                "    local = to_datetime(Instant(minute * MINUTE))"
                ".astimezone(find_zone(zone)).time()\n",
                "    local = datetime.fromtimestamp(minute * 60).time()\n",
            ),
        ),
        "tests/unit/domain/test_quiet_hours_everywhere.py::test_some_changes",
        "QuietHours",
    ),
    Mistake(
        "the cap is read where nobody is kept from writing",
        (
            Edit(
                "adapters/storage/postgres_transaction.py",
                "        self._lock(user_ids)\n        users = super().users(",
                "        users = super().users(",
            ),
            Edit(
                "adapters/storage/postgres_transaction.py",
                "        busy = {row[0] for row in"
                " self._ask(statements.TRY_TO_LOCK_USERS, wanted)}\n",
                "        busy = set()\n",
            ),
            Edit(
                "adapters/storage/postgres_statements.py",
                "WHERE pg_try_advisory_xact_lock(%s::integer, number)",
                "WHERE pg_try_advisory_xact_lock_shared(%s::integer, number)",
            ),
        ),
        "tests/faults/test_caps.py::test_a_cap_holds[postgresql]",
        "more than the cap",
    ),
    Mistake(
        "conversions are looked at in a transaction before the claim",
        (
            Edit(
                "engine/traffic.py",
                "            return self.ground.storage.run(\n                lambda tx: claim(",
                "            later = []\n\n"
                "            class Look:\n"
                "                def __init__(self, tx):\n"
                "                    self._tx = tx\n\n"
                "                def __getattr__(self, name):\n"
                "                    return getattr(self._tx, name)\n\n"
                "                def store(self, changes):\n"
                "                    later.append(changes)\n\n"
                "            def in_two(look):\n"
                "                claimed = self.ground.storage.run(lambda tx: look(Look(tx)))\n"
                "                if later:\n"
                "                    self.ground.storage.run(lambda tx: tx.store(later[-1]))\n"
                "                return claimed\n\n"
                "            return in_two(\n                lambda tx: claim(",
            ),
        ),
        "tests/faults/test_races.py::test_whoever_was_answered_first_gets_no_message[sqlite]",
        "told that nothing goes out",
    ),
    Mistake(
        "a 200 is taken for everybody of the call",
        (
            Edit(
                "adapters/clevertap/answer_bodies.py",
                '    status = str(said.get("status")).lower()\n    left_out = _entries(said)\n'
                '    if status == "fail"',
                '    return Outcome(ACCEPTED, "accepted")\n    if status == "fail"',
            ),
        ),
        "tests/faults/test_provider_faults.py::test_each_fault_ends_as_it_must[unprocessed]",
        "assert ",
    ),
    Mistake(
        "every report of a conversion is a reward",
        (
            Edit(
                "application/feedback.py",
                "        if named.converted_at is not None:\n"
                "            return _answer([], cancelled, [named.id], Reason.NOT_SENT)\n",
                "        if named.converted_at is not None:\n"
                "            self.changes.count(named)\n"
                "            return _answer([named.id], cancelled, [], Reason.NOT_SENT)\n",
            ),
        ),
        "tests/contracts/test_orders.py::test_all_orders_lead_to_one_state[sqlite-sent]",
        "combo",
    ),
    Mistake(
        "NaN is a number that may be a reward",
        (
            Edit(
                "adapters/amplitude/payload.py",
                "        return Unreadable(_fault_of_element(raw), raw, Source.AMPLITUDE)\n"
                "    return _fact(event, raw)\n",
                '        if _fault_of_element(raw) != "bad_value":\n'
                "            return Unreadable(_fault_of_element(raw), raw, Source.AMPLITUDE)\n"
                "        import json\n\n"
                "        event = msgspec.convert(json.loads(bare(raw)), _Event)\n"
                "    return _fact(event, raw)\n",
            ),
            Edit(
                "domain/cohorts/cohort.py",
                "        return round(min(max(0, told), self.value_max) * 1_000)",
                "        return round(max(0, min(self.value_max, told)) * 1_000)",
            ),
        ),
        "tests/faults/test_hostile_bodies.py::test_a_reward_that_is_no_number_teaches_nothing",
        "bad_value",
    ),
    Mistake(
        "a body that is no JSON makes the engine fail",
        (
            Edit(
                "entrypoints/http/door.py",
                '            await answer(send, 400, error_body("not_json"',
                '            await answer(send, 500, error_body("not_json"',
            ),
        ),
        "tests/faults/test_hostile_bodies.py::"
        "test_a_body_that_cannot_be_read_is_kept_and_never_our_failure",
        "500 in ",
    ),
)
