"""One process, the parties that read its episodes, and what each of them believes and predicts in every round."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from undelude._agents.base import AbstractAgent
from undelude._agents.exact import ExactAgent
from undelude._agents.host import HostAgent
from undelude._inspector.abstract import AbstractInspection
from undelude._inspector.accounts import accounts_of, in_numbers
from undelude._inspector.alphabet import Alphabet, alphabets, scored_part, symbols_of
from undelude._inspector.digest import digest_of
from undelude._inspector.examples import examples_of
from undelude._inspector.given import (
    DO,
    EXACT,
    MARKED,
    SEE,
    TOLD,
    believes,
    check_agents,
    named_agents,
    reads_of,
)
from undelude._inspector.history import PAID_FIELDS, History, Round, check_length, checked_rounds
from undelude._inspector.host_reader import HostReader
from undelude._inspector.readings import Reading, implied_beliefs, offered_actions, read_all
from undelude._inspector.setting import Reader, Setting, Symbols
from undelude._inspector.state import State
from undelude._inspector.summary import densities
from undelude._inspector.values import Values, stacked
from undelude._inspector.worlds import begin, play_on, scenes
from undelude._process.episodes import EXPERT, Episodes
from undelude._process.process import InteractionProcess, check_process
from undelude._process.task import AbstractTask
from undelude._process.world import key_of
from undelude._rollout.checks import check_theta
from undelude._tree import Bound, index
from undelude._types import Observation
from undelude.tasks.tables import TableTask

# Drawings that show hardly more than the belief, which the page shows anyway.
DRAW_BELIEF = (AbstractTask.draw, TableTask.draw)
# Shape and type of a mark.
MARK = jax.ShapeDtypeStruct((), bool)


class Inspection(AbstractInspection):
    """A process and the agents that read its episodes: the answers of the inspector, without a browser.

    The parties are three exact agents, the expert that is told theta (`"told"`), and the given agents. They read past
    actions differently: `"do"` reads the agent's own as interventions, `"see"` reads them as evidence, and `"marked"`
    reads each as the history marks it, and so do given agents that know both marks. A given agent that was taught one
    mark alone reads all actions by it, and a `ud.HostAgent` in its own way, unless it is told the marks.

    Every history is padded to `num_rounds`, so that all answers come from programs that are compiled once.

    Args:
        process: of finitely many thetas; actions and observations are symbols, short blocks of them, or at most 12 real
            numbers.
        agents: by name; a sequence is named "agent", "agent 2" and so on.
        num_rounds: N, most rounds of a history; the process's own by default.

    Attributes:
        process: the process.
        agents: the given agents by name.
        num_rounds: N.
        actions, observations: their alphabets, of which a history holds indices; or the values of real numbers.
        words: of the process.

    Raises:
        TypeError: Theta is continuous, the process can only be sampled, or its values are of another kind.
        ValueError: an agent was made for another process, or a name is taken.
    """

    actions: Alphabet | Values
    observations: Alphabet | Values

    def __init__(
        self,
        process: InteractionProcess,
        agents: Mapping[str, AbstractAgent | HostAgent] | Sequence[AbstractAgent | HostAgent] = (),
        *,
        num_rounds: int | None = None,
    ):
        self.process = _check_inspectable(process)
        self.num_rounds = checked_rounds(num_rounds, process.num_rounds, process.name)
        self.actions, self.observations, self.words = alphabets(process)
        self.agents = named_agents(agents)
        traced = {name: agent for name, agent in self.agents.items() if isinstance(agent, AbstractAgent)}
        check_agents(process, traced)
        exact = ExactAgent(process)
        self.readers = {
            MARKED: Reader(exact, "marked"),
            DO: Reader(exact, "do"),
            SEE: Reader(ExactAgent(process, "see"), "see"),
            TOLD: Reader(exact, "do", told=True),
        } | {name: Reader(x, reads_of(x), believes=believes(x, process)) for name, x in traced.items()}
        self._values = symbols_of(self.actions), symbols_of(self.observations)
        self._part = scored_part(process)
        self._read = Bound(read_all, self._setting(*self.readers.values()))
        alone = self._setting()
        self.hosts = {name: HostReader(x, alone) for name, x in self.agents.items() if isinstance(x, HostAgent)}
        self._begin, self._scenes = Bound(begin, alone), Bound(scenes, alone)
        are_symbols = isinstance(self.actions, Alphabet)
        self._implied = Bound(implied_beliefs, alone) if are_symbols else None
        self._offered = Bound(offered_actions, alone) if are_symbols else None
        self._play: dict[str, Bound] = {}
        self.name, self.num_thetas, self.digest = process.name, process.num_thetas, digest_of(process)
        self.has_opening = self.shows_opening = process.opening
        self.theta_changes, self.is_slow = process.theta_changes, bool(self.hosts)
        self.action_symbols, self.observation_symbols = (
            x.in_words() if isinstance(x, Alphabet) else [] for x in (self.actions, self.observations)
        )

    @property
    def first_rounds(self) -> tuple[int, bool]:
        """All rounds; of a process of at most two, the first action, before its outcome."""
        return (self.num_rounds, True) if self.num_rounds > 2 else (1, False)

    def begin(self, *, seed: int = 0, theta: int | None = None) -> History:
        """Return an empty history."""
        if theta is not None:
            check_theta(self.process, theta)
        first, opening = self._begin(key_of(seed), jnp.asarray(-1 if theta is None else theta, jnp.int32))
        return History((int(first),), (), self.observations.of(opening) if self.process.opening else None, seed)

    def read(self, history: History, parties: Collection[str] | None = None) -> State:
        """Return what the parties, by default all, believe and predict at each point of a history."""
        symbols, m = self._symbols(history), history.num_observations
        readings = self._readings(history, symbols, parties)
        rewards = np.asarray(self._scenes(symbols).rewards, float)[:m]
        offered = [None] * (m + 1) if self._offered is None else list(np.asarray(self._offered(symbols))[: m + 1])
        accounts = accounts_of(history, readings, self.actions, self.observations)
        accounts = {name: x for name, x in accounts.items() if parties is None or name in parties}
        return State(history, accounts, rewards, offered, self.has_ended(history))

    def _readings(
        self, history: History, symbols: Symbols, parties: Collection[str] | None = None
    ) -> dict[str, Reading]:
        """Return the reading of each party; of the policies in Python, those among `parties`."""
        found = dict(zip(self.readers, self._read(symbols), strict=True))
        hosts = {name: x for name, x in self.hosts.items() if parties is None or name in parties}
        if hosts:
            world, n, m = self._scenes(symbols), len(history), history.num_observations
            for name, host in hosts.items():
                try:
                    found[name] = host.read(symbols, world.opening, world.observations, n, m, key_of(history.seed))
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from error
        for name, x in found.items():
            if x.belief is None and self._implied is not None:
                found[name] = dataclasses.replace(x, belief=self._implied(symbols, jnp.asarray(x.actions, float)))
        return {name: found[name] for name in self.parties if name in found}

    def densities(self, history: History, t: int, *, outcome: bool = False) -> dict[str, Any]:
        """Return the density of each number of the action of round `t`, or of its outcome, by party."""
        values = self.observations if outcome else self.actions
        if isinstance(values, Alphabet):
            return {"grid": [], "parties": {}}
        readings = self._readings(history, self._symbols(history))
        each = {name: x.observations if outcome else x.actions for name, x in readings.items()}
        moments, _ = in_numbers(each, t + 1, values)
        known = {name: (x, moments[name]) for name, x in each.items() if x is not None}
        taken = None if t >= len(history) else (history.rounds[t].observation if outcome else history.rounds[t].action)
        return densities(known, t, wide=EXACT, taken=taken, box=values.box)

    def play(
        self,
        history: History,
        *,
        rounds: int = 1,
        actor: str = MARKED,
        observe: bool = True,
        label: bool = False,
    ) -> History:
        """Let the episode go on: a party acts, and Nature answers under the true theta."""
        self.check_party(actor)
        if self.has_ended(history):
            return history
        if actor in self.hosts:
            return self._play_host(actor, history, rounds, observe=observe, label=label)
        n, m, is_expert = len(history), history.num_observations, actor == TOLD
        mark = self.own_mark(actor)
        if actor not in self._play:
            readers = () if is_expert else (self.readers[actor],)
            self._play[actor] = Bound(play_on, self._setting(*readers))
        counts = (jnp.asarray(n, jnp.int32), jnp.asarray(m, jnp.int32))
        played = self._play[actor](self._symbols(history), *counts, key_of(history.seed), jnp.asarray(mark == "do"))
        A, O = self.actions, self.observations
        actions, observations, labels = map(np.asarray, (played.actions, played.observations, played.expert_actions))
        over = np.flatnonzero(np.asarray(played.ended)[m:])
        last = min(n + rounds, m + int(over[0]) + 1 if len(over) else self.num_rounds)
        new = [dataclasses.replace(r, observation=O.of(o)) for r, o in zip(history.rounds, observations, strict=False)]
        by = "expert" if is_expert else "agent"
        for t in range(n, last):
            o = O.of(observations[t]) if observe or t < last - 1 else None
            new.append(Round(A.of(actions[t]), mark, by, o, A.of(labels[t]) if label else None))
        longer = dataclasses.replace(history, rounds=tuple(new))
        if not self.process.theta_changes:
            return longer
        path = np.asarray(played.theta)[: longer.num_observations + 1]
        return dataclasses.replace(longer, theta=tuple(path.tolist()))

    def _play_host(self, actor: str, history: History, rounds: int, *, observe: bool, label: bool) -> History:
        """Let a `HostAgent` act, round by round; Nature answers as after the actions of other parties."""
        history = self.play(history, rounds=0)
        alone, world = self._setting(), self._scenes(self._symbols(history))
        playing = self.hosts[actor].play(self._symbols(history), world.opening, key_of(history.seed))
        for t, r in enumerate(history.rounds):
            o, done = index(world.observations, t), r.mark == "do"
            playing.read(np.asarray(alone.action(r.action)), o, own=r.by == "agent", intervened=done)
        for i in range(rounds):
            if self.has_ended(history):
                break
            a, n = playing.act(), len(history)
            asked = self.play(history, actor=TOLD, observe=False).rounds[-1].action if label else None
            new = Round(self.actions.of(alone.action_index(a)), self.own_mark(actor), "agent", None, asked)
            history = dataclasses.replace(history, rounds=(*history.rounds, new))
            if observe or i < rounds - 1:
                history = self.play(history, rounds=0)
                o, done = index(self._scenes(self._symbols(history)).observations, n), new.mark == "do"
                playing.follow(a, o, intervened=done)
        return history

    def _end(self, history: History) -> int | None:
        """Return the number of rounds after which the task ends the episode; None if it does not."""
        m = history.num_observations
        if not (m and self.process.ends_early):
            return None
        ends = jax.vmap(self.process.task.ends)(self._scenes(self._symbols(history)).observations)
        over = np.flatnonzero(np.asarray(ends)[:m])
        return int(over[0]) + 1 if len(over) else None

    def _with_more(self, history: History, data: Mapping[str, Any]) -> History:
        given = {name: [t for t, row in enumerate(data["rounds"]) if name in row] for name in PAID_FIELDS}
        rewards = self._scenes(self._symbols(history)).rewards if given["reward"] else ()
        for t in given["reward"]:
            told, pays = float(data["rounds"][t]["reward"]), float(rewards[t])
            if not np.isclose(told, pays, rtol=1e-4, atol=1e-6):
                raise ValueError(
                    f"rounds[{t}].reward is {told:g}, and {self.name} pays {pays:g} in this round: correct it, or "
                    "leave it out."
                )
        end = self._end(history) if given["ended"] else None
        for t in given["ended"]:
            told = history.rounds[t].ended
            if told != (t + 1 == end) and not (told and t + 1 == self.process.num_rounds):
                does = "does not end" if told else "ends"
                raise ValueError(
                    f"rounds[{t}].ended is {str(told).lower()}, and {self.name} {does} the episode in this round: "
                    "correct it, or leave it out."
                )
        rounds = (dataclasses.replace(r, reward=None, ended=False) for r in history.rounds)
        return dataclasses.replace(history, rounds=tuple(rounds))

    def scene(self, history: History) -> tuple[Any, ...]:
        """Return the task, and the arguments of its `draw` with the belief as marked."""
        found = jax.tree.map(np.asarray, self._scenes(self._symbols(history)))
        n, m = len(history), history.num_observations
        account = self.read(history).accounts[MARKED]
        belief = account.acted_belief if n > m else account.belief
        assert belief is not None
        theta, thetas = jax.tree.map(np.asarray, (self.process.theta_value(history.theta[-1]), self.process.thetas))
        w = index(found.w, 0) if n == 0 else index(found.acted_w, n - 1)
        o = None if m == 0 or n > m else index(found.observations, m - 1)
        return self.process.task, theta, w, [(index(thetas, k), float(p)) for k, p in enumerate(belief[-1])], o

    def _scored(self, observations: Observation) -> Any:
        """Return the symbols of observations, without their given parts."""
        return observations if self._part is None else jax.tree.leaves(observations)[self._part]

    def _setting(self, *readers: Reader) -> Setting:
        return Setting(self.process, *self._values, readers, self._part)

    def history_of(self, episode: Episodes) -> History:
        """Return one episode of a rollout."""
        A, O = self.actions, self.observations
        one: Any = jax.tree.map(np.asarray, episode)
        n, symbols = int(one.mask.sum()), self._scored(one.observations)
        labels = [None] * n if one.expert_actions is None else one.expert_actions[:n].tolist()
        rounds = tuple(
            Round(
                A.index(one.actions[t].tolist(), f"actions[{t}]"),
                "do" if one.intervened[t] else "see",
                "expert" if one.executor[t] == EXPERT else "agent",
                O.index(symbols[t].tolist(), f"observations[{t}]"),
                None if labels[t] is None else A.index(labels[t], f"expert_actions[{t}]"),
            )
            for t in range(n)
        )
        theta = one.theta[: n + 1].tolist() if np.ndim(one.theta) else one.theta.tolist()
        opening = None if one.opening is None else O.index(self._scored(one.opening).tolist(), "opening")
        history = History(tuple(np.ravel(theta).tolist()), rounds, opening)
        return self.from_json(self.to_json(history) | {"theta": theta})

    def about(self) -> dict[str, Any]:
        """Return the thetas, and the words of the process."""
        words, K = self.words, self.num_thetas
        return {
            "thetas": [words.label(k) for k in range(K)],
            "theta_names": [words.theta(k) for k in range(K)],
            "words": {name: getattr(words, name) for name in ("plural", "theta_is", "acts", "role")},
            "question": words.outcomes.question.strip() or "What happens?",
            "drawing": type(self.process.task).draw not in DRAW_BELIEF,
        }

    def outcome(self, o: Any) -> Any:
        """Return the observation itself."""
        return o

    def examples(self) -> dict[str, History]:
        """Return histories of the paper, by name; none for most processes."""
        return examples_of(self.process, self.actions, self.num_rounds)

    def _symbols(self, history: History) -> Symbols:
        check_length(history, self.num_rounds)
        N, rounds = self.num_rounds, history.rounds

        def padded(values: Sequence[Any], like: Any) -> Any:
            return jnp.asarray(stacked(values, like, N))

        theta = np.full(N + 1, history.theta[-1], np.int32)
        theta[: len(history.theta)] = history.theta
        return Symbols(
            jnp.asarray(theta),
            jnp.asarray(stacked([history.opening], self.observations.like, 1)[0]),
            padded([r.action for r in rounds], self.actions.like),
            padded([r.observation for r in rounds], self.observations.like),
            padded([r.mark == "do" for r in rounds], MARK),
            padded([r.by == "agent" for r in rounds], MARK),
        )


def _check_inspectable(process: Any) -> InteractionProcess:
    process = check_process(process)
    if not process.finite:
        raise TypeError(
            f"{process.name} has a continuous Theta, and the inspector needs finitely many values: inspect "
            "process.particles(1000, key=key), which restricts Theta to draws from its prior."
        )
    return process
