"""What a database says of a row that it refuses names the row: the log leaves that out."""

import io
import json

import pytest
import structlog
from sqlalchemy.exc import IntegrityError
from tests.support.postgres import a_database

from experiment_engine.adapters.storage import tables
from experiment_engine.adapters.storage.postgres_connections import address, open_readers
from experiment_engine.adapters.system.logs import configure_logs

CANARY = "canary-person-of-the-row"


@pytest.fixture(autouse=True)
def _logs_as_before() -> object:
    """Configure nothing for other tests."""
    yield
    structlog.reset_defaults()


def test_a_row_that_postgresql_refuses_is_not_in_the_log() -> None:
    """The message and the place stay, the values go."""
    stream = io.StringIO()
    with a_database() as url:
        engine = open_readers(address(url))
        row = {"user_hash": CANARY, "at": 1}
        with engine.connect() as connection:
            connection.exec_driver_sql("SET default_transaction_read_only = off")
            with pytest.raises(IntegrityError) as refused:
                connection.execute(tables.erased.insert(), [row, row])
        engine.dispose()
    assert CANARY in str(refused.value.orig)
    configure_logs("json", stream)
    structlog.get_logger().error("batch_failed", exc_info=refused.value)
    (line,) = stream.getvalue().splitlines()
    assert "duplicate key" in json.loads(line)["exception"]
    assert CANARY not in line
