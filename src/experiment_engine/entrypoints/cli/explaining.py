"""`explain`: the receipt of one decision, and the decision drawn again."""

import json as json_text
import os
from typing import Annotated, Any

from cyclopts import Parameter
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from experiment_engine import bootstrap
from experiment_engine.application.redraw import Redrawn
from experiment_engine.domain.errors import EngineError
from experiment_engine.entrypoints.http.partners import read_again
from experiment_engine.settings import read_settings

_LIKELIEST = 10  # combos that the table lists besides the drawn one


def explain(
    experiment_id: Annotated[str, Parameter(help="As answers, logs and the dashboard name it.")],
    *,
    redraw: Annotated[
        bool,
        Parameter(help="Draw it again from what is stored; exit with 1 where anything differs."),
    ] = False,
    json: Annotated[bool, Parameter(help="Answer as JSON.")] = False,
) -> None:
    """Show everything that explains one decision, beside a running server too.

    What could be drawn and why other combos could not, the probabilities, snapshot and seed, the
    text, every attempt at the provider, feedback and credit. Nothing is changed.
    """
    again: Redrawn | None = None
    with bootstrap.open_receipts(read_settings(os.environ), read_again) as receipts:
        receipt = receipts.explain(experiment_id)
        if redraw:
            again = receipts.redraw(experiment_id)
    if json:
        print(json_text.dumps({**receipt, **_described(again)}))  # noqa: T201 - the answer
    else:
        Console().print(_page(receipt, again), highlight=False)
    if again is not None and not again.is_equal:
        differing = ", ".join(check.what for check in again.checks if check.found == "differs")
        raise EngineError(f"{experiment_id} is not drawn again as it is stored: {differing}")


def _described(again: Redrawn | None) -> dict[str, Any]:
    if again is None:
        return {}
    checks = [
        {"what": check.what, "found": check.found.value, "why": check.why or None}
        for check in again.checks
    ]
    return {"redraw": {"equal": again.is_equal, "checks": checks}}


def _page(receipt: dict[str, Any], again: Redrawn | None) -> Group:
    parts = (_head, _message, _decision, _attempts, _events, _credit)
    redrawn = [] if again is None else [_redrawn(again)]
    return Group(*(part(receipt) for part in parts), *redrawn)


def _facts(title: str, rows: dict[str, Any]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False, box=None)
    for name, value in rows.items():
        if value not in (None, "", {}, []):
            table.add_row(Text(f"  {name}"), Text(str(value)))  # never markup: people wrote it
    return table


def _head(receipt: dict[str, Any]) -> Table:
    state = receipt["status"] + (f" ({receipt['reason']})" if receipt["reason"] else "")
    marks = [name for name in ("held_out", "manual", "postponed") if receipt[name]]
    return _facts(
        f"Experiment {receipt['experiment_id']}",
        {
            "user": receipt["user_id"],
            "cohort": receipt["cohort"],
            "state": state,
            "combo": receipt["combo_key"],
            "probability": receipt["propensity"],
            "marks": ", ".join([receipt["mode"], *marks]),
            "triggered": receipt["triggered_at"],
            "decided": receipt["decided_at"],
            "scheduled for": f"{receipt['scheduled_for']}, until {receipt['expires_at']}",
            "window ends": receipt["window_ends_at"],
            "zone": receipt["zone"],
            "context": receipt["context"],
        },
    )


def _message(receipt: dict[str, Any]) -> Table:
    message = receipt["message"]
    rows = {"language": message["language"], "title": message["title"], "body": message["body"]}
    return _facts("Message", rows)


def _decision(receipt: dict[str, Any]) -> Group:
    made = receipt["decision"]
    if made is None:
        return Group(Text("Decision: its distribution is not there"))
    facts = _facts(
        "Decision",
        {
            "policy": made["policy"],
            "snapshot": f"{made['policy_state']}, taken {made['policy_state_taken_at']}",
            "seed": receipt["seed"],
            "distribution": made["distribution_id"],
            "eligible": f"{len(made['eligible'])} combos",
        },
    )
    table = Table("combo", "probability", title="  could be drawn", title_justify="left")
    ranked = sorted(made["eligible"].items(), key=lambda item: -item[1])
    for place, (key, share) in enumerate(ranked):
        drawn = key == receipt["combo_key"]
        if drawn or place < _LIKELIEST:
            table.add_row(Text(key), Text(f"{share!r}{'  <- drawn' if drawn else ''}"))
    if len(ranked) > _LIKELIEST:
        table.caption = f"the {_LIKELIEST} likeliest of {len(ranked)}; --json has all"
    refused = {why: f"{len(keys)}: {_some(keys)}" for why, keys in made["not_eligible"].items()}
    return Group(facts, table, _facts("  could not be drawn", refused))


def _some(keys: list[str]) -> str:
    shown = 3
    return ", ".join(keys[:shown]) + (", ..." if len(keys) > shown else "")


def _attempts(receipt: dict[str, Any]) -> Table:
    table = _whole("Attempts", "", "started", "outcome", "reason", "answer")
    for one in receipt["attempts"]:
        columns = (one["number"], one["started_at"], one["outcome"], one["reason"], one["answer"])
        table.add_row(*(Text("-" if value is None else str(value)) for value in columns))
    return table


def _events(receipt: dict[str, Any]) -> Table:
    table = _whole("Events", "received", "event", "from", "result")
    for event in receipt["events"]:
        result = event["status"] + (f" ({event['reason']})" if event["reason"] else "")
        late = event["happened_at"] != event["received_at"]
        name = event["name"] + (f"\nof {event['happened_at']}" if late else "")
        columns = (event["received_at"], name, event["source"], result)
        table.add_row(*map(Text, columns))
    return table


def _whole(title: str, *columns: str) -> Table:
    """Return a table that breaks a line rather than cut it off."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def _credit(receipt: dict[str, Any]) -> Table:
    credit, feedback = receipt["credit"], receipt["feedback"]
    return _facts(
        "Feedback and credit",
        {
            "opened": feedback["opened_at"],
            "converted": feedback["converted_at"],
            "told by": feedback["converted_by"],
            "worth": feedback["value"],
            "in flight": "converted after the claim" if feedback["converted_in_flight"] else None,
            "counts for": credit["counted_for"],
            "trial": "yes" if credit["trial"] else "no",
            "success": "yes" if credit["success"] else "no",
            "teaches": "yes" if credit["teaches"] else "no",
        },
    )


def _redrawn(again: Redrawn) -> Table:
    equal = "equal, bit for bit, as far as it is kept" if again.is_equal else "NOT as stored"
    rows = {c.what: c.found + (f": {c.why}" if c.why else "") for c in again.checks}
    return _facts(f"Drawn again: {equal}", rows)
