"""What is answered where there is nothing: a page with a sentence for people."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from wandb_airflow_provider.devserver.pages.templating import render


class PageNotFoundError(HTTPException):
    """
    There is no such page.

    :param sentence: What is missing, for the person who looks for it.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(status_code=404, detail=sentence)


def is_for_people(request: Request, error: Exception) -> bool:
    """
    Tell whether a person gets the answer.

    A browser asks for HTML; it sends a key only where the pages need one. The SDK sends its key with each request.
    """
    if request.method not in ("GET", "HEAD"):
        return False
    if "text/html" in request.headers.get("accept", ""):
        return True
    return isinstance(error, PageNotFoundError) and "authorization" not in request.headers


def not_found(request: Request, error: Exception) -> Response:
    """Return the page that says what is missing."""
    sentence = error.detail if isinstance(error, PageNotFoundError) else f"Nothing is at {request.url.path}."
    return render(request, "not_found.html", status=404, sentence=sentence)
