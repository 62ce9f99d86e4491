"""
Downloads of artifact files by path, with an API key.

Clients use them where no signed URL is at hand, as for a single file. The digest in the path is what is served;
it must belong to a version that the account may read where the path says.
"""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from wandb_airflow_provider.devserver.artifacts import expiry, roles
from wandb_airflow_provider.devserver.blobs import BlobResponse, hex_to_base64
from wandb_airflow_provider.devserver.endpoint import answering, backend_of, request_context
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError

_FILES = (
    "SELECT DISTINCT p.* FROM projects p JOIN artifact_collections c ON c.project_id = p.internal_id"
    " JOIN artifact_memberships m ON m.collection_id = c.id JOIN artifact_entries e ON e.artifact_id = m.artifact_id"
    " WHERE e.ref IS NULL AND e.digest = ? AND p.entity = ?"
)


async def _in_collection(request: Request) -> Response:
    path = request.path_params
    # The ids before the digest are base64, which may contain slashes: only the end of the path is certain.
    rest: list[str] = path["rest"].split("/")
    md5 = rest[-2] if len(rest) > 1 else ""
    condition = " AND p.name = ? AND c.name = ?"
    return await run_in_threadpool(_serve, request, md5, condition, (path["project"], path["collection"]))


async def _in_entity(request: Request) -> Response:
    return await run_in_threadpool(_serve, request, request.path_params["md5"], "", ())


def _serve(request: Request, md5: str, condition: str, params: tuple[str, ...]) -> Response:
    ctx = request_context(request)
    expiry.delete_expired(ctx)
    entity = request.path_params["entity"]
    found = False
    try:
        digest = hex_to_base64(md5)
    except ValueError as error:
        raise GraphQLError(f"{md5!r} is not an MD5 in hex.") from error
    if ctx.user.may_read(entity):
        with ctx.store.read() as conn:
            rows = conn.execute(_FILES + condition, (digest, entity, *params))
            found = any(roles.may_download(ctx, conn, row) for row in rows.fetchall())
    if not found or not ctx.blobs.exists(md5):
        raise GraphQLError(f"no artifact file with MD5 {md5!r} in {'/'.join((entity, *params))!r}.", 404)
    return BlobResponse(backend_of(request).blobs.path(md5), media_type="application/octet-stream")


routes: list[BaseRoute] = [
    Route("/artifactsV2/{region}/{entity}/{project}/{collection}/{rest:path}", answering(_in_collection)),
    Route("/artifacts/{entity}/{md5}", answering(_in_entity)),
]
