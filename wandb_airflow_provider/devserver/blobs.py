"""Files, stored once per content under their MD5, written and read in pieces."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import shutil
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

CHUNK_BYTES = 1 << 20
_MOST_PIECES = 4


@dataclass(frozen=True)
class Blob:
    """Stored bytes: hex MD5 and size."""

    md5: str
    size: int

    @property
    def md5_base64(self) -> str:
        """The digest as artifact manifests write it."""
        return hex_to_base64(self.md5)


def hex_to_base64(md5: str) -> str:
    """Return a hex digest in base64."""
    return base64.b64encode(bytes.fromhex(md5)).decode()


def base64_to_hex(md5: str) -> str:
    """Return a base64 digest in hex."""
    return base64.b64decode(md5).hex()


class BlobResponse(FileResponse):
    """
    A stored file, or a range of it.

    Changes of threads are what sending a file costs here: a small one is sent without any. Pieces of others are not so
    large that a hundred downloads at a time fill the memory.
    """

    chunk_size = 256 << 10

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        size = os.stat(self.path).st_size
        if size > self.chunk_size or any(name == b"range" for name, _ in scope["headers"]):
            await super().__call__(scope, receive, send)
            return
        with open(self.path, "rb") as file:  # noqa: ASYNC230 - takes less than the change to a thread
            content = file.read()
        await Response(content, media_type=self.media_type)(scope, receive, send)


class BlobStore:
    """
    Content-addressed files in a folder.

    :param root: The folder, which nobody else uses; created if it does not exist. Leftovers of writes cut off by a kill
        are removed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._incoming = root / "incoming"
        shutil.rmtree(self._incoming, ignore_errors=True)
        self._incoming.mkdir(parents=True)

    def writer(self) -> BlobWriter:
        """Return a writer; call ``write`` with pieces, then ``finish``."""
        return BlobWriter(self, self._incoming)

    def put(self, data: bytes) -> Blob:
        """Store bytes that are already in memory."""
        with self.writer() as writer:
            writer.write(data)
            return writer.finish()

    def path(self, md5: str) -> Path:
        """Return where the content with this hex MD5 is or would be."""
        if len(md5) != 32 or not all(char in "0123456789abcdef" for char in md5):
            raise ValueError(f"not a hex MD5: {md5!r}")
        return self.root / md5[:2] / md5[2:]

    def exists(self, md5: str) -> bool:
        """Tell whether content with this hex MD5 is stored."""
        return self.path(md5).is_file()

    def holds(self, blob: Blob) -> bool:
        """Tell whether a blob is stored in its full size; a machine that lost its power may have kept less of it."""
        try:
            return self.path(blob.md5).stat().st_size == blob.size
        except FileNotFoundError:
            return False

    def read(self, md5: str) -> bytes:
        """Return all bytes; only for content known to be small. Raises FileNotFoundError."""
        return self.path(md5).read_bytes()

    @contextmanager
    def chunks(self, md5: str) -> Iterator[Iterator[bytes]]:
        """Yield an iterator over pieces of at most ``CHUNK_BYTES``. Raises FileNotFoundError."""
        with self.path(md5).open("rb") as file:
            yield iter(lambda: file.read(CHUNK_BYTES), b"")

    def clear(self) -> None:
        """Delete all content."""
        for entry in self.root.iterdir():
            shutil.rmtree(entry)
        self._incoming.mkdir()


class BlobWriter:
    """Writes one blob; used as a context manager, so that an unfinished file is removed."""

    def __init__(self, store: BlobStore, folder: Path) -> None:
        self._store = store
        self._hash = hashlib.md5(usedforsecurity=False)
        self._size = 0
        self._finished = False
        descriptor, self._name = tempfile.mkstemp(dir=folder)
        self._file = os.fdopen(descriptor, "wb")

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    @property
    def md5(self) -> str:
        """The hex MD5 of what was written so far."""
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        """Append a piece."""
        self._hash.update(data)
        self._size += len(data)
        self._file.write(data)

    async def receive(self, pieces: AsyncIterator[bytes]) -> None:
        """
        Append pieces as they arrive; threads hash and write one batch while the next one is received.

        At most two batches are in memory.
        """
        batch: list[bytes] = []
        size = 0
        storing: asyncio.Future[Any] | None = None
        try:
            async for piece in pieces:
                batch.append(piece)
                size += len(piece)
                if size >= CHUNK_BYTES:
                    if storing is not None:
                        await storing
                    storing = self._store_in_threads(batch)
                    self._size += size
                    batch, size = [], 0
        finally:
            # Whoever discards the file after a cut connection must not close it under the threads.
            if storing is not None and not storing.done():
                await asyncio.wait([storing])
        if storing is not None:
            storing.result()
        for piece in batch:
            self.write(piece)

    def fill(self, read: Callable[[memoryview], None], size: int, hashing: Executor) -> None:
        """
        Append a number of bytes; one thread hashes them while this one reads and writes further ones.

        At most four pieces are in memory.

        :param read: Fills a buffer, however long that takes.
        """
        pending: deque[tuple[Future[None], bytearray]] = deque()
        while size:
            if len(pending) < _MOST_PIECES:
                piece = bytearray(CHUNK_BYTES)
            else:
                hashed, piece = pending.popleft()
                hashed.result()
            part = memoryview(piece)[:size]
            read(part)
            pending.append((hashing.submit(self._hash.update, part), piece))
            self._file.write(part)
            self._size += len(part)
            size -= len(part)
        for hashed, _ in pending:
            hashed.result()

    def _store_in_threads(self, batch: list[bytes]) -> asyncio.Future[Any]:
        def update_hash() -> None:
            for piece in batch:
                self._hash.update(piece)

        return asyncio.gather(asyncio.to_thread(update_hash), asyncio.to_thread(self._file.writelines, batch))

    def finish(self) -> Blob:
        """Move the file to its address and return it; takes a while if it is large and was stored before."""
        self._file.close()
        blob = Blob(self._hash.hexdigest(), self._size)
        target = self._store.path(blob.md5)
        if self._store.holds(blob):
            # A rename onto a file makes a file system write the new one to the disk first.
            os.unlink(self._name)
        else:
            target.parent.mkdir(exist_ok=True)
            os.replace(self._name, target)
        self._finished = True
        return blob

    def discard(self) -> None:
        """Remove the file if it was not finished."""
        self._file.close()
        if not self._finished:
            # A server that stops does not wait for the thread that may just have moved it.
            Path(self._name).unlink(missing_ok=True)
