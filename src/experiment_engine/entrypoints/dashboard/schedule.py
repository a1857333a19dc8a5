"""What goes out in the next 24 hours, by quarter hour, with the quiet hours shaded."""

from collections.abc import Sequence

from experiment_engine.application.page_records import WaitingCount
from experiment_engine.domain.moments import DAY, MINUTE, Duration, Instant
from experiment_engine.entrypoints.dashboard import charts, labels
from experiment_engine.entrypoints.dashboard.pages import Asked, Page, View

_STRETCH = Duration(15 * MINUTE)
_ROWS = 40  # of the table below the chart
_LABELLED = 3 * 4  # quarter hours from one label to the next


def view(asked: Asked) -> View:
    """Return what is due in each quarter hour, by channel."""
    engine = asked.engine
    now = engine.clock.now()
    start = Instant(now - now % _STRETCH)
    channels, quiet = sorted(engine.rules.channels), engine.rules.quiet_hours
    return {
        "starts_at": start,
        "channels": channels,
        "due": engine.pages.reading.waiting(channels, start, Instant(start + DAY), _STRETCH),
        "quiet": [
            quiet is not None and quiet.holds(Instant(at), engine.rules.timezone)
            for at in range(start, start + DAY, _STRETCH)
        ],
        "quiet_hours": _quiet(asked),
    }


def drawn(made: View, asked: Asked) -> View:
    """Return the bars."""
    start: Instant = made["starts_at"]
    due: Sequence[WaitingCount] = made["due"]
    channels = made["channels"]
    counts = {(one.starts_at, one.channel): one.messages for one in due}
    times = [Instant(at) for at in range(start, start + DAY, _STRETCH)]
    zone = asked.engine.rules.timezone
    stacks = [[counts.get((at, channel), 0) for channel in channels] for at in times]
    box = charts.Box(1000, 260, top=14, right=16, bottom=30, left=46)
    made_bars = charts.bars(stacks, shaded=made["quiet"], box=box)
    return {
        "chart": made_bars
        | {
            "xticks": [
                {
                    "x": round(box.left + place * made_bars["step"], 2),
                    "label": labels.clock_time(times[place], zone)[:5],
                }
                for place in range(0, len(times), _LABELLED)
            ]
        },
        "total": sum(one.messages for one in due),
        "rows": [
            [labels.day_and_time(at, zone), *(labels.number(n) for n in stack)]
            for at, stack in zip(times, stacks, strict=True)
            if any(stack)
        ][:_ROWS],
    }


def _quiet(asked: Asked) -> str | None:
    quiet = asked.engine.rules.quiet_hours
    if quiet is None:
        return None
    return f"{quiet.start:%H:%M} to {quiet.end:%H:%M}"


PAGE = Page("/schedule", "/schedule.json", "Schedule", "schedule.html", view, drawn)
