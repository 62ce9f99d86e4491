"""Wait for, or watch, an alias of a W&B registry or project in the triggerer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, closing
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal

from wandb_airflow_provider.artifacts import PROJECT_PREFIX
from wandb_airflow_provider.connection_form import DEFAULT_CONN_ID
from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.triggers.shared_poll import (
    DEFAULT_POLL_INTERVAL,
    SharedPollTrigger,
    event_of,
)

if TYPE_CHECKING:
    from airflow.triggers.base import TriggerEvent

    from wandb_airflow_provider.exceptions import WandbError
    from wandb_airflow_provider.registry import AliasTarget
    from wandb_airflow_provider.triggers.alias_memory import AliasMemory
    from wandb_airflow_provider.triggers.poll import Membership, Poll
    from wandb_airflow_provider.triggers.reader import WandbReader
    from wandb_airflow_provider.triggers.shared_poll import News
    from wandb_airflow_provider.waiting.alias import AliasWish, Holder, Observation
    from wandb_airflow_provider.waiting.decision import Decision
    from wandb_airflow_provider.watching.change import AliasChange, Seen

__all__ = ["WandbRegistryAliasTrigger"]


class WandbRegistryAliasTrigger(SharedPollTrigger):
    """
    Observe an alias of a registry collection, or of a project's artifact.

    In mode ``watch``, behind an ``AssetWatcher``, it sends an event each time the alias is added, moved or
    removed, for ever, and never fails: what is wrong is logged once, and tried again more slowly. What it has
    last reported is kept in Airflow's asset state store (3.3), so that a change made while no triggerer ran is
    still reported; it is stored after Airflow has stored the event, so that an event may repeat, with an equal
    ``idempotency_key``. In mode ``wait``, behind the sensor, it sends one event and ends.

    All triggers of one connection and registry share one poll loop, which reads all their aliases with one
    request a page. Aliases of a project cost a request each.

    :param registry: Name of the registry, without the prefix of its project; None for an artifact of ``project``.
    :param wandb_conn_id: Airflow connection; only its id is stored with the trigger.
    :param poll_interval: Seconds between two reads; of all that share a loop, the shortest one counts.
    :param first: In mode ``watch``, whether an alias that is held at the first observation ever is taken as
        given (``baseline``) or reported as added (``fire``).
    :param until: In mode ``wait``, what ends it: the alias is ``present``, ``moved`` or ``removed``.
    :param since: In mode ``wait``, who held the alias before, as version or JSON value; what ``moved`` differs from.
        None: the first holder that the trigger sees.
    :param digest: In mode ``wait``, only content with this digest ends it.
    :param not_version: In mode ``wait``, this version does not end it.
    :param tag: In mode ``wait``, only a version with this tag ends it.
    :param metadata: In mode ``wait``, only a version whose metadata has these values ends it.
    :param missing: In mode ``wait``, whether a registry or collection that does not exist fails it.
    :param end_time: In mode ``wait``, the deadline in seconds since the epoch.
    """

    own = (
        "registry",
        "entity",
        "project",
        "collection",
        "alias",
        "mode",
        "first",
        "until",
        "since",
        "digest",
        "not_version",
        "tag",
        "metadata",
        "missing",
    )
    asset_state_store: Any = None

    def __init__(
        self,
        *,
        registry: str | None = None,
        collection: str,
        alias: str,
        entity: str | None = None,
        project: str | None = None,
        wandb_conn_id: str = DEFAULT_CONN_ID,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        mode: Literal["wait", "watch"] = "watch",
        first: Literal["baseline", "fire"] = "baseline",
        until: Literal["present", "moved", "removed"] = "present",
        since: str | dict[str, Any] | None = None,
        digest: str | None = None,
        not_version: str | None = None,
        tag: str | None = None,
        metadata: dict[str, Any] | None = None,
        missing: Literal["wait", "fail"] = "wait",
        end_time: float | None = None,
        looked: bool = False,
    ) -> None:
        super().__init__(
            wandb_conn_id=wandb_conn_id, poll_interval=poll_interval, end_time=end_time, looked=looked
        )
        self.registry = registry.removeprefix(PROJECT_PREFIX) if isinstance(registry, str) else registry
        self.collection = collection
        self.alias = alias
        self.entity = entity
        self.project = project
        self.mode = mode
        self.first: Literal["baseline", "fire"] = first
        self.until: Literal["present", "moved", "removed"] = until
        self.since = since
        self.digest = digest
        self.not_version = not_version
        self.tag = tag
        self.metadata = metadata
        self.missing = missing

    def check(self) -> None:
        """
        Refuse wrong arguments.

        :raises WandbInvalidNameError: a name that W&B would refuse.
        :raises WandbConfigurationError: another argument is wrong.
        """
        if self.mode not in ("wait", "watch"):
            raise WandbConfigurationError(f"mode is {self.mode!r}; expected 'wait' or 'watch'.")
        if self.first not in ("baseline", "fire"):
            raise WandbConfigurationError(f"first is {self.first!r}; expected 'baseline' or 'fire'.")
        if (self.registry is None) == (self.project is None):
            raise WandbConfigurationError(
                "An alias is one of a registry or one of a project: name one of the two."
            )
        super().check()
        if self.mode == "wait":
            self.wish.check()

    def __str__(self) -> str:
        return f"The alias {self.target}"

    @cached_property
    def target(self) -> AliasTarget:
        """The address of the alias, once its templates are rendered."""
        from wandb_airflow_provider.registry import ProjectAlias, RegistryAlias

        if self.registry is not None:
            return RegistryAlias(self.registry, self.collection, self.alias)
        return ProjectAlias(self.entity, str(self.project), self.collection, self.alias)

    @property
    def wish(self) -> AliasWish:
        """What ends the waiting."""
        from wandb_airflow_provider.waiting.alias import AliasWish

        return AliasWish(self.until, self.digest, self.not_version, self.tag, self.metadata, self.missing)

    @property
    def strict(self) -> bool:
        """Whether a registry or collection that does not exist fails the waiting; a watcher never fails."""
        return self.mode == "wait" and super().strict

    @property
    def every_read(self) -> bool:
        """A watcher compares each read with what a webhook may have reported."""
        return self.mode == "watch"

    def _place(self) -> tuple[str | None, ...]:
        from wandb_airflow_provider.registry import RegistryAlias

        if isinstance(self.target, RegistryAlias):
            return ("registry", self.target.registry)
        return ("project", self.target.entity, self.target.project)

    def awaited(self) -> AliasTarget:
        """Return the address of the alias."""
        return self.target

    def reader(self) -> WandbReader:
        """Return a reader for the aliases of this registry or project."""
        from wandb_airflow_provider.registry import RegistryAlias
        from wandb_airflow_provider.triggers.alias_reader import ProjectAliasReader, RegistryAliasReader

        if isinstance(self.target, RegistryAlias):
            return RegistryAliasReader(self.wandb_conn_id, self.target.registry)
        return ProjectAliasReader(self.wandb_conn_id)

    def judge(self, observed: Observation) -> Decision:
        """Return what a read of the alias means; the first one tells what ``moved`` differs from."""
        from wandb_airflow_provider.waiting.alias import Holder

        if self.since is None:
            self.since = dict(Holder.of(observed).to_json())
        return self.wish.judge(self.target, observed, self._holder_before())

    def _holder_before(self) -> Holder | None:
        from wandb_airflow_provider.waiting.alias import Holder

        return Holder.from_json(self.since)

    async def _events(
        self, news: AsyncGenerator[News, None], poll: Poll, member: Membership
    ) -> AsyncGenerator[TriggerEvent, None]:
        events = (
            self._watch(news, poll, member) if self.mode == "watch" else super()._events(news, poll, member)
        )
        async with aclosing(events):
            async for event in events:
                yield event

    async def _refused(self, error: WandbError) -> TriggerEvent:
        if self.mode == "watch":
            # A watcher that ends is started again by Airflow every 5 seconds; Airflow ends it when its DAG changes.
            self.log.error("Nothing is watched until the DAG is corrected: %s", error)
            await asyncio.get_running_loop().create_future()
        return await super()._refused(error)

    async def _watch(
        self, news: AsyncGenerator[News, None], poll: Poll, member: Membership
    ) -> AsyncGenerator[TriggerEvent, None]:
        from wandb_airflow_provider.triggers.alias_memory import AliasMemory

        with closing(AliasMemory(self.asset_state_store, self.target)) as memory:
            seen: Seen | None = None
            missing: str | None = None
            async for read, observed in news:
                self._log_outage(observed)
                if observed.error is not None:
                    continue
                if observed.missing not in (None, missing):
                    self.log.warning("%s is watched, and cannot change now: %s", self, observed.missing)
                missing = observed.missing
                try:
                    after, change, own = await self._compare(memory, seen, observed, poll)
                except Exception:
                    # A watcher that fails is started again by Airflow every 5 seconds, without back-off.
                    self.log.exception(
                        "%s could not be compared with what was last reported; trying again", self
                    )
                    continue
                if change is not None:
                    yield event_of(change.to_json())
                # With each read until it is stored: a try may fail, or be dropped because another trigger's did.
                if own and after is not None and memory.is_to_keep(after):
                    poll.when_persisted(member, read, partial(memory.keep, after))
                seen = after

    async def _compare(
        self, memory: AliasMemory, seen: Seen | None, observed: Observation, poll: Poll
    ) -> tuple[Seen | None, AliasChange | None, bool]:
        """Return what is reported now, the change to report, and whether that is this watcher's finding."""
        from wandb_airflow_provider.watching.change import observe_change

        if not memory.recalled:
            seen = await memory.recall()
            if not memory.recalled:
                return seen, None, False
        # An observation may be older than what a webhook has reported: then the next one tells.
        if (reported := await memory.reported_elsewhere(seen)) is not None:
            return reported, None, False
        ref = observed.ref
        after, change = observe_change(self.target, seen, ref, first=self.first)
        if change is not None:
            if ref is not None:
                # Before the claim, because it may take minutes, and whoever claims a change reports it at once.
                change = change._replace(ref=await self.complete(ref, poll))
            if (reported := await memory.claim(change, seen)) is not None:
                return reported, None, False
        return after, change, True
