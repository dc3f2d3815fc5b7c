"""Errors of the Hugging Face Hub, each as one sentence that names the repository and says what to do."""

import contextlib
from collections.abc import Iterator

from undelude._checks import one_line

TOKEN = "pass token=, or store a token with the command hf auth login"
# Statuses for which huggingface_hub has no type.
UNAUTHORISED, FORBIDDEN = 401, 403


@contextlib.contextmanager
def explained(function: str, repo_id: str, revision: str | None, endpoint: str | None) -> Iterator[None]:
    """Raise errors of huggingface_hub again, with a message that names the repository; others pass.

    Args:
        function: of undelude, for the message.
        repo_id: the repository.
        revision: the revision that was asked for.
        endpoint: the server that was named.

    Raises:
        FileNotFoundError: the repository, the revision or a file is not there.
        PermissionError: the token is missing, wrong, or not enough.
        ConnectionError: the server cannot be reached, or fails.
        ValueError: the name of the repository cannot be one.
    """
    try:
        yield
    except Exception as error:
        # huggingface_hub looks for stored files if it has no connection, and then raises that there are none.
        cause = error.__cause__ if "LocalEntryNotFoundError" in _types(error) and error.__cause__ else error
        new = _explain(cause, repo_id, revision, "the Hugging Face Hub" if endpoint is None else endpoint)
        if new is None:
            raise
        raise type(new)(f"{function}: {new}") from error


def _types(error: BaseException) -> set[str]:
    """Return the names of an error's types: versions of huggingface_hub have them in other modules."""
    return {kind.__name__ for kind in type(error).__mro__}


def _explain(error: BaseException, repo_id: str, revision: str | None, server: str) -> Exception | None:
    """Return the error with our message; None if it is not one of the Hub."""
    types = _types(error)
    status = getattr(getattr(error, "response", None), "status_code", None)
    if "HFValidationError" in types:
        return ValueError(f"{repo_id!r:.99} cannot be the name of a repository: write SOMEBODY/NAME.")
    if "GatedRepoError" in types:
        return PermissionError(f"access to {repo_id} must be granted: ask for it on its page; then {TOKEN}.")
    if "LocalTokenNotFoundError" in types or status == UNAUTHORISED:
        return PermissionError(f"{server} wants a token that it knows for {repo_id}: {TOKEN}.")
    if status == FORBIDDEN:
        return PermissionError(f"the token does not permit this in {repo_id}: use one that may write there.")
    if "RepositoryNotFoundError" in types:
        return FileNotFoundError(
            f"{server} has no repository {repo_id} that this token opens: check the name; if it is private, {TOKEN}."
        )
    if "RevisionNotFoundError" in types:
        return FileNotFoundError(
            f"{repo_id} has no revision {revision}: name a branch, a tag or a commit of it, or leave revision= out."
        )
    if "EntryNotFoundError" in types and "LocalEntryNotFoundError" not in types:
        return FileNotFoundError(f"a file of {repo_id} is not there any more: try again.")
    if "OfflineModeIsEnabled" in types:
        return ConnectionError(f"{repo_id} is not stored here, and HF_HUB_OFFLINE forbids to ask for it: unset it.")
    if status is not None:
        return ConnectionError(f"{server} answers with status {status} about {repo_id}: {one_line(str(error))}")
    if types & {"ConnectError", "TimeoutException", "HTTPError", "ConnectionError", "LocalEntryNotFoundError"}:
        return ConnectionError(f"{server} cannot be reached for {repo_id}: check the connection, and endpoint=.")
    return None
