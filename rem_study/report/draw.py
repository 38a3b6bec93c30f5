"""The report drawn in a process of its own, beside the driver."""

from __future__ import annotations

import gc
from multiprocessing.connection import Connection

from rem_study.errors import StorageError
from rem_study.storage import Folder
from rem_study.tracking.beside import end_with, start_beside

PATIENCE = 3600.0
"""Seconds for a report: of 10,000 trials it takes half a minute."""


def draw_report(folder: Folder) -> None:
    """`write_report` in a process of its own: what the figures of a large study take, half a gigabyte, does not
    come on top of what the driver holds. Raises what `write_report` raises, and StorageError if that process ends."""
    process, connection = start_beside(__name__, "serve")
    with process, connection:
        try:
            connection.send(folder)
            if not connection.poll(PATIENCE):
                process.kill()
            error = connection.recv()
        except (EOFError, OSError):
            error = StorageError(
                f"{folder / 'report.html'}: the process that draws it was killed (for memory, most often), or "
                f"took more than {PATIENCE / 60:.0f} minutes; the tables are there, and `rem-study report {folder}` "
                "draws it"
            )
        except BaseException:
            process.kill()
            raise
    if error is not None:
        raise error


def serve(descriptor: int) -> None:
    """What runs in that process: takes the folder from the pipe, sends back None or the error."""
    connection = Connection(descriptor)
    folder = connection.recv()
    end_with(connection)
    gc.disable()  # this process ends right after, and a tenth of its time would go into looking for garbage
    try:
        from rem_study.report.page import write_report

        write_report(folder)
        connection.send(None)
    except Exception as error:
        connection.send(error)
