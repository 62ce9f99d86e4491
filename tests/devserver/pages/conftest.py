"""One server for all tests of pages, filled once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import httpx
import pytest
import wandb

from tests.devserver.pages.ledger import fill
from tests.devserver.pages.showcase import Clock, Site
from wandb_airflow_provider.devserver import DevServer


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("pages")
    clock = Clock(datetime(2026, 11, 15, 0, 0, 4, tzinfo=UTC))
    (folder / "runs").mkdir()
    with (
        pytest.MonkeyPatch.context() as patch,
        DevServer(folder / "data", seed="pages", now=clock) as server,
        httpx.Client(base_url=server.url, timeout=30, verify=False) as client,
    ):
        patch.setenv("WANDB_CACHE_DIR", str(folder / "cache"))
        written = Site(server, clock, folder / "runs", client)
        fill(written)
        yield written
        assert server.unknown_operations() == {}


@pytest.fixture(scope="session")
def public_api(site: Site) -> Callable[[], wandb.Api]:
    return lambda: wandb.Api(overrides={"base_url": site.server.url}, api_key=site.server.api_key)
