"""What MLflow raises, as this program says it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rem_study.errors import TrackingError
from rem_study.storage.credentials import redact


@contextmanager
def tracking_errors(uri: str) -> Iterator[None]:
    """Whatever MLflow raises inside becomes a TrackingError of one line without credentials."""
    try:
        yield
    except TrackingError:
        raise
    except Exception as error:  # MLflow has no common base for what its stores raise
        raise TrackingError(f"MLflow at {redact(uri)}: {one_line(error)}") from None


def one_line(error: Exception) -> str:
    """Its kind and message on one line, without credentials, at most 300 characters."""
    return redact(" ".join(f"{type(error).__name__}: {error}".split()))[:300]


# Not the server's state but what was sent: another attempt would fail in the same way.
_REFUSED_CODES = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST"}


def is_refusal(error: Exception) -> bool:
    """Whether what was sent is to blame, so that no other attempt will succeed."""
    code = getattr(error, "error_code", None)
    return code in _REFUSED_CODES or isinstance(error, FileNotFoundError | LookupError | TypeError | ValueError)
