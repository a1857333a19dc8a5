"""A small configuration folder in which every key stands once, to make mistakes in."""

import json
from collections.abc import Mapping
from pathlib import Path

Files = Mapping[str, str | bytes]

SMALL: Mapping[str, str] = {
    "engine.toml": """
timezone = "Asia/Kolkata"
[quiet_hours]
start = "23:00"
end = "08:00"
[frequency_cap]
messages = 3
per = "7d"
min_gap = "1h"
[delivery]
expires_after = "30min"
[holdout]
share = 0.05
[languages]
default = "en"
[languages.fallback]
bho = "hi"
[opt_out]
events = ["push_off"]
[opt_in]
events = ["push_on"]
[channels.push]
consent = "required"
batch = 500
max_in_flight = 2
deep_link = "app://open?xp={experiment_id}"
[channels.push.frequency_cap]
messages = 2
per = "1d"
[channels.whatsapp]
endpoint = "whatsapp"
[channels.whatsapp.quiet_hours]
start = "21:00"
end = "09:00"
[channels.whatsapp.campaigns]
"*|*|*" = "1700000000"
"hi|urgency|none" = 1700000001
[placeholders.show_name]
from = "event_properties.show_name"
default = "your show"
[placeholders.show_name.defaults]
hi = "आपका शो"
[placeholders.order_id]
from = "user_properties.order_id"
[offers.rupee_1_trial]
per_day = 5000
[send_rate]
per_second = 200
[retention]
raw_events = "90d"
experiments = "400d"
""",
    "cohorts/leavers.toml": """
[trigger]
event = "left"
count = 3
within = "7d"
max_age = "6h"
again_after = "24h"
converted_quiet = "30d"
[goal]
event = "bought"
window = "3d"
[combos]
delay = ["2min", "1h"]
channel = ["push", "whatsapp"]
angle = ["urgency", "helpful"]
offer = ["none", "rupee_1_trial"]
[policy]
name = "epsilon_greedy"
epsilon = 0.3
[prior]
rate = 0.05
weight = 40
[prior.lean.angle]
urgency = 1.3
""",
    "copy/en.toml": """
[push.urgency."*"]
title = "Now"
body = "Go on with {show_name}."
[push.helpful."*"]
title = "May we help?"
body = "Order {order_id} waits."
[whatsapp.urgency."*"]
body = "Go on with {show_name}."
[leavers.whatsapp.helpful.none]
title = "May we help?"
body = "It waits."
[leavers.whatsapp.helpful.rupee_1_trial]
body = "It waits, for one rupee."
""",
    "copy/hi.toml": """
[leavers.push.urgency.none]
title = "अभी"
body = "{show_name}: आगे बढ़िए।"
""",
}


def write(folder: Path, files: Files) -> Path:
    """Write the files into the folder and return it."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def to_toml(values: Mapping[str, object]) -> str:
    """Write a parsed document as TOML again, with inline tables."""
    return "".join(f"{_string(key)} = {_value(value)}\n" for key, value in values.items())


def _value(value: object) -> str:
    if isinstance(value, dict):
        inside = ", ".join(f"{_string(key)} = {_value(item)}" for key, item in value.items())
        return f"{{{inside}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return _string(value) if isinstance(value, str) else str(value).lower()


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
