"""
Run one command as if on a machine of its own: ``python machine.py [options] -- COMMAND...``.

With ``--name`` it has that host name and a network of its own, in which there is nothing but loopback, and on that
only the ports of ``--relay``, which lead to the same ports of this machine's loopback. With ``--not-as-root`` it
believes that it is somebody else than root, as PostgreSQL demands. Both need what Linux calls namespaces; ``--probe``
exits with 0 when they are there. Where they are not, ``--as-nobody`` is that user, who has to own the work folder.
Standard library only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence

LOOPBACK = "127.0.0.1"
_NEW_USER, _NEW_NETWORK, _NEW_NAMES = 0x10000000, 0x40000000, 0x04000000
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 0x1
_CHUNK = 1 << 16
_SOMEBODY = 1000
NOBODY = 65534


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--name")
    parser.add_argument("--relay", type=int, action="append", default=[])
    parser.add_argument("--not-as-root", action="store_true")
    parser.add_argument("--as-nobody", action="store_true")
    parser.add_argument("--probe", choices=["network", "user"])
    parser.add_argument("command", nargs="*")
    options = parser.parse_args(argv)
    if options.probe:
        return _probe(options.probe)
    if options.not_as_root:
        _become(_SOMEBODY)
    if options.as_nobody:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    if options.name is None:
        os.execvp(options.command[0], options.command)
    return _isolated(options.name, options.relay, options.command)


def _probe(kind: str) -> int:
    try:
        if kind == "network":
            _leave_network("probe")
        else:
            _become(_SOMEBODY)
    except OSError as error:
        print(f"a process can have no {kind} of its own: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def _isolated(name: str, ports: Sequence[int], command: Sequence[str]) -> int:
    """Start the command in a network of its own, carry its connections, and return its exit code."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _leave_network(name)
        listening = [_listen(port) for port in ports]
        socket.send_fds(theirs, [b"x"], [each.fileno() for each in listening])
        theirs.close()
        for each in listening:
            each.close()
        os.execvp(command[0], list(command))
    theirs.close()
    _, fds, _, _ = socket.recv_fds(ours, 1, len(ports))
    ours.close()
    # A request to end is for the command; this process ends when the command has.
    signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
    return asyncio.run(_carry([socket.socket(fileno=fd) for fd in fds], ports, pid))


def _leave_network(name: str) -> None:
    uid, gid = os.geteuid(), os.getegid()
    try:
        _unshare(_NEW_NETWORK | _NEW_NAMES)
    except PermissionError:  # as another user than root
        _unshare(_NEW_USER | _NEW_NETWORK | _NEW_NAMES)
        _map_ids(uid, uid, gid, gid)
    socket.sethostname(name)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(any_socket, _GET_FLAGS, request), 16)
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh14x", b"lo", flags | _UP))


def _become(somebody: int) -> None:
    uid, gid = os.geteuid(), os.getegid()
    if uid != 0:
        return
    _unshare(_NEW_USER)
    _map_ids(somebody, uid, somebody, gid)


def _map_ids(uid: int, real_uid: int, gid: int, real_gid: int) -> None:
    for file, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {real_uid} 1"),
        ("gid_map", f"{gid} {real_gid} 1"),
    ):
        with open(f"/proc/self/{file}", "w", encoding="ascii") as target:
            target.write(text)


def available(kind: str) -> bool:
    """Whether a process can have a ``network`` or a ``user`` of its own here."""
    probe = [sys.executable, "-I", __file__, "--probe", kind]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def _unshare(flags: int) -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(flags):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def _listen(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.bind((LOOPBACK, port))
    listening.listen(128)
    return listening


async def _carry(listening: Sequence[socket.socket], ports: Sequence[int], pid: int) -> int:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, ended.set)
    servers = [
        await asyncio.start_server(_relay_to(port), sock=sock)
        for sock, port in zip(listening, ports, strict=True)
    ]
    while not (status := os.waitpid(pid, os.WNOHANG))[0]:  # noqa: ASYNC222 - does not wait
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), 1.0)
        ended.clear()
    for server in servers:
        server.close()
    code = os.waitstatus_to_exitcode(status[1])
    # Connections that are still open end with this process.
    os._exit(code if code >= 0 else 128 - code)


def _relay_to(port: int):  # type: ignore[no-untyped-def]
    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection(LOOPBACK, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, there_writer), _copy(there_reader, writer))
        for each in (writer, there_writer):
            each.close()

    return relay


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, OSError):
        while data := await source.read(_CHUNK):
            target.write(data)
            await target.drain()
    with contextlib.suppress(ConnectionError, OSError, RuntimeError):
        if target.can_write_eof():
            target.write_eof()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
