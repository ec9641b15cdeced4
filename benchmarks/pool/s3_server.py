"""An S3 server on this machine (moto), late or badly if asked to; what it is asked is counted."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest import mock

import botocore.session
from moto.server import ThreadedMotoServer

_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"


def environment(url: str) -> dict[str, str]:
    """Return the variables that lead clients to a server on this machine."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


class S3Server:
    """Serves S3 while entered, and points the environment at itself.

    Args:
        folder: Its files are put into a bucket of its name; None: there is no bucket.
        latency_s: How long each answer waits before it begins.

    Attributes:
        url: Where it listens.
        asked: (method, path, range header) of each request.
        busy: So many of the next GETs are answered with "503 SlowDown".
        gather: A GET waits until so many are open at the same time, 10 s at most.
        most_open: The largest number of GETs that were open at the same time.
        sent: Bytes of the bodies of answers.
    """

    def __init__(self, folder: Path | None = None, *, latency_s: float = 0.0) -> None:
        self.folder = folder
        self.latency_s = latency_s
        self.asked: list[tuple[str, str, str]] = []
        self.busy = 0
        self.gather = 1
        self.open = self.most_open = 0
        self.sent = 0
        self.change = threading.Condition()

    def __enter__(self) -> S3Server:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it tells of each request
        self._moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._moto.start()
        self.url = "http://{}:{}".format(*self._moto.get_host_and_port())
        # All servers of a process share what they hold.
        reset = urllib.request.Request(f"{self.url}/moto-api/reset", method="POST")
        urllib.request.urlopen(reset, timeout=10).close()
        running: Any = self._moto._server
        self._app, running.app = running.app, self._answer
        self._environment = mock.patch.dict(os.environ, environment(self.url))
        self._environment.start()
        if self.folder is not None:
            client = botocore.session.get_session().create_client("s3")
            client.create_bucket(Bucket=self.folder.name)
            for path in sorted(self.folder.iterdir()):
                client.put_object(
                    Bucket=self.folder.name,
                    Key=path.name,
                    Body=path.read_bytes(),
                    ACL="public-read",  # also for who does not sign
                )
        return self

    def __exit__(self, *_: object) -> None:
        self._environment.stop()
        self._moto.stop()

    def counts(self) -> dict[str, int]:
        """Return requests and bytes of bodies so far."""
        return {"requests": len(self.asked), "bytes": self.sent, "most_open": self.most_open}

    def forget(self) -> None:
        """Count anew."""
        self.asked.clear()
        self.sent = self.most_open = 0

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if path.startswith("/-/"):  # see `serving.ServingProcess`
            if path == "/-/forget":
                self.forget()
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(self.counts()).encode()]
        self.asked.append((method, path, environ.get("HTTP_RANGE", "")))
        if method != "GET":
            return self._app(environ, start_response)
        with self.change:
            self.open += 1
            self.most_open = max(self.most_open, self.open)
            self.change.notify_all()
            self.change.wait_for(lambda: self.most_open >= self.gather, 10)
            is_busy, self.busy = self.busy > 0, max(0, self.busy - 1)
        try:
            time.sleep(self.latency_s)
            if is_busy:
                start_response("503 Slow Down", [("Content-Type", "application/xml")])
                return [_SLOW_DOWN]
            body = list(self._app(environ, start_response))
            with self.change:
                self.sent += sum(map(len, body))
            return body
        finally:
            with self.change:
                self.open -= 1
