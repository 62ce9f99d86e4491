"""The thread that turns events into executions, and those that deliver webhooks."""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from wandb_airflow_provider.devserver.automations import firing, integrations, webhooks
from wandb_airflow_provider.devserver.clock import stamp
from wandb_airflow_provider.devserver.store import Store

if TYPE_CHECKING:
    import httpx

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.05
_CRASH_SCAN_SECONDS = 1.0
_STOP_SECONDS = 1.0
_DELIVERY_THREADS = 4


class AutomationWorker:
    """
    Watches the database of one server for events, and does what automations say.

    It works beside the requests, never within one. What it has not finished when it stops, or when the process is
    killed, it goes on with after the next start; a webhook may then arrive twice, but an event fires only once.

    :param now: The server's clock: pauses between attempts go by it.
    """

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store, self._now = store, now
        self._stopping, self._wake = threading.Event(), threading.Event()
        self._settled = threading.Condition()
        self._asked = self._answered = 0
        self._scanned_at = 0.0
        self._due: queue.SimpleQueue[tuple[int, int] | None] = queue.SimpleQueue()
        self._in_flight: set[tuple[int, int]] = set()
        self._recording = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="wandb-devserver-automations", daemon=True)
        self._deliverers: list[threading.Thread] = []
        self._client: httpx.Client | None = None

    def start(self) -> None:
        """Start the thread; those that deliver start with the first webhook."""
        self._thread.start()

    def stop(self) -> None:
        """End the threads. An attempt that is still under way then is not recorded, and is made again later."""
        with self._recording:
            self._stopping.set()
        self._wake.set()
        for _ in self._deliverers:
            self._due.put(None)
        deadline = time.monotonic() + _STOP_SECONDS
        for thread in (self._thread, *self._deliverers):
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        if self._client is not None:
            self._client.close()

    def settle(self, timeout: float) -> None:
        """
        Wait until all that has happened so far is evaluated and each webhook that is due has been tried.

        :param timeout: In seconds.
        :raises TimeoutError: it took longer.
        """
        with self._settled:
            self._asked += 1
            wanted = self._asked
            self._wake.set()
            if not self._settled.wait_for(lambda: self._answered >= wanted, timeout):
                raise TimeoutError(f"the automations have not settled within {timeout:g} seconds")

    def _run(self) -> None:
        with self._store.read() as conn:
            seen: int | None = None
            while not self._stopping.is_set():
                self._wake.clear()
                asked = self._asked
                version = conn.execute("PRAGMA data_version").fetchone()[0]
                is_done = True
                try:
                    if version != seen or asked != self._answered:
                        is_done = self._evaluate(conn)
                    self._find_crashed(conn, at_once=asked != self._answered)
                    is_idle = self._hand_out(conn) and is_done
                except Exception:
                    # Whatever it was, the next event must not suffer from it.
                    _log.exception("automations could not be evaluated")
                    is_idle = False
                seen = version if is_done else None
                if is_idle and asked != self._answered:
                    with self._settled:
                        self._answered = asked
                        self._settled.notify_all()
                self._wake.wait(_POLL_SECONDS)

    def _evaluate(self, conn: sqlite3.Connection) -> bool:
        """Fire for what has happened, and tell whether nothing more has happened meanwhile."""
        generation = self._store.generation
        while events := conn.execute("SELECT * FROM automation_events ORDER BY seq LIMIT 100").fetchall():
            for event in events:
                self._fire(event, generation)
        # Once in each round: a run that logs all the time gets many messages evaluated together.
        for row in conn.execute("SELECT * FROM automation_dirty_runs").fetchall():
            self._read_run(conn, row, generation)
        return conn.execute("SELECT 1 FROM automation_dirty_runs LIMIT 1").fetchone() is None

    def _fire(self, event: sqlite3.Row, generation: int) -> None:
        try:
            with self._store.write() as conn:
                if self._store.generation == generation:
                    firing.fire(conn, event, self._now())
        except Exception:
            _log.exception("the event %s could not be evaluated and is dropped", dict(event))
            with self._store.write() as conn:
                conn.execute("DELETE FROM automation_events WHERE seq = ?", (event["seq"],))

    def _read_run(self, conn: sqlite3.Connection, row: sqlite3.Row, generation: int) -> None:
        run = row["run"]
        found: list[firing.Evaluation] = []
        try:
            # Read outside the transaction: whoever logs must not wait for it.
            found = firing.evaluate_run(conn, run)
        except Exception:
            _log.exception("the new lines of run %d could not be evaluated and are passed over", run)
        with self._store.write() as writing:
            if self._store.generation == generation:
                for evaluation in found:
                    firing.record_run(writing, evaluation, run, self._now())
                writing.execute(
                    "DELETE FROM automation_dirty_runs WHERE run = ? AND mark = ?", (run, row["mark"])
                )

    def _find_crashed(self, conn: sqlite3.Connection, *, at_once: bool) -> None:
        if not at_once and time.monotonic() < self._scanned_at + _CRASH_SCAN_SECONDS:
            return
        self._scanned_at = time.monotonic()
        generation, now = self._store.generation, self._now()
        for run in firing.find_crashed(conn, now):
            with self._store.write() as writing:
                if self._store.generation == generation:
                    firing.fire_crash(writing, run, now)

    def _hand_out(self, conn: sqlite3.Connection) -> bool:
        """Give what is due to the threads that deliver; tell whether nothing is due or under way."""
        with self._recording:
            busy = set(self._in_flight)
        rows = conn.execute(
            "SELECT pk FROM automation_executions WHERE next_attempt_at <= ? ORDER BY next_attempt_at, pk",
            (stamp(self._now()),),
        ).fetchall()
        for item in [(row["pk"], self._store.generation) for row in rows]:
            if item not in busy:
                self._start_deliverers()
                with self._recording:
                    self._in_flight.add(item)
                self._due.put(item)
        return not rows and not busy

    def _start_deliverers(self) -> None:
        if self._deliverers:
            return
        # Only now: the import takes a while, and most servers never send anything.
        import httpx

        # Proxies from the environment are not asked: targets are mostly on this machine.
        self._client = httpx.Client(timeout=webhooks.TIMEOUT_SECONDS, follow_redirects=False, trust_env=False)
        for number in range(_DELIVERY_THREADS):
            thread = threading.Thread(
                target=self._deliver,
                name=f"wandb-devserver-webhooks-{number}",
                args=(self._client,),
                daemon=True,
            )
            thread.start()
            self._deliverers.append(thread)

    def _deliver(self, client: httpx.Client) -> None:
        while (item := self._due.get()) is not None and not self._stopping.is_set():
            try:
                self._attempt(client, *item)
            except Exception:
                # It stays due, and is tried again.
                _log.exception("webhook delivery %d failed", item[0])
            finally:
                with self._recording:
                    self._in_flight.discard(item)
                self._wake.set()

    def _attempt(self, client: httpx.Client, pk: int, generation: int) -> None:
        with self._store.read() as conn:
            execution = conn.execute("SELECT * FROM automation_executions WHERE pk = ?", (pk,)).fetchone()
            if execution is None or self._store.generation != generation:
                return
            integration = integrations.find(conn, execution["integration"])
        at = self._now()
        if integration is None:
            outcome = webhooks.Outcome(None, "the webhook integration is gone", False, 0.0)
        else:
            outcome = webhooks.send(client, webhooks.build(execution, integration))
        with self._recording:
            if not self._stopping.is_set():
                with self._store.write() as conn:
                    if self._store.generation == generation:
                        _record(conn, execution, outcome, at, self._now())


def _record(
    conn: sqlite3.Connection, execution: sqlite3.Row, outcome: webhooks.Outcome, at: datetime, now: datetime
) -> None:
    number = execution["attempts"] + 1
    conn.execute(
        "INSERT INTO webhook_attempts VALUES (?, ?, ?, ?, ?, ?)",
        (execution["pk"], number, stamp(at), outcome.status, outcome.error, outcome.seconds),
    )
    again = outcome.error is not None and outcome.retry and number < webhooks.MOST_ATTEMPTS
    state = "PENDING" if again else "FINISHED" if outcome.error is None else "FAILED"
    due = stamp(now + timedelta(seconds=webhooks.pause_seconds(number))) if again else None
    conn.execute(
        "UPDATE automation_executions SET state = ?, attempts = ?, next_attempt_at = ? WHERE pk = ?",
        (state, number, due, execution["pk"]),
    )
