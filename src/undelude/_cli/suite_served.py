"""A served language model as an agent that runs the suite: it plays the dialogues."""

from typing import Any

from undelude._cli.errors import UsageError
from undelude._cli.suite_options import RunSuite, chosen
from undelude._suite.contestants import Answer, Contestant
from undelude._suite.worst_round import MAX_EPISODES
from undelude._versioned_tasks import VersionedTask

DECLINES = "a language model is asked in words, and this task has none."


def served_contestant(options: RunSuite) -> Contestant:
    """Return the model, after the user has agreed to the calls.

    Raises:
        UsageError: no task is a dialogue; as for `Server.agree`.
    """
    from undelude.hf._measuring.host_agents import speaking
    from undelude.hf._measuring.served import ServedSpeaker

    server = options.server
    assert server.model is not None
    speaker = ServedSpeaker(options.agent, server.model, num_samples=server.samples, **server.client)
    speaker.client.max_calls = server.agree(_most_requests(options), fewer="--num-episodes, in a trial")

    def answer(task: VersionedTask, process: Any) -> Answer:
        del task
        return speaking(process, speaker) if _num_turns(process) else DECLINES

    # Without the address: results are published.
    return Contestant(server.model, f"served:{server.model}", None, answer)


def _most_requests(options: RunSuite) -> int:
    """Return the most answers that the chosen tasks need: each dialogue is played twice, for its worst round too."""
    total = 0
    for task in chosen(options.tasks):
        if task.missing is None and (num_turns := _num_turns(task.make())):
            num_episodes = options.num_episodes or task.num_episodes
            total += (num_episodes + min(num_episodes, MAX_EPISODES)) * (num_turns + 1)
    if not total:
        raise UsageError("a language model plays dialogues, and no task of --tasks is one: name menu-v1.")
    return total


def _num_turns(process: Any) -> int:
    """Return the turns of a dialogue; 0 if the process is none."""
    from undelude.tasks.menu import AbstractMenuTask

    task = getattr(process, "task", None)
    return task.num_turns if isinstance(task, AbstractMenuTask) else 0
