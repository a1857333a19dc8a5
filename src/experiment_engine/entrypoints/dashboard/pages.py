"""What a page is: one view, drawn as HTML and answered as JSON beside it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from experiment_engine.engine.engine import Engine
from experiment_engine.entrypoints.dashboard.visitors import Visitor
from experiment_engine.entrypoints.http.access import Scope
from experiment_engine.entrypoints.http.running import Running

View = Mapping[str, Any]


class NoSuchPage(Exception):
    """What was asked for is not there; the message says what is."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request for a page, and who made it."""

    running: Running
    visitor: Visitor
    request: Request

    @property
    def engine(self) -> Engine:
        """Return the engine that answers."""
        return self.running.engine

    def path(self, name: str) -> str:
        """Return a part of the path."""
        return str(self.request.path_params[name])

    def query(self, name: str, default: str = "") -> str:
        """Return a parameter of the address."""
        return self.request.query_params.get(name, default)


def _nothing(_view: View, _asked: Asked) -> View:
    return {}


@dataclass(frozen=True, slots=True)
class Page:
    """One page: where it is, what it answers, and how that is drawn."""

    path: str
    data_path: str  # of the same as JSON
    name: str  # in the navigation
    template: str
    view: Callable[[Asked], View]
    drawn: Callable[[View, Asked], View] = _nothing  # geometry and words, for the template alone
    scope: Scope = Scope.STATS
