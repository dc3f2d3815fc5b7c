"""The error of a run directory that cannot be used as asked."""


class RunError(Exception):
    """The folder of a command holds no run, holds one already, or is in use by another process."""
