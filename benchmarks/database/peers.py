"""Draining the same number of trivial jobs with job queues on PostgreSQL, each as documented.

`python -m benchmarks.database.peers NAME URL JOBS` prints the seconds from the start of the drain
to the last job. Ours does more for each message: it checks caps, consent, goals, pauses and more.
"""

import asyncio
import sys
import threading
import time
from importlib import import_module  # only `.venv-bench` has them
from typing import Any

import psycopg

_CONCURRENT = 64


async def pgqueuer(url: str, jobs: int) -> float:
    """Drain with PgQueuer, in batches of 500."""
    library: Any = import_module("pgqueuer")
    drain = import_module("pgqueuer.types").QueueExecutionMode.drain
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        driver = library.PsycopgDriver(connection)
        await library.Queries(driver).install()
        await library.Queries(driver).enqueue(["send"] * jobs, [None] * jobs, [0] * jobs)
        worker = library.PgQueuer(driver)

        async def send(job: Any) -> None:
            del job

        send.__annotations__["job"] = library.Job
        worker.entrypoint("send")(send)
        began = time.perf_counter()
        await worker.qm.run(mode=drain, batch_size=500)
        return time.perf_counter() - began


async def procrastinate(url: str, jobs: int) -> float:
    """Drain with Procrastinate, 64 at a time."""
    library: Any = import_module("procrastinate")
    app = library.App(connector=library.PsycopgConnector(conninfo=url))

    async def nothing(number: int) -> None:
        del number

    send = app.task(name="send")(nothing)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        for start in range(0, jobs, 1_000):
            batch = [{"number": number} for number in range(start, min(start + 1_000, jobs))]
            await send.batch_defer_async(*batch)
        began = time.perf_counter()
        await app.run_worker_async(
            wait=False,
            concurrency=_CONCURRENT,
            install_signal_handlers=False,
            listen_notify=False,
        )
        return time.perf_counter() - began


def dbos(url: str, jobs: int) -> float:
    """Drain with DBOS; it cannot hold jobs back, so putting them in is part of the time."""
    library: Any = import_module("dbos")
    library.DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR"})
    left, finished, lock = [jobs], threading.Event(), threading.Lock()

    def count(number: int) -> None:
        del number
        with lock:
            left[0] -= 1
            if left[0] <= 0:
                finished.set()

    send = library.DBOS.workflow()(count)
    library.DBOS.launch()
    queue = library.DBOS.register_queue(
        "send", worker_concurrency=_CONCURRENT, polling_interval_sec=0.1
    )
    began = time.perf_counter()
    for number in range(jobs):
        queue.enqueue(send, number)
    if not finished.wait(600):
        raise RuntimeError("DBOS did not finish in ten minutes")
    took = time.perf_counter() - began
    library.DBOS.destroy()
    return took


def main(name: str, url: str, jobs: int) -> None:
    """Run one peer and print its seconds."""
    if name == "dbos":
        print(dbos(url, jobs))
    else:
        print(asyncio.run({"pgqueuer": pgqueuer, "procrastinate": procrastinate}[name](url, jobs)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
