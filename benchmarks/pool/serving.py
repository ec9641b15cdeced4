"""A web server on this machine that gives ranges of a folder's files, late or badly if asked to.

    python benchmarks/pool/serving.py FOLDER --latency-ms 20

It stands in for object storage where a rate is measured, and for one that fails in tests. What was
asked for is counted: in `FolderServer` itself, or, from another process, at ``/-/counts``.
"""

from __future__ import annotations

import argparse
import contextlib
import email.utils
import http.server
import json
import multiprocessing
import re
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_PIECE = 1 << 20
_LONGEST_S = 10.0  # nothing waits longer, so that a failing test ends


class FolderServer:
    """Serves a folder on 127.0.0.1 while entered.

    Args:
        folder: What is served.
        latency_s: How long each answer to a GET waits before it begins.
        ranges: Whether "Range" is understood; if not, every answer is the whole file.
        etags: Whether answers carry an ETag.
        lengths: Whether answers say how long the file is.

    Attributes:
        url: Where it listens.
        asked: (method, path, range header) of each request, in the order of arrival.
        faults: Path → what the next GETs of it meet, one each: a status (503), "cut" (the
            connection ends in the middle), "short" (half of what was asked for, as if that were
            all), "silent" (no answer).
        gather: A GET waits until so many are open at the same time.
        most_open: The largest number of GETs that were open at the same time.
        sent: Bytes of bodies sent.
    """

    def __init__(
        self,
        folder: Path,
        *,
        latency_s: float = 0.0,
        ranges: bool = True,
        etags: bool = True,
        lengths: bool = True,
    ) -> None:
        self.folder = Path(folder)
        self.latency_s = latency_s
        self.ranges, self.etags, self.lengths = ranges, etags, lengths
        self.asked: list[tuple[str, str, str]] = []
        self.faults: dict[str, list[int | str]] = {}
        self.gather = 1
        self.most_open = 0
        self.sent = 0
        self.open = 0
        self.change = threading.Condition()
        self.closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"of": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def count(self, path: str) -> int:
        """Return how many GETs of a path have arrived."""
        return sum(method == "GET" and what == path for method, what, _ in self.asked)

    def counts(self) -> dict[str, int]:
        """Return requests and bytes of bodies so far."""
        return {"requests": len(self.asked), "bytes": self.sent, "most_open": self.most_open}

    def forget(self) -> None:
        """Count anew."""
        self.asked.clear()
        self.sent = self.most_open = 0

    def __enter__(self) -> FolderServer:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 512
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that goes away is no news


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections stay
    of: FolderServer

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_HEAD(self) -> None:
        self._note()
        self._answer(self._file(), with_body=False)

    def do_GET(self) -> None:
        path = urllib.parse.urlsplit(self.path).path
        if path.startswith("/-/"):
            self._tell(path)
            return
        server = self.of
        self._note()
        with server.change:
            server.open += 1
            server.most_open = max(server.most_open, server.open)
            server.change.notify_all()
            server.change.wait_for(lambda: server.most_open >= server.gather, _LONGEST_S)
        try:
            server.closing.wait(server.latency_s)
            self._answer(self._file(), with_body=True)
        finally:
            with server.change:
                server.open -= 1

    def _note(self) -> None:
        path = urllib.parse.urlsplit(self.path).path
        self.of.asked.append((self.command, path, self.headers.get("Range", "")))

    def _file(self) -> Path:
        return self.of.folder / urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)[1:]

    def _tell(self, path: str) -> None:
        if path == "/-/forget":
            self.of.forget()
        body = json.dumps(self.of.counts()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _answer(self, file: Path, with_body: bool) -> None:
        server = self.of
        waiting = server.faults.get(urllib.parse.urlsplit(self.path).path, [])
        fault = waiting.pop(0) if waiting and with_body else None
        if fault == "silent":
            server.closing.wait(_LONGEST_S)
            self.close_connection = True
            return
        status = fault if isinstance(fault, int) else 200 if file.is_file() else 404
        if status != 200:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        size = file.stat().st_size
        start, end = 0, size
        asked = _RANGE.match(self.headers.get("Range", "")) if server.ranges else None
        if asked:
            start, end = int(asked[1]), min(size, int(asked[2] or size - 1) + 1)
            status = 206 if start < end else 416
        if fault == "short":
            end = (start + end) // 2
        self.send_response(status)
        stat = file.stat()
        if server.etags:
            self.send_header("ETag", f'"{stat.st_mtime_ns:x}-{size:x}"')
        self.send_header("Last-Modified", email.utils.formatdate(stat.st_mtime, usegmt=True))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        if server.lengths:
            self.send_header("Content-Length", str(max(0, end - start)))
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        if with_body and status != 416:
            self._send(file, start, (start + end) // 2 if fault == "cut" else end)
        if fault == "cut" or not server.lengths:
            self.close_connection = True

    def _send(self, file: Path, start: int, end: int) -> None:
        with file.open("rb") as data:
            data.seek(start)
            while start < end:
                part = data.read(min(_PIECE, end - start))
                start += len(part)
                with self.of.change:  # before, so that who has the bytes finds them counted
                    self.of.sent += len(part)
                self.wfile.write(part)

    def log_message(self, *_: Any) -> None:
        pass


class ServingProcess:
    """A server in a process of its own, as seen from this one.

    Attributes:
        url: Where it listens.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def counts(self) -> dict[str, int]:
        """See `FolderServer.counts`."""
        return self._ask("counts")

    def forget(self) -> None:
        """See `FolderServer.forget`."""
        self._ask("forget")

    def _ask(self, what: str) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.url}/-/{what}", timeout=_LONGEST_S) as answer:
            counts: dict[str, int] = json.load(answer)
            return counts


@contextlib.contextmanager
def serving(kind: Any, folder: Path, latency_s: float) -> Iterator[ServingProcess]:
    """Run a `FolderServer`, or the like, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(kind, folder, latency_s, there), daemon=True)
    process.start()
    there.close()
    try:
        yield ServingProcess(here.recv())
    finally:
        process.terminate()
        process.join()


def _serve(kind: Any, folder: Path, latency_s: float, connection: Any) -> None:
    with kind(folder, latency_s=latency_s) as server:
        connection.send(server.url)
        threading.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    options = parser.parse_args()
    with FolderServer(options.folder, latency_s=options.latency_ms / 1000) as server:
        print(server.url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
