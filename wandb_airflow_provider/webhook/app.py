"""The endpoint of Airflow's API server that W&B's automations post to."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Hashable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from wandb_airflow_provider import settings
from wandb_airflow_provider.capabilities import keeps_asset_state
from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbPermanentError
from wandb_airflow_provider.watching.notice import Notice, parse_payload
from wandb_airflow_provider.webhook.assets import WatchedAsset, find_assets, report
from wandb_airflow_provider.webhook.inbox import SPACING_SECONDS, Inbox, InboxFullError
from wandb_airflow_provider.webhook.reader import AliasReader
from wandb_airflow_provider.webhook.secrets import SecretsReader
from wandb_airflow_provider.webhook.signature import SIGNATURE_HEADER, is_bearer, is_signed

__all__ = ["PATH", "create_app"]

log = logging.getLogger(__name__)

PATH = "/webhook"
_BODY_SECONDS = 10.0
# Digits of a Content-Length that is worth reading as a number.
_LONGEST_LENGTH = 18
# W&B waits for the answer; what takes longer goes on without it.
_ANSWER_SECONDS = 5.0
_RETRY_AFTER_SECONDS = 10
_TOO_OLD = "webhooks need Airflow 3.3, which keeps what was last reported of an asset"


class _RefusedError(Exception):
    """A request is not taken. The reason is logged and told: it holds nothing secret."""

    def __init__(self, status: int, reason: str, *, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.retry_after = retry_after


class _Receiver:
    """What one API server process needs to receive webhooks."""

    def __init__(self) -> None:
        self.can_report = keeps_asset_state()
        self.secrets = SecretsReader()
        self.reader = AliasReader()
        self.inbox = Inbox(self._follow_up, settings.webhook_queue_size())
        self.looked_up: dict[Hashable, tuple[float, asyncio.Task[list[WatchedAsset]]]] = {}

    async def receive(self, request: Request) -> dict[str, object]:
        """
        Check a request and have what it says followed up.

        :raises _RefusedError: it is forged, malformed, too large, about nothing that is watched, or one too many.
        """
        if not self.can_report:
            raise _RefusedError(501, _TOO_OLD)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise _RefusedError(415, "the content type is not application/json")
        body = await _body(request, settings.webhook_max_bytes())
        await asyncio.to_thread(self._check_sender, request, body)
        notice = _notice(body)
        if not await self._is_watched(notice):
            raise _RefusedError(
                404,
                f"no DAG that is on is scheduled by an asset of the alias {notice}; wandb_alias_asset() makes one",
            )
        log.info("W&B reports %s of %s", notice.event or "a change", notice)
        waits = self.inbox.waits(notice)
        try:
            result = self.inbox.put(notice)
        except InboxFullError:
            raise _RefusedError(
                503, "as many webhooks wait as may wait", retry_after=_RETRY_AFTER_SECONDS
            ) from None
        # However often it is sent again, one request for an alias waits for what comes of it.
        return {"status": "queued" if waits else await _outcome(result), "alias": str(notice)}

    def close(self) -> None:
        self.inbox.close()
        self.reader.close()

    def _check_sender(self, request: Request, body: bytes) -> None:
        conn_id = settings.webhook_conn_id()
        try:
            secrets = self.secrets.get(conn_id)
        except WandbConfigurationError as error:
            log.error("Webhooks cannot be checked, and are refused: %s", error)
            raise _RefusedError(503, "the receiver is not configured", retry_after=60) from error
        if not is_signed(body, request.headers.get(SIGNATURE_HEADER), secrets.signing):
            raise _RefusedError(401, f"the header {SIGNATURE_HEADER} is missing or does not fit the body")
        token = secrets.access_token
        if token is not None and not is_bearer(request.headers.get("authorization"), token):
            raise _RefusedError(401, "the Bearer token is missing or wrong")

    async def _is_watched(self, notice: Notice) -> bool:
        """Return whether a DAG that is on is scheduled by the alias; the database is asked once a second."""
        now = time.monotonic()
        self.looked_up = {
            key: kept for key, kept in self.looked_up.items() if now < kept[0] + SPACING_SECONDS
        }
        key = notice.key
        if key not in self.looked_up:
            self.looked_up[key] = now, asyncio.create_task(asyncio.to_thread(find_assets, notice))
        try:
            return bool(await asyncio.shield(self.looked_up[key][1]))
        except Exception:
            # What failed may succeed at once.
            self.looked_up.pop(key, None)
            raise

    def _follow_up(self, notice: Notice) -> str:
        outcomes = []
        failures: list[Exception] = []
        for asset in find_assets(notice):
            read = partial(self.reader.read, asset.wandb_conn_id, asset.target.to_json())
            try:
                outcome = report(asset, read, actor=notice.actor)
            except Exception as error:
                # Each asset may have a connection of its own: what is wrong with one hides no other.
                failures.append(error)
                continue
            log.info("The webhook about %s: %s is %s", notice, asset.uri, outcome.replace("_", " "))
            outcomes.append(outcome)
        if failures:
            # What another attempt may help goes first; what is reported by now is not reported again then.
            first, *others = sorted(failures, key=lambda error: isinstance(error, WandbPermanentError))
            for other in others:
                log.warning("The webhook about %s cannot be followed up: %s", notice, other)
            raise first
        # One webhook may be about several assets: what is new about any of them is what counts.
        order = ("reported", "left_to_poller", "already_reported")
        return next((outcome for outcome in order if outcome in outcomes), "already_reported")


def create_app() -> FastAPI:
    """
    Return the application that Airflow mounts: ``POST <prefix>/webhook``.

    It answers 200 with what came of the webhook, or 202 when that takes longer or one about the same alias waits
    already; neither is to be sent again. 503 and 500 are worth another attempt. Every other answer says what is wrong
    with the request.
    """
    receiver = _Receiver()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if not receiver.can_report:
            log.error("Webhooks are refused: %s. Polling goes on.", _TOO_OLD)
            yield
            return
        warming = asyncio.create_task(asyncio.to_thread(receiver.reader.warm_up))
        try:
            yield
        finally:
            await asyncio.to_thread(receiver.close)
            await asyncio.wait([warming])

    app = FastAPI(title="W&B webhooks", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)

    @app.post(PATH)
    async def receive(request: Request) -> JSONResponse:
        try:
            answer = await receiver.receive(request)
        except _RefusedError as refused:
            client = request.client.host if request.client else "unknown"
            log.warning("Webhook from %s refused with %d: %s", client, refused.status, refused)
            headers = {"Retry-After": str(refused.retry_after)} if refused.retry_after else None
            return JSONResponse({"detail": str(refused)}, refused.status, headers)
        except Exception as error:
            log.error("A webhook could not be received: %s: %s", type(error).__name__, error)
            return JSONResponse({"detail": "the receiver failed; its log says why"}, 500)
        return JSONResponse(answer, 202 if answer["status"] == "queued" else 200)

    return app


async def _body(request: Request, limit: int) -> bytes:
    """Return the body, of which no more than the limit is ever held."""
    too_large = _RefusedError(413, f"the body is larger than {limit} bytes")
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or len(declared) > _LONGEST_LENGTH or int(declared) > limit:
        raise too_large
    found = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                found += chunk
                if len(found) > limit:
                    raise too_large
    except TimeoutError:
        raise _RefusedError(408, f"the body did not arrive within {_BODY_SECONDS:.0f} s") from None
    return bytes(found)


def _notice(body: bytes) -> Notice:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise _RefusedError(400, "the body is not JSON") from None
    try:
        return parse_payload(value)
    except WandbConfigurationError as error:
        raise _RefusedError(422, str(error)) from None


async def _outcome(result: Future[str]) -> str:
    try:
        return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(result)), _ANSWER_SECONDS)
    except TimeoutError:
        return "queued"
