"""Names and passwords in URIs: kept out of every file, and out of every line that is shown."""

from __future__ import annotations

import re

_USER = re.compile(r"://[^/?\s]*@")
_PARAMETER = re.compile(r"(?i)([?&;][^=&;\s]*(?:user|pass|pwd|secret|token|key|sig)[^=&;\s]*=)[^&;\s]*")


def without_credentials(uri: str) -> str:
    """`uri` without the user, the password and whatever else in it may be one. They belong into the environment:
    MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or a database's own variables."""
    address, mark, query = _USER.sub("://", uri).partition("?")
    kept = [part for part in query.split("&") if part and not _PARAMETER.match(f"?{part}")]
    return address + (mark + "&".join(kept) if kept else "")


def redact(text: str) -> str:
    """`text` with `***` in place of the credentials of every URI in it."""
    return _PARAMETER.sub(r"\1***", _USER.sub("://***@", text))
