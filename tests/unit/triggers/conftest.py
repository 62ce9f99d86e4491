"""Triggers as the triggerer makes them, and Airflow's asset state store in memory."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from functools import cached_property
from typing import Any
from unittest import mock

import pytest
from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.sdk.execution_time.comms import ErrorResponse

from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.triggers.reader import WandbReader
from wandb_airflow_provider.triggers.registry import WandbRegistryAliasTrigger

INTERVAL = 0.2
PATIENCE = 180.0


@pytest.fixture
def versions(hook: WandbHook, log_run: Callable[..., Any]) -> list[Any]:
    """Two versions of a model."""
    return [log_run({"m": 1}, content)[1] for content in "ab"]


@pytest.fixture
def rebuilt() -> Callable[..., Any]:
    """``rebuilt(trigger)`` makes a trigger as the triggerer does: from what another one serialized."""

    def make(trigger: Any) -> Any:
        path, kwargs = trigger.serialize()
        assert path == f"{type(trigger).__module__}.{type(trigger).__qualname__}"
        return type(trigger)(**json.loads(json.dumps(kwargs)))

    return make


@pytest.fixture
def trigger(
    monkeypatch: pytest.MonkeyPatch,
    hook: WandbHook,
    unique: str,
    rebuilt: Callable[..., Any],
    at_rest: Callable[[], None],
) -> Iterator[Callable[..., Any]]:
    """``trigger(...)`` makes a trigger for an alias in a collection of the test's own."""

    def make(**arguments: Any) -> WandbRegistryAliasTrigger:
        names = {"registry": "model", "collection": unique, "alias": "production"}
        alias = WandbRegistryAliasTrigger(**{**names, "poll_interval": INTERVAL, **arguments})
        rebuilt_alias: WandbRegistryAliasTrigger = rebuilt(alias)
        return rebuilt_alias

    # The test reads W&B itself: the last trigger to end must not take wandb's helper process away from it.
    monkeypatch.setattr(WandbReader, "_open", WandbReader._open + 1)
    yield make
    at_rest()


@pytest.fixture
def at_rest() -> Callable[[], None]:
    """``at_rest()`` waits until no loop reads W&B any more: the last one ends wandb's helper process."""

    def wait() -> None:
        for thread in poll_threads():
            thread.join(PATIENCE)

    return wait


def poll_threads() -> list[threading.Thread]:
    """Return the threads beside event loops that still live."""
    return [thread for thread in threading.enumerate() if thread.name == "wandb-airflow-poll"]


@pytest.fixture
def all_events() -> Callable[[Any], Awaitable[list[Any]]]:
    """``await all_events(trigger)`` returns what a trigger sends until it ends."""

    async def collect(trigger: Any) -> list[Any]:
        async with asyncio.timeout(PATIENCE):
            return [event.payload async for event in trigger.run()]

    return collect


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """``await until(done)`` waits for something that happens beside the loop."""

    async def wait(done: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not done():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    return wait


class Triggerer:
    """The part of Airflow's triggerer that shares streams, and stores events when it is told to."""

    def __init__(self) -> None:
        self.stores = True
        self.events: dict[int, list[Any]] = {}

    @cached_property
    def manager(self) -> Any:
        """Airflow's own, which releases before 3.3 do not have."""
        from airflow.triggers.shared_stream import SharedStreamManager

        return SharedStreamManager()

    async def run(self, number: int, trigger: Any) -> list[Any]:
        """Run one trigger to its end; its events are at ``events[number]`` meanwhile."""
        key = trigger.shared_stream_key()
        stream = self.manager.subscribe(trigger_id=number, trigger=trigger, key=key)
        sent = self.events.setdefault(number, [])
        try:
            async with aclosing(trigger.filter_shared_stream(stream)) as events:
                async for event in events:
                    sequence = self.manager.bind_pending_event(trigger_id=number, key=key)
                    sent.append(event.payload)
                    if self.stores and sequence is not None:
                        asyncio.get_running_loop().call_soon(self.manager.confirm_persisted, [sequence])
        finally:
            await self.manager.unsubscribe(number, key)
        return sent


@pytest.fixture
def triggerer() -> Triggerer:
    return Triggerer()


class Store:
    """Airflow's asset state store of one asset, in memory."""

    broken: Exception = AirflowRuntimeError(ErrorResponse(detail={"why": "broken"}))

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.failures = 0

    def accessors(self) -> Any:
        from airflow.sdk.execution_time.context import AssetStateStoreAccessors

        stand_in = mock.create_autospec(AssetStateStoreAccessors, instance=True)
        stand_in.aget.side_effect = self._get
        stand_in.aset.side_effect = self._set
        return stand_in

    async def _get(self, key: str, default: Any = None) -> Any:
        self._fail()
        return json.loads(self.values[key]) if key in self.values else default

    async def _set(self, key: str, value: Any) -> None:
        self._fail()
        self.values[key] = json.dumps(value)

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise self.broken

    def version(self, target: str) -> Any:
        """Return the version that is stored as reported; None when there is none."""
        return json.loads(self.values.get(f"wandb_alias:{target}", "{}")).get("version")


@pytest.fixture
def store() -> Store:
    return Store()
