"""Ports on the loopback interface."""

from __future__ import annotations

import socket

from wandb_airflow_provider.demo.errors import DemoError

__all__ = ["LOOPBACK", "claim_port"]

LOOPBACK = "127.0.0.1"


def claim_port(wanted: int, *, purpose: str, option: str) -> int:
    """
    Return a port that nothing listens on.

    :param wanted: The port asked for; 0 for any free one.
    :param purpose: What the port is for, as the error says it.
    :param option: The command line option that chooses another one.
    :raises DemoError: the port asked for is taken, or not allowed.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do; otherwise a port whose last connection has just closed counts as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, wanted))
        except OSError as error:
            raise DemoError(
                f"Port {wanted} on {LOOPBACK} cannot be used for {purpose} ({error.strerror}). "
                f"Choose another with {option}, or leave the option out to have a free one found."
            ) from error
        port: int = probe.getsockname()[1]
        return port
