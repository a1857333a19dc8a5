"""What the engine says while it works: one line an event, without secrets and message texts."""

import logging
import sys
import time
import traceback
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal, TextIO, cast

import msgspec
import structlog
from structlog.typing import EventDict

LogFormat = Literal["console", "json"]
Line = Mapping[str, object]  # "event" comes first


class _Patient:
    """A stream whose reader may have gone: what cannot be written is lost, and nothing stops."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


def configure_logs(log_format: LogFormat | None, stream: TextIO = sys.stdout) -> "Journal":
    """Set up structlog and return the journal; without a format, a terminal gets text."""
    chosen = log_format or ("console" if stream.isatty() else "json")
    write = _json if chosen == "json" else _console
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(_told),
            lambda _logger, _name, event: write(event),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Patient(stream))),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Discreet("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    return Journal(chosen, stream)


class _Discreet(logging.Formatter):
    """Formats what libraries log: a stack without the rows that PostgreSQL names under it."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the library's name
        return without_details(super().formatException(ei))


def _told(exc_info: Any) -> str:
    return without_details("".join(traceback.format_exception(*exc_info)).rstrip("\n"))


def without_details(trace: str) -> str:
    """Return a stack without PostgreSQL's details: they hold the values of a row."""
    lines = trace.splitlines()
    return "\n".join(line for line in lines if not line.startswith(("DETAIL:", "CONTEXT:")))


class Journal:
    """Writes the lines of a whole batch at once: a line a time costs more than the decision."""

    def __init__(self, log_format: LogFormat, stream: TextIO) -> None:
        """Write to the stream in the format that `configure_logs` chose."""
        self._write = _json if log_format == "json" else _console
        self._stream = _Patient(stream)

    def lines(self, lines: Iterable[Line]) -> None:
        """Write one line for each mapping, all with the same time."""
        at = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
        text = "\n".join(self._write({**line, "timestamp": at}) for line in lines)
        if text:
            with suppress(OSError):  # a log that cannot be written stops no work
                self._stream.write(text + "\n")
                self._stream.flush()


def _json(event: EventDict | Line) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()


def _console(event: EventDict | Line) -> str:
    fields = {key: value for key, value in event.items() if key not in _APART}
    head = str(event["event"])
    if event.get("level") in ("error", "critical") and not head.startswith("["):
        head = f"[ERROR] {head}"
    spelled = "".join(f" {key}={_spelled(value)}" for key, value in fields.items())
    trace = event.get("exception")
    return f"{head}{spelled}" + (f"\n{trace}" if trace else "")


_APART = ("event", "timestamp", "level", "exception")


def _spelled(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f'"{text}"' if " " in text else text
