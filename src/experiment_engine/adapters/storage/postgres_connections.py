"""How PostgreSQL is reached: pools, time limits, and what is asked of a server at the start."""

import logging

import psycopg
from psycopg.types.numeric import Int8Dumper
from sqlalchemy import URL, Engine, create_engine, event, make_url, text

from experiment_engine.domain.errors import ConfigurationError

# A lane of webhooks, a worker, learning, and people at the API write at the same time, each on a
# connection of its own; a busy moment may add as many. Reports of people share the readers.
_WRITERS, _READERS, _MORE = 4, 4, 4

# A host that vanishes is noticed in seconds on both sides: here the webhooks are answered 503
# instead of hanging, there its locks are let go.
_REACH = {
    "application_name": "experiment-engine",
    "connect_timeout": 2,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 4_000,
}
_LIMITS = {
    "statement_timeout": "10s",  # no statement of ours takes seconds, unless something is wrong
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "10s",  # nobody waits for a process that hangs
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "6000",
    "jit": "off",  # compiling takes longer than any statement of ours
}
# Every hot statement has its index. A plan that was made while a table was small is kept, and
# would go on to read all of it.
_WRITING = {**_LIMITS, "enable_seqscan": "off"}
_READING = {**_LIMITS, "default_transaction_read_only": "on"}

logging.getLogger("psycopg").setLevel(logging.ERROR)  # what breaks is told by us, once

_DURABLE = ("fsync", "full_page_writes", "synchronous_commit")


def address(url: str) -> URL:
    """Return SQLAlchemy's form of an address that a person wrote."""
    return make_url(url).set(drivername="postgresql+psycopg")


def open_writers(url: URL) -> Engine:
    """Return the engine whose connections write; each is tried when it is used."""
    return _open(url, _WRITERS, _WRITING)


def open_readers(url: URL) -> Engine:
    """Return an engine whose connections can read only, and are made anew where one is gone."""
    return _open(url, _READERS, _READING, pool_pre_ping=True, isolation_level="AUTOCOMMIT")


def _open(url: URL, size: int, session: dict[str, str], **options: object) -> Engine:
    settings = " ".join(f"-c {name}={value}" for name, value in session.items())
    given = url.query.get("options")
    if isinstance(given, str):  # what a person asks for wins
        settings = f"{settings} {given}"
    engine = create_engine(
        url.difference_update_query(["options"]),
        pool_size=size,
        max_overflow=_MORE,
        pool_timeout=5,
        hide_parameters=True,  # who it is about stands in no log
        connect_args={**_REACH, "options": settings},
        **options,
    )

    @event.listens_for(engine, "connect")
    def _one_type_of_integers(connection: psycopg.Connection, _record: object) -> None:
        # psycopg chooses by the value, and every choice would be a statement to plan of its own.
        connection.adapters.register_dumper(int, Int8Dumper)

    return engine


def refuse_what_is_not_durable(writers: Engine) -> None:
    """Raise ConfigurationError for a server on which a commit may be lost."""
    with writers.connect() as connection:
        for name in _DURABLE:
            if connection.execute(text(f"SHOW {name}")).scalar_one() == "off":
                raise ConfigurationError(
                    f"DATABASE_URL: the server has {name} = off, so that what was answered could"
                    f" be lost: set {name} = on in its configuration"
                )
