"""The failures that a user of rem-study can meet."""


class InputError(ValueError):
    """What the user gave is wrong. The message is one line per mistake and names file and field."""


class UnlearningError(RuntimeError):
    """A configuration broke the method it was given to (a loss that is not finite, say); the trial fails."""


class ClusterError(RuntimeError):
    """A Ray cluster could not be reached, or refused; the message is one line."""


class NotStartedError(ClusterError):
    """Ray cannot start here; launching again changes nothing, what the message says may."""


class StorageError(RuntimeError):
    """A disk or a share cannot be read or written (it is full, or gone); the message is one line and names the file."""


class TrackingError(RuntimeError):
    """MLflow could not be read or written; the message is one line without credentials."""
