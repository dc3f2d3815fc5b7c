"""Agents on the Hugging Face Hub: the files of `save`, the certificate, and a model card that shows it."""

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from undelude._agents.base import AbstractAgent
from undelude._certificate.certificate import Certificate
from undelude._certificate.numbers import with_error
from undelude._files import plain
from undelude._runs.agent_files import DESCRIPTION, WEIGHTS, load, save
from undelude._runs.certificate_file import to_float
from undelude._runs.directory import RunDirectory
from undelude._runs.hub_errors import explained
from undelude._runs.layout import CERTIFICATE, is_run
from undelude._versions import installing

CARD = "README.md"
REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w.-]+")
# Quantities of the card, with what they are.
SHOWN = {
    "action_kl_do": "actions: nats from the interventional answer, `P(. \\| do(a), o)`",
    "action_kl_see": "actions: nats from the deluded answer, `P(. \\| a, o)`",
    "observation_kl_do": "observations: nats from the interventional answer",
    "observation_kl_see": "observations: nats from the deluded answer",
    "action_calibration_gap": "calibration gap of actions, nats",
    "reward": "reward a round",
    "reward_exact_do": "reward a round of the exact agent, own actions as do",
    "reward_exact_see": "reward a round of the exact agent, own actions as see",
}


def push_to_hub(
    source: AbstractAgent | str | os.PathLike[str],
    repo_id: str,
    *,
    certificate: Certificate | None = None,
    license: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
    message: str = "An agent of undelude",
) -> str:
    """Upload a learned agent to the Hugging Face Hub, with its certificate and a model card.

    The repository is made if it is not there. It gets `agent.json`, `weights.safetensors`, `certificate.json` and
    `README.md`; other files in it stay. If there is no certificate, one of an earlier agent is deleted.

    Args:
        source: a learned agent, or the folder of a run, whose agent and certificate are uploaded.
        repo_id: such as `"somebody/sober-bandit"`.
        certificate: of `ud.certify`, for the card; of a run it is the run's own.
        license: for the card, such as `"apache-2.0"`; none is stated by default.
        private: whether a new repository is private; by default as the account says.
        revision: the branch; by default the main one.
        token: in place of the one that huggingface_hub has stored.
        endpoint: of a server of your own; by default the setting of huggingface_hub.
        message: of the commit.

    Returns:
        The address of the commit.

    Raises:
        ModuleNotFoundError: huggingface_hub is not installed.
        TypeError: the agent is not a learned one.
        ValueError: a run was given together with a certificate; its files are damaged; or `repo_id` cannot be a name.
        FileNotFoundError: the Hub has no such revision, or no such repository for this token.
        PermissionError: the token is missing, unknown, or may not write there.
        ConnectionError: the Hub cannot be reached, or fails.

    >>> import undelude as ud
    >>> ud.push_to_hub("runs/bandit", "somebody/sober-bandit")  # doctest: +SKIP
    """
    hub = _hub()
    if not isinstance(source, str | os.PathLike):
        agent, content = source, None if certificate is None else certificate.to_dict()
    else:
        if certificate is not None:
            raise ValueError("push_to_hub: the folder of a run has a certificate of its own: leave out certificate=.")
        run = RunDirectory.open(Path(source))
        agent = run.load_agent()
        content = run.read_certificate() if (Path(source) / CERTIFICATE).is_file() else None
    with tempfile.TemporaryDirectory() as folder:
        save(agent, folder)
        if content is not None:
            Path(folder, CERTIFICATE).write_text(json.dumps(plain(content), indent=2, allow_nan=False))
        Path(folder, CARD).write_text(model_card(agent, content, repo_id=repo_id, license=license), encoding="utf-8")
        api = hub.HfApi(endpoint=endpoint, token=token)
        with explained("push_to_hub", repo_id, revision, endpoint):
            api.create_repo(repo_id, private=private, exist_ok=True)
            # A certificate in the repository would be that of another agent.
            is_left = content is None and api.file_exists(repo_id, CERTIFICATE, revision=revision)
            commit: Any = {"revision": revision, "commit_message": message}
            commit |= {"delete_patterns": [CERTIFICATE]} if is_left else {}
            done = api.upload_folder(repo_id=repo_id, folder_path=folder, **commit)
    return str(done.commit_url)


def from_pretrained(
    repo_id: str,
    *,
    revision: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> AbstractAgent:
    """Download the agent that `push_to_hub` uploaded, and load it. Nothing of the repository is executed.

    Args:
        repo_id: such as `"somebody/sober-bandit"`.
        revision: a branch, a tag, or the hash of a commit, which names one agent for ever.
        token: in place of the one that huggingface_hub has stored.
        endpoint: of a server of your own; by default the setting of huggingface_hub.
        cache_dir: the folder of downloads; by default that of huggingface_hub.

    Raises:
        ModuleNotFoundError: huggingface_hub is not installed.
        FileNotFoundError: the repository has no agent; or there is no such repository or revision.
        PermissionError: the token is missing, unknown, or not enough.
        ConnectionError: the Hub cannot be reached, or fails.
        ValueError: a file is damaged or does not fit; the message names it. Or a folder was named: of a run or an
            agent, or by a name that no repository has.

    >>> import undelude as ud
    >>> agent = ud.from_pretrained("somebody/sober-bandit")  # doctest: +SKIP
    """
    here = Path(repo_id)
    if here.is_dir() and (not REPOSITORY.fullmatch(repo_id) or is_run(here) or (here / DESCRIPTION).exists()):
        raise ValueError(f"from_pretrained: {repo_id} is a folder here: read it with ud.load, or give SOMEBODY/NAME.")
    wanted: Any = {"allow_patterns": [DESCRIPTION, WEIGHTS], "token": token, "endpoint": endpoint}
    hub = _hub()
    with explained("from_pretrained", repo_id, revision, endpoint):
        folder = hub.snapshot_download(repo_id, revision=revision, cache_dir=cache_dir, **wanted)
    try:
        return load(folder)
    except FileNotFoundError:
        where = repo_id if revision is None else f"{repo_id} at {revision}"
        raise FileNotFoundError(f"{where} has no agent of undelude: it lacks {DESCRIPTION} or {WEIGHTS}.") from None


def model_card(
    agent: AbstractAgent, certificate: dict[str, Any] | None, *, repo_id: str, license: str | None = None
) -> str:
    """Return the model card: what the agent is, how it is loaded, and the distances of its certificate.

    Args:
        agent: the agent.
        certificate: as in `certificate.json`; None if it was not measured, which the card says.
        repo_id: of the repository.
        license: a name of the Hub; left out if it is None.
    """
    head = ["library_name: undelude", "tags: [undelude, imitation-learning, causal-inference]"]
    head += [] if license is None else [f"license: {json.dumps(license)}"]
    lines = ["---", *head, "---", "", f"# {repo_id.rpartition('/')[2]}", ""]
    task = "" if certificate is None or not certificate.get("task") else f" on `{certificate['task']}`"
    lines += [
        f"`{type(agent).__name__}` of undelude{task}. It was taught to read actions as {' and '.join(agent.marks)}, "
        f"and reads its own as {agent.own_actions}: do is an intervention, and see is evidence of what an expert knew.",
        "",
        "```python",
        "import undelude as ud",
        "",
        f"agent = ud.from_pretrained({json.dumps(repo_id)})",
        "policy = ud.Policy(agent)  # a = policy.reset(); a = policy.step(observation)",
        "```",
        "",
    ]
    return "\n".join(lines + (_certified(certificate) if certificate else UNCERTIFIED)) + "\n"


UNCERTIFIED = [
    "No certificate was given: whether this agent deludes itself is not known. Measure it with `ud.certify`."
]


def _certified(certificate: dict[str, Any]) -> list[str]:
    """Return the lines about a certificate."""
    size = f"{certificate['num_episodes']:,} episodes of {certificate['num_rounds']} rounds"
    lines = [f"Certificate: **{certificate.get('verdict', 'unknown')}**, over {size} of its own histories.", ""]
    lines += ["| quantity | value, ± standard error |", "|---|---|"]
    for name, what in SHOWN.items():
        if (value := to_float(certificate.get(name))) is not None:
            lines.append(f"| {what} | {with_error(value, to_float(certificate.get(f'{name}_se')))} |")
    return [*lines, "", "`certificate.json` has all quantities and the versions of the libraries."]


def _hub() -> Any:
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the Hugging Face Hub needs the package huggingface_hub: {installing('hub')}."
        ) from error
    return huggingface_hub
