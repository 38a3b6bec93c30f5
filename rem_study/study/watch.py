"""`rem-study watch`: a study that runs, in a browser, served on loopback from its log alone."""

from __future__ import annotations

import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from rem_study.errors import InputError, StorageError, TrackingError
from rem_study.storage import Folder
from rem_study.study.live import has_ended, live, page
from rem_study.study.status import Glance, look

EVERY = 2.0
"""Seconds after which the page looks for what is new."""
SHARE = 0.1
"""Of one processor that reading the log may take: that of a large study is read less often."""
LINGER = 60.0
"""Seconds that a browser has, once the study has ended, to fetch the report."""
WAIT = 10.0
"""Seconds in which a study that has ended may be gone on with, before it is taken to have ended."""


class Watched:
    """A study's folder, read again when it may be, by whichever request comes first.

    Attributes:
        ended: whether the launch that is watched has ended.
        read: set once a browser has the report of an ended study.
    """

    def __init__(self, folder: Folder, wait: float = WAIT) -> None:
        self.folder = folder
        self.read = threading.Event()
        self._lock, self._drawing = threading.Lock(), threading.Lock()
        self._wait = wait
        self._began = time.monotonic()
        self._next = 0.0
        self._ran = False  # seen running once: then its end is one
        self._seen = self._look()

    def _look(self) -> Glance:
        began = time.monotonic()
        seen = look(self.folder, whole=True)
        over = has_ended(self.folder, seen)
        self._ran = self._ran or not over
        self.ended = over and (self._ran or time.monotonic() - self._began > self._wait)
        now = time.monotonic()
        self._next = now + max(EVERY / 2, (now - began) / SHARE)
        return seen

    def now(self) -> Glance:
        """The study as it is, or was a moment ago. Raises InputError, StorageError."""
        with self._lock:
            if not self.ended and time.monotonic() >= self._next:
                self._seen = self._look()
            return self._seen

    def report(self) -> str:
        """The report of what there is so far, marked as partial, one at a time; of a study that has ended, the one that
        it wrote. Raises InputError."""
        from rem_study.report.page import study_page

        if self.ended:
            return (self.folder / "report.html").read_text(encoding="utf-8")
        with self._drawing:
            return study_page(self.folder)


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        """The page, the part that changes, and the report; to callers that mean this server by its own name only."""
        watched, path = self.server.watched, self.path.partition("?")[0]
        if self.headers.get("Host", "").rpartition(":")[0] not in ("127.0.0.1", "localhost"):
            self._answer(403, "this is for 127.0.0.1 alone")  # another site's name led here: its scripts may not read
            return
        try:
            if path == "/":
                self._answer(200, page(watched.folder, watched.now(), watched.ended, EVERY))
            elif path == "/live":
                self._answer(200, live(watched.folder, watched.now(), watched.ended))
            elif path == "/report":
                self._answer(200, watched.report())
                if watched.ended:
                    watched.read.set()
            else:
                self._answer(404, "there are /, /live and /report")
        except (InputError, StorageError) as error:
            self._answer(503, str(error), "text/plain")

    def _answer(self, status: int, text: str, kind: str = "text/html") -> None:
        content = text.encode("utf-8", "replace")
        self.send_response(status)
        self.send_header("Content-Type", f"{kind if status == 200 else 'text/plain'}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: the terminal is not for every request."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, watched: Watched, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.watched = watched


def watch(folder: Folder, port: int) -> None:
    """Serve the study in `folder` until its launch has ended and a browser has its report, or Ctrl-C.

    Raises:
        InputError: no study is there.
        TrackingError: the port is taken.
    """
    watched = Watched(folder)
    try:
        server = _Server(watched, port)
    except OSError as error:
        raise TrackingError(f"port {port}: {error.strerror or error}; --port names another, 0 a free one") from None
    thread = threading.Thread(target=server.serve_forever, name="rem-study-watch", daemon=True)
    thread.start()
    print(f"watch:   http://127.0.0.1:{server.server_address[1]}/ (Ctrl-C ends it, not the study)", flush=True)
    try:
        while not watched.ended:
            time.sleep(EVERY / 2)
            _renew(watched)
        print("the study has ended", file=sys.stderr, flush=True)
        watched.read.wait(LINGER)
        time.sleep(0.5)  # for the last bytes
    finally:
        server.shutdown()
        server.server_close()


def _renew(watched: Watched) -> None:
    """Look whether it has ended, whoever asks; a share that is gone for a moment is met again."""
    try:
        watched.now()
    except (InputError, StorageError) as error:
        print(f"warning: {error}", file=sys.stderr)
