"""Ports on the loopback interface."""

from __future__ import annotations

import random
import socket

from wandb_airflow_provider.demo.errors import DemoError

__all__ = ["LOOPBACK", "claim_port"]

LOOPBACK = "127.0.0.1"
_FREE = range(10_240, 32_768)
_TRIES = 100


def claim_port(wanted: int, *, purpose: str, option: str) -> int:
    """
    Return a port that nothing listens on.

    :param wanted: The port asked for; 0 for any free one.
    :param purpose: What the port is for, as the error says it.
    :param option: The command line option that chooses another one.
    :raises DemoError: the port asked for is taken, or not allowed.
    """
    # Not from those that the system gives to every connection: one could be taken before the server begins to listen.
    candidates = [wanted] if wanted else random.sample(_FREE, _TRIES)
    for port in candidates:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            # As servers do; otherwise a port whose last connection has just closed counts as taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError as error:
                found = error.strerror
                continue
            return port
    raise DemoError(
        f"Port {wanted or f'{_FREE.start} to {_FREE.stop}'} on {LOOPBACK} cannot be used for {purpose} ({found}). "
        f"Choose another with {option}, or leave the option out to have a free one found."
    )
