"""What the inspector asks of a process and of a simulator alike."""

import abc
import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from undelude._agents.base import AbstractAgent
from undelude._agents.host import HostAgent
from undelude._inspector.given import EXACT, MARKED, SEE, TOLD
from undelude._inspector.history import AbstractValues, History, check_length, from_json, to_json
from undelude._inspector.setting import Reader
from undelude._inspector.state import State
from undelude._process.episodes import Episodes
from undelude._types import Mark


class AbstractInspection(abc.ABC):
    """The answers of the inspector, without a browser: `Inspection` of a process, `HostInspection` of a simulator.

    Attributes:
        name: of the process or the world.
        num_rounds: N, most rounds of a history.
        num_thetas: K.
        agents: the given agents by name.
        readers: the parties that are compiled, by name.
        exact: the exact parties that exist.
        actions, observations: their values, in histories and in files.
        digest: of the process or the world; saved episodes hold it.
        has_opening: whether a history has an opening.
        shows_opening: whether the page shows it as a symbol.
        theta_changes: whether theta is a path.
        is_slow: whether episodes take long to play.
        action_symbols, observation_symbols: with the keys label, text and value; empty for real numbers, which each
            episode lists itself.
        note_on_agents: what the page says of the predictions of every given agent.
    """

    name: str
    num_rounds: int
    num_thetas: int
    agents: Mapping[str, AbstractAgent | HostAgent]
    readers: Mapping[str, Reader]
    exact: tuple[str, ...] = EXACT
    actions: AbstractValues
    observations: AbstractValues
    digest: str
    has_opening: bool
    shows_opening: bool
    theta_changes: bool
    is_slow: bool
    action_symbols: Sequence[Mapping[str, Any]]
    observation_symbols: Sequence[Mapping[str, Any]]
    note_on_agents: str = ""

    @property
    def parties(self) -> tuple[str, ...]:
        """The names of all parties."""
        return (*self.exact, *self.agents)

    @property
    def actors(self) -> tuple[str, ...]:
        """The names of all that can act."""
        return self.parties

    def own_mark(self, party: str) -> Mark:
        """Return the mark of the actions that a party executes."""
        if party in self.agents:
            return self.agents[party].own_actions
        return "see" if party in (SEE, TOLD) else "do"

    def check_party(self, name: str) -> None:
        """Raise `ValueError` if nobody of that name can act."""
        if name not in self.actors:
            raise ValueError(f"there is no party {name!r:.99}; there are {', '.join(self.actors)}.")

    # Episodes -------------------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def begin(self, *, seed: int = 0, theta: int | None = None) -> History:
        """Return an empty history: theta from the prior unless it is given, and the opening.

        With the same seed, `play` makes episode 0 of `ud.rollout(process, agent, key=jax.random.key(seed))`.
        """

    @abc.abstractmethod
    def play(
        self, history: History, *, rounds: int = 1, actor: str = MARKED, observe: bool = True, label: bool = False
    ) -> History:
        """Let the episode go on: a party acts, and Nature answers under the true theta.

        A round that lacks its observation gets it first. New actions of the expert are marked see, those of another
        party as it reads its own. The random numbers depend on the seed and the round alone: after a rewind, the same
        luck returns.

        Args:
            history: the history so far.
            rounds: number of rounds to add; fewer if the episode ends. With 0, only an open round is completed.
            actor: the name of a party; `"told"` is the expert.
            observe: whether the last new round gets its observation.
            label: whether to ask the expert what it would have done (a counterfactual label).

        Raises:
            ValueError: the party does not exist.
        """

    def alone(self, history: History) -> dict[str, History]:
        """Return for each party the episode that it would have had: the same theta, rounds and luck, its own actions.

        Of a theta that changes, only the first value is the same.
        """
        start = dataclasses.replace(self.begin(seed=history.seed, theta=history.theta[0]), theta=history.theta[:1])
        if self.shows_opening:  # It may have been edited; that of a simulator is the seed's.
            start = dataclasses.replace(start, opening=history.opening)
        n = history.num_observations
        return {name: self.play(start, rounds=n, actor=name) for name in self.actors if name != MARKED and n}

    def has_ended(self, history: History) -> bool:
        """Return whether no round can follow: there are `num_rounds`, or the episode was ended."""
        return history.num_observations >= self.num_rounds or self._end(history) is not None

    @abc.abstractmethod
    def _end(self, history: History) -> int | None:
        """Return the number of rounds after which the episode was ended; None if it was not."""

    @property
    @abc.abstractmethod
    def first_rounds(self) -> tuple[int, bool]:
        """The number of rounds of the episode with which the page begins, and whether the last one has its outcome."""

    def to_json(self, history: History, *, task: str | None = None) -> dict[str, Any]:
        """Return a history for a file; `task` is the name under which the task can be made again, if it has one."""
        A, O = self.actions, self.observations
        return to_json(history, A, O, task=task, process=self.digest, theta_changes=self.theta_changes)

    def from_json(self, data: Mapping[str, Any], *, task: str | None = None) -> History:
        """Check a stored history.

        Args:
            data: as `to_json` returns it.
            task: the name of the task that is inspected, if it has one; a history of another task is refused.

        Raises:
            ValueError: it is of another task or process, does not fit, goes on after its end, or is longer than
                `num_rounds`; the message names the entry.
        """
        about: Any = {"num_thetas": self.num_thetas, "has_opening": self.has_opening}
        about |= {"theta_changes": self.theta_changes, "process": self.digest, "task": task}
        history = from_json(data, self.actions, self.observations, **about)
        check_length(history, self.num_rounds)
        history = self._with_more(history, data)
        end = self._end(history)
        if end is not None and len(history) > end:
            after = f"round {end + 1} comes" if len(history) == end + 1 else f"rounds {end + 1} to {len(history)} come"
            raise ValueError(
                f"round {end} ends the episode, and {after} after it: remove what comes after round {end} first "
                f'("Rewind here" on the page).'
            )
        return history

    @abc.abstractmethod
    def _with_more(self, history: History, data: Mapping[str, Any]) -> History:
        """Return a history from a file; raise `ValueError` if the rewards and ends in the file are not its own."""

    @abc.abstractmethod
    def history_of(self, episode: Episodes) -> History:
        """Return one episode of a rollout.

        Raises:
            ValueError: it does not fit.
        """

    # Answers --------------------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def read(self, history: History, parties: Collection[str] | None = None) -> State:
        """Return what the parties, by default all, believe and predict at each point of a history.

        Raises:
            ValueError: the history is longer than `num_rounds`, or a `ud.HostAgent` returned what it should not.
        """

    @abc.abstractmethod
    def densities(self, history: History, t: int, *, outcome: bool = False) -> dict[str, Any]:
        """Return the density of each number of the action of round `t`, or of its outcome, by party.

        Empty if these are symbols. The grids, `[D, G]`, hold the densities of exact do and see, if there are any, and
        the means of the others.
        """

    @abc.abstractmethod
    def scene(self, history: History) -> tuple[Any, ...] | None:
        """Return what draws the world after the last symbol, and the arguments of its `draw`; None if nothing does.

        Raises:
            ValueError: the history is longer than `num_rounds`, or a simulator shows something else than in it.
        """

    # Words ----------------------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def about(self) -> dict[str, Any]:
        """Return what the page must know, besides what all inspections have."""

    @abc.abstractmethod
    def outcome(self, o: Any) -> Any:
        """Return what the page lists of an observation: a symbol, real numbers, or a text."""

    def seen(self, history: History) -> list[str] | None:
        """Return in words what else the agent saw, from the opening on; None if nothing else is shown."""
        del history
        return None

    def examples(self) -> dict[str, History]:
        """Return histories of the paper, by name."""
        return {}
