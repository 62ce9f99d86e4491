"""
A plain HTTP file server to compare with: Python's own ``http.server``, and ``PUT``.

``python plain_server.py FOLDER`` prints its port, and serves and stores the files of the folder until it is ended.
"""

from __future__ import annotations

import functools
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PIECE_BYTES = 1 << 20


class _Handler(SimpleHTTPRequestHandler):
    def do_PUT(self) -> None:
        """Store the body; as plain as ``GET``, which copies from the file to the connection."""
        left = int(self.headers["Content-Length"])
        with open(self.translate_path(self.path), "wb") as file:
            while left:
                piece = self.rfile.read(min(left, PIECE_BYTES))
                if not piece:
                    break
                file.write(piece)
                left -= len(piece)
        self.send_response(400 if left else 201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Write nothing."""


def main() -> None:
    """Serve until the process is ended."""
    folder = Path(sys.argv[1])
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=str(folder))) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
