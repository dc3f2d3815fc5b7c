"""A served language model as an agent that runs the suite: it plays the dialogues."""

from collections.abc import Sequence
from typing import Any

from undelude._cli.errors import UsageError
from undelude._cli.suite_options import RunSuite
from undelude._suite.contestants import Answer, Contestant, Declines, Unplayable
from undelude._versioned_tasks import VersionedTask

# The factory of the dialogues.
DIALOGUE = "undelude.tasks.menu:menu"
# Sampled answers after which a model that names no dish is asked no further.
MIN_ANSWERS = 50
DECLINES = Declines("a language model is asked in words, and this task has none.")


class ServedModel:
    """A language model behind a server, which plays for the calls that the user agrees to.

    Attributes:
        contestant: the model as an agent of the suite.

    Raises:
        ValueError: the address is not one of a server, or the further fields of the requests would change the answers.
    """

    def __init__(self, options: RunSuite):
        self.options, self.server, self.most = options, options.server, 0
        self.model: str = options.server.model or ""
        self.speaker: Any = None
        self.num_calls = 0  # Of earlier tasks.
        self.heard: Any = None
        self._speak()  # Raises.
        settings = [f"{self.server.samples} samples", *filter(None, [self.server.extra_body])]
        # Without the address: results are published.
        source = f"served:{self.model}, {', '.join(settings)}"
        self.contestant = Contestant(self.model, source, None, self._answer, self._notes)

    def agree(self, tasks: Sequence[VersionedTask], *, left: Sequence[VersionedTask]) -> None:
        """Ask the user to agree to the calls that the tasks take which are left.

        Raises:
            UsageError: no task is a dialogue; as for `Server.agree`.
        """
        num_requests = sum(map(self._num_requests, left))
        if not any(map(self._num_requests, tasks)):
            raise UsageError("a language model plays dialogues, and no task of --tasks is one: name menu-v1.")
        if num_requests:
            self.most = self.server.agree(num_requests, fewer="--num-episodes, in a trial")

    def _speak(self) -> None:
        from undelude.hf._measuring.served import ServedSpeaker

        settings = {"num_samples": self.server.samples, **self.server.client}
        self.speaker = ServedSpeaker(self.options.agent, self.model, **settings)

    def _answer(self, task: VersionedTask, process: Any) -> Answer:
        from undelude.hf._measuring.host_agents import Heard, as_agent

        if not (num_requests := self._num_requests(task)):
            return DECLINES
        # A speaker for each task counts equal requests from 0, as after --resume: a record has the same answers then.
        self.num_calls += self.speaker.num_calls
        self._speak()
        self.speaker.set_budget(num_requests, self.most - self.num_calls)
        self.heard = Heard()
        return as_agent(process, self.speaker, on_answers=self._hear)

    def _hear(self, answers: Sequence[Any]) -> None:
        self.heard.add(answers)
        if len(self.heard.shares) >= MIN_ANSWERS:
            self._check_heard()

    def _check_heard(self) -> None:
        """Raise `Unplayable` if most sampled answers named no dish: what the model would do is not known then."""
        if self.heard.names_too_few:
            raise Unplayable(f"{self.heard}: what it would choose is not known.")

    def _notes(self) -> dict[str, str]:
        """Return what to know of the answers in the task that was played last."""
        self._check_heard()
        if not self.speaker.has_sampled:
            return self.speaker.notes
        return self.speaker.notes | {"answers": f"estimated from {self.server.samples} samples each. {self.heard}."}

    def _num_requests(self, task: VersionedTask) -> int:
        """Return the most answers that a task needs; 0 if it is not a dialogue."""
        if task.factory != DIALOGUE:
            return 0
        return (self.options.num_episodes or task.num_episodes) * int(task.arguments["num_turns"])
