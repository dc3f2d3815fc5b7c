"""Permission to call the task of a run, which may be code that only the files of the run name."""

import shlex

from undelude._cli.errors import UsageError
from undelude._runs.directory import RunDirectory


def check_may_call_task(run: RunDirectory, named: str | None, *, command: str) -> None:
    """Raise `UsageError` if the task of a run is a function, and the user neither made the run nor named the task.

    Args:
        run: the run.
        named: the task as the user named it on the command line, or None.
        command: the command line without the option that names it, for the error message.
    """
    task = run.config.task
    if named is None and run.distrust is not None:
        raise UsageError(
            f"{run.config_file} would have undelude import and call {task}, and nothing shows that you made this run "
            f"on this machine with this module: {run.distrust}. If you trust that function, name it: {command} --task "
            f"{shlex.quote(task)}"
        )
    if named is not None and named != task:
        raise UsageError(f"--task {named} contradicts {run.config_file}, which says {task}: leave it out.")
