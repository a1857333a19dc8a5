"""Somebody outside who looks into the engine's database: sees what is committed, changes nothing.

with onlooker("sqlite:////tmp/engine.db") as look:
    look("SELECT state FROM experiment WHERE user_id = ?", "usr_1")
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row
from tests.support.postgres import a_database

Look = Callable[..., Sequence[Mapping[str, Any]]]

DATABASES = ("sqlite", "postgresql")


@contextmanager
def database_url(kind: str, folder: Path) -> Iterator[str]:
    """Give the address of a database of a kind: a file in the folder, or one that is made."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'engine.db'}"
    else:
        with a_database() as url:
            yield url


@contextmanager
def onlooker(url: str) -> Iterator[Look]:
    """Open a connection that sees every commit; questions have `?` for their values."""
    if url.startswith("sqlite:///"):
        path = url.removeprefix("sqlite:///")
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        with closing(connection):
            yield lambda query, *values: [dict(row) for row in connection.execute(query, values)]
    else:
        with psycopg.connect(url, autocommit=True, row_factory=dict_row) as server:
            yield lambda query, *values: server.execute(
                query.replace("?", "%s").encode(), values
            ).fetchall()
