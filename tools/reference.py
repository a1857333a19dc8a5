"""The pages of the reference, written from the code: commands, settings, routes, keys, metrics."""

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import httpx2
from prometheus_client.metrics import MetricWrapperBase

from experiment_engine.adapters.system.clock import SystemClock
from experiment_engine.adapters.system.metrics import Metrics
from experiment_engine.configuration.schema import schemas
from experiment_engine.domain.reasons import Reason
from experiment_engine.entrypoints.cli.main import app
from experiment_engine.entrypoints.group_commit import GroupCommit
from experiment_engine.entrypoints.http.access import Gate
from experiment_engine.entrypoints.http.app import build_app, webhooks
from experiment_engine.entrypoints.http.running import Running
from experiment_engine.settings import SETTINGS, Settings

ROOT = Path(__file__).parents[1]

_NOTE = "This page is written by the code of this version.\n\n"


def commands() -> str:
    """Return every command with its options, as `--help` says them."""
    written = app.generate_docs(output_format="markdown", recursive=True, heading_level=1)
    _, _, listed = written.partition("**Commands**")
    return f"# Commands\n\n{_NOTE}**Commands**{listed}"


def settings() -> str:
    """Return every setting with its default and what `.env.example` tells about it."""
    told = _told_in_example()
    lines = ["# Settings", "", _NOTE + "How to write them is in [settings](../settings.md).", ""]
    fields = {name.upper(): field for name, field in Settings.model_fields.items()}
    for name in [
        *(name for name in fields if name in SETTINGS),
        *sorted(SETTINGS - fields.keys()),
    ]:
        default = fields[name].get_default(call_default_factory=True) if name in fields else None
        shown = f"`{default}`" if default not in (None, "", (), False) else "not set"
        lines += [f"## {name}", "", f"Default: {shown}", "", told.get(name, ""), ""]
    return "\n".join(lines)


def _told_in_example() -> dict[str, str]:
    """Return the comment above each setting of `.env.example`."""
    found, comment = {}, list[str]()
    for line in (ROOT / ".env.example").read_text(encoding="utf-8").splitlines():
        named = re.fullmatch(r"#? ?([A-Z][A-Z0-9_]+)=.*", line)
        if named:
            found[named[1]] = "\n".join(comment)
        elif line.startswith("#") and not line.startswith("# ----"):
            comment.append(line.removeprefix("#").strip())
        if not line:
            comment = []
    return found


def http_routes() -> str:
    """Return every route with its parameters and answers, as OpenAPI describes them."""
    document = openapi()
    lines = ["# HTTP routes", "", _NOTE + "A running engine has it at `/docs`.", ""]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            lines += _route(method.upper(), path, operation, document)
    return "\n".join(lines)


def openapi() -> dict[str, Any]:
    """Return the OpenAPI document; nothing runs."""
    nothing = cast("Any", None)
    running = Running(nothing, GroupCommit(nothing), None, Gate((), "API_TOKEN"))
    door = build_app(running, webhooks(Settings(), SystemClock()))

    async def ask() -> httpx2.Response:
        transport = httpx2.ASGITransport(app=cast("Any", door))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/openapi.json")

    return dict(asyncio.run(ask()).raise_for_status().json())


def _route(method: str, path: str, operation: Any, document: Any) -> Iterator[str]:
    yield f"## `{method} {path}`\n"
    yield f"{operation.get('description') or operation.get('summary', '')}\n"
    for parameter in operation.get("parameters", ()):
        must = ", must be there" if parameter.get("required") else ""
        told = parameter.get("description", "")
        yield f"- `{parameter['name']}` ({parameter['in']}{must}) {told}"
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    if "schema" in body:
        yield from _properties(_resolved(body["schema"], document), document)
    yield "\n| answer | means |\n| --- | --- |"
    for status, answer in sorted(operation.get("responses", {}).items()):
        yield f"| {status} | {answer.get('description', '')} |"
    yield ""


def _properties(schema: Any, document: Any) -> Iterator[str]:
    for name, one in schema.get("properties", {}).items():
        kind = _resolved(one, document)
        must = ", must be there" if name in schema.get("required", ()) else ""
        yield f"- `{name}` (body{must}) {kind.get('description', '')}"


def _resolved(schema: Any, document: Any) -> Any:
    place = schema.get("$ref", "")
    for part in place.split("/")[1:]:
        document = document[part]
    return document if place else schema


def configuration() -> str:
    """Return every key of the configuration's files, as their JSON Schema has them."""
    lines = [
        "# Configuration keys",
        "",
        _NOTE + "What each does is told in [settings](../settings.md#the-configuration-folder);"
        " `experiment-engine config schema` prints this for editors.",
        "",
    ]
    for name, schema in schemas().items():
        lines += [f"## {name}", "", "| key | what it takes |", "| --- | --- |"]
        lines += [f"| `{key}` | {kind} |" for key, kind in _keys(schema)]
        lines.append("")
    return "\n".join(lines)


def _keys(schema: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, one in schema.get("properties", {}).items():
        if "properties" in one or isinstance(one.get("additionalProperties"), dict):
            yield from _keys(one, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _kind(one)
    others = schema.get("additionalProperties")
    if isinstance(others, dict):
        if "properties" in others:
            yield from _keys(others, f"{prefix}<name>.")
        else:
            yield f"{prefix}<name>", _kind(others)


def _kind(one: Mapping[str, Any]) -> str:
    values = one.get("enum") or ([one["const"]] if "const" in one else None)
    said = (
        ", ".join(f"`{json.dumps(value)}`" for value in values) if values else one.get("type", "")
    )
    limits = [f"{word} `{one[key]}`" for key, word in _LIMITS.items() if key in one]
    parts = [str(said), *limits, one.get("description", "")]
    return ", ".join(part for part in parts if part).replace("|", "\\|").replace("\n", " ")


_LIMITS = {"minimum": "from", "maximum": "to", "pattern": "like", "default": "by default"}


def reasons() -> str:
    """Return every reason, in the order of the code; the glossary tells what each means."""
    glossary = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    lines = ["# Reasons", "", _NOTE, "| reason | meaning | seen where |", "| --- | --- | --- |"]
    for reason in Reason:
        row = re.search(rf"^\| `{reason.value}` \|.*$", glossary, re.MULTILINE)
        assert row is not None, f"the glossary does not explain {reason.value}"  # noqa: S101
        lines.append(row[0])
    return "\n".join([*lines, ""])


def metrics() -> str:
    """Return every metric of `/metrics` with its kind and labels."""
    lines = ["# Metrics", "", _NOTE + "`GET /metrics` answers in Prometheus' text format.", ""]
    lines += ["| metric | kind | labels | tells |", "| --- | --- | --- | --- |"]
    for collector in vars(Metrics()).values():
        if isinstance(collector, MetricWrapperBase):
            (family,) = collector.describe()
            labels = ", ".join(f"`{label}`" for label in collector._labelnames) or "none"  # noqa: SLF001 - nothing else tells
            total = "_total" if family.type == "counter" else ""
            told = f"{labels} | {family.documentation}"
            lines.append(f"| `{family.name}{total}` | {family.type} | {told} |")
    return "\n".join([*lines, ""])


PAGES: Mapping[str, Callable[[], str]] = {
    "reference/commands.md": commands,
    "reference/settings.md": settings,
    "reference/http.md": http_routes,
    "reference/configuration.md": configuration,
    "reference/reasons.md": reasons,
    "reference/metrics.md": metrics,
}
