"""What goes wrong on purpose: answers that come late, are errors, or break off."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import Any, Literal

Kind = Literal["delay", "fail", "cut"]


@dataclass
class Fault:
    """
    What shall happen to the next requests that fit.

    :param op: Name of a GraphQL operation, or None for any request.
    :param path: Pattern for the path, in which ``*`` also stands for slashes, or None for any.
    :param method: HTTP method, or None for any.
    :param left: How many requests it will still meet; None for every one until it is removed.
    :param met: How many requests it has met.
    :param seconds: How long a delayed answer waits, in real time also while the server's clock stands.
    :param status: The status of a failed answer.
    :param message: Its error text.
    :param retry_after: Its ``Retry-After`` in seconds, or None for no such header.
    :param after_bytes: After how many bytes of the body a cut answer ends; None if not even its status is sent.
    """

    kind: Kind
    op: str | None
    path: str | None
    method: str | None
    left: int | None
    met: int = 0
    seconds: float = 0.0
    status: int = 0
    message: str = ""
    retry_after: float | None = None
    after_bytes: int | None = None

    def fits(self, operation: str, method: str, path: str) -> bool:
        """Tell whether a request is meant."""
        return (
            (self.op is None or self.op == operation)
            and (self.path is None or fnmatchcase(path, self.path))
            and (self.method is None or self.method == method)
        )

    def as_json(self) -> dict[str, Any]:
        """Return the fault as JSON values, without the parts that other kinds have."""
        own = {
            "delay": ("seconds",),
            "fail": ("status", "message", "retry_after"),
            "cut": ("after_bytes",),
        }
        keys = ("kind", "op", "path", "method", "left", "met", *own[self.kind])
        return {key: value for key, value in asdict(self).items() if key in keys}


class Faults:
    """
    The faults waiting for requests.

    A request meets at most one: the first added of those that fit it. Faults that have met their last request
    are gone. Where neither ``op`` nor ``path`` nor ``method`` is given, every request of a client fits; pages and
    controls never do.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def delay(
        self,
        seconds: float,
        *,
        op: str | None = None,
        path: str | None = None,
        method: str | None = None,
        times: int | None = 1,
    ) -> Fault:
        """
        Answer the next fitting requests some seconds late.

        :param times: How many; None for every one until :meth:`clear`.
        """
        if not 0 <= seconds <= 3600:
            raise ValueError(f"seconds must be from 0 to 3600, not {seconds!r}")
        return self._add(Fault("delay", op, path, method, times, seconds=seconds))

    def fail(
        self,
        status: int = 500,
        *,
        op: str | None = None,
        path: str | None = None,
        method: str | None = None,
        times: int | None = 1,
        message: str | None = None,
        retry_after: float | None = None,
    ) -> Fault:
        """
        Refuse the next fitting requests, which then change nothing.

        The wandb SDK gives up at 400, 401, 403 and 404, and repeats others for minutes.

        :param status: From 200 to 599. 200 is what a GraphQL error often comes with.
        :param message: The error text, in both shapes that clients read; by default the status in words.
        :param retry_after: Seconds to tell in a ``Retry-After`` header, a day at most.
        """
        if not 200 <= status <= 599 or status in (204, 304):
            raise ValueError(f"status must be one from 200 to 599 that has a body, not {status!r}")
        if retry_after is not None and not 0 <= retry_after <= 86_400:
            raise ValueError(f"retry_after must be from 0 to 86400, not {retry_after!r}")
        text = message or f"{status} {_phrase(status)}: the dev server was told to fail this request."
        return self._add(
            Fault("fail", op, path, method, times, status=status, message=text, retry_after=retry_after)
        )

    def cut(
        self,
        after_bytes: int | None = None,
        *,
        op: str | None = None,
        path: str | None = None,
        method: str | None = None,
        times: int | None = 1,
    ) -> Fault:
        """
        Close the connection within the answer to the next fitting requests, which have then done their work.

        :param after_bytes: How many bytes of the body are still sent; the last byte never is. None, or an answer
            without a body: nothing is sent at all, after which the wandb SDK asks again. Where a GraphQL answer breaks
            off it does not: the call fails.
        """
        if after_bytes is not None and after_bytes < 0:
            raise ValueError(f"after_bytes must be 0 or more, not {after_bytes!r}")
        return self._add(Fault("cut", op, path, method, times, after_bytes=after_bytes))

    def take(self, operation: str, method: str, path: str) -> Fault | None:
        """Return the fault that a request meets, and count it as met."""
        with self._lock:
            for position, fault in enumerate(self._waiting):
                if fault.fits(operation, method, path):
                    fault.met += 1
                    if fault.left is not None:
                        fault.left -= 1
                        if fault.left == 0:
                            del self._waiting[position]
                    return fault
        return None

    def waiting(self) -> list[Fault]:
        """Return the faults that have not met their last request, oldest first."""
        with self._lock:
            return list(self._waiting)

    def clear(self) -> None:
        """Remove all faults; answers that are being delayed stay so."""
        with self._lock:
            self._waiting.clear()

    def _add(self, fault: Fault) -> Fault:
        if fault.left is not None and fault.left < 1:
            raise ValueError(f"times must be 1 or more, or None for no limit, not {fault.left!r}")
        if fault.op is not None and fault.path is not None:
            raise ValueError("a fault is for a GraphQL operation (op) or for a path, not for both")
        fault.method = fault.method and fault.method.upper()
        with self._lock:
            self._waiting.append(fault)
        return fault


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
