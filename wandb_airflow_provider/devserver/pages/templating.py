"""Templates, and the headers that keep a page from loading or running anything that is not its own."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import HTMLResponse

from wandb_airflow_provider.devserver.endpoint import backend_of
from wandb_airflow_provider.devserver.json_text import encodable
from wandb_airflow_provider.devserver.pages import addresses, formats, markdown, values

if TYPE_CHECKING:
    from jinja2 import Environment

# Plotly sets style attributes; it needs neither eval nor a connection for line charts.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
        " frame-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def render(request: Request, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """Return a page; its template also gets ``now``, the time by the server's clock."""
    text = _environment().get_template(template).render(now=backend_of(request).now(), **context)
    # What was logged may hold halves of surrogate pairs, which no encoding has.
    return HTMLResponse(encodable(text), status_code=status, headers=_HEADERS)


@cache
def _environment() -> Environment:
    # Whoever embeds the server without looking at its pages does not pay for the template engine.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("wandb_airflow_provider.devserver.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        ago=formats.ago,
        duration=formats.duration,
        moment=formats.moment,
        iso=formats.iso,
        number=formats.number,
        size=formats.size,
        compact=formats.compact,
        tone=formats.tone,
        short_digest=formats.short_digest,
        ordered=values.ordered,
        is_web_address=formats.is_web_address,
        markdown=markdown.to_html,
    )
    environment.globals["url"] = addresses
    return environment
