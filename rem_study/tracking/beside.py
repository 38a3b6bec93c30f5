"""Work in a Python process of its own, beside the driver."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
from multiprocessing import Pipe
from multiprocessing.connection import Connection


def start_beside(module: str, function: str) -> tuple[subprocess.Popen[bytes], Connection]:
    """Start `function(descriptor)` of `module` in a process of its own; returns it and our end of the pipe whose other
    end is that descriptor.

    The process has this one's import path and environment, and a session of its own: Ctrl-C is for the driver, which
    then decides. Nothing of the user's main program is imported there, as `multiprocessing` would do.
    """
    ours, theirs = Pipe()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    code = f"from {module} import {function}; {function}({theirs.fileno()})"
    process = subprocess.Popen(
        [sys.executable, "-c", code], pass_fds=[theirs.fileno()], env=environment, start_new_session=True
    )
    theirs.close()
    return process, ours


def limit_sending(connection: Connection, seconds: float) -> None:
    """Let `send` raise BlockingIOError when the other end has taken nothing for so long; it may have got a part."""
    with socket.socket(fileno=os.dup(connection.fileno())) as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(seconds), int(seconds % 1 * 1e6)))


def end_with(connection: Connection) -> None:
    """In the process: end at once, in the middle of anything, when the other end of the pipe is closed or gone."""

    def wait() -> None:
        try:
            connection.recv()
        except (EOFError, OSError):
            os._exit(0)

    threading.Thread(target=wait, name="end-with-driver", daemon=True).start()
