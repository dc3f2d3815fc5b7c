"""One simulator in Python, the parties that read its recordings, and what each of them believes and predicts."""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from undelude._agents.base import AbstractAgent
from undelude._agents.host import HostAgent
from undelude._agents.networks.action_mask import ACTION_MASK
from undelude._inspector.abstract import AbstractInspection
from undelude._inspector.digest import digest_of_world
from undelude._inspector.given import DO, EXACT, MARKED, SEE, TOLD, check_agents, named_agents, reads_marks, reads_of
from undelude._inspector.history import History, Round, check_length, checked_rounds
from undelude._inspector.host_reader import HostPlay, predictions, stacked
from undelude._inspector.host_words import HostWords
from undelude._inspector.knowledge import Knowledge, evidence_of
from undelude._inspector.recorded import ExactReading, draw_action, read_along, read_exactly, symbol_probabilities
from undelude._inspector.recording import Arranged, Recordings, check_paid, check_recordable
from undelude._inspector.setting import Reader
from undelude._inspector.stage import Stage
from undelude._inspector.state import Account, Divergence, State, kl_and_tv
from undelude._inspector.summary import Summary, densities, log_losses, summarise, unknown_summary
from undelude._inspector.values import Values
from undelude._process.episodes import Episodes
from undelude._process.host_world import World
from undelude._process.world import RoundKeys, key_of
from undelude._rollout.players import AbstractPlayer, HostPlayer, TracedPlayer
from undelude._tree import index
from undelude._types import Action

# Readings that are kept, of which a flip needs all but those of parties that read the mark.
KEPT = 64


class HostInspection(AbstractInspection):
    """A world that can only be sampled, and the agents that read its recordings.

    A simulator cannot be rewound: what it showed is recorded, and a changed mark changes how the recording is read.
    If theta shows in a declared cue alone, exact do and see exist, by Bayes' rule over the cues (Remark 10).

    Args:
        world: a `ug.HostWorld`, or a `ug.FunctionalWorld`.
        agents: by name; a sequence is named "agent", "agent 2" and so on.
        num_rounds: N, most rounds of a recording; the world's own by default.

    Attributes:
        world: the world.
        agents: the given agents by name.
        num_rounds: N.
        recordings: its recordings as arrays.
        num_actions: A; None if actions are real numbers.
        symbol: the part of an observation that theta changes, such as the cue; None without exact answers.
        why_inexact: why there are no exact answers; None if there are.

    Raises:
        TypeError: actions are neither symbols nor real numbers, an observation is too large, or there are neither exact
            answers nor agents to show.
        ValueError: an agent was made for another process, a name is taken, or the world has fewer rounds than N.
    """

    has_opening, shows_opening, theta_changes, is_slow = True, False, False, True
    actions: Values
    observations: Values

    def __init__(
        self,
        world: World,
        agents: Mapping[str, AbstractAgent | HostAgent] | Sequence[AbstractAgent | HostAgent] = (),
        *,
        num_rounds: int | None = None,
    ):
        self.world = check_recordable(world)
        self.num_rounds = checked_rounds(num_rounds, world.num_rounds, world.name)
        if self.num_rounds > world.num_rounds:
            raise ValueError(
                f"num_rounds={self.num_rounds}, but a lifetime of {world.name} has {world.num_rounds} rounds: make the "
                f"world with num_rounds={self.num_rounds}."
            )
        self.recordings = Recordings(self.world, self.num_rounds)
        self.actions, self.observations = self.recordings.actions, self.recordings.observations
        self.name, self.num_thetas = world.name, self.recordings.num_thetas
        self.digest = digest_of_world(self.world)
        self.num_actions = self.recordings.num_actions
        self.agents = named_agents(agents)
        traced = {name: x for name, x in self.agents.items() if isinstance(x, AbstractAgent)}
        check_agents(world, traced)
        self.readers = {name: Reader(x, reads_of(x)) for name, x in traced.items()}
        self.symbol, self.why_inexact = self._exact_part()
        if self.symbol is None and not self.agents:
            raise TypeError(
                f"{world.name} has no exact answers to show: {self.why_inexact} Give an agent, such as that of a run."
            )
        self.knowledge = Knowledge(self.world, self.symbol, self.num_rounds) if self.symbol else None
        self.exact = EXACT if self.symbol else ()
        self.stage = Stage(self.world, self.actions, self.observations, self.symbol)
        self.words = HostWords(self.world, self.num_thetas, self.num_actions, self.observations, self.symbol)
        self.action_symbols, self.observation_symbols = self.words.actions(), self.words.outcomes()
        self.note_on_agents = self.words.note_on_agents
        self._kept: OrderedDict[Any, Any] = OrderedDict()

    @property
    def actors(self) -> tuple[str, ...]:
        """The names of all that can act; an expert who is a person is asked by the page alone."""
        told = () if self.world.expert_is_person else (TOLD,)
        return self.parties if self.symbol else (*self.agents, *told)

    @property
    def first_rounds(self) -> tuple[int, bool]:
        """All rounds; none yet if a person is to teach."""
        return 0 if self.world.expert_is_person else self.num_rounds, True

    def _exact_part(self) -> tuple[str | None, str | None]:
        """Return the part of an observation that theta changes, or why it is not known."""
        _, opening = self.world.begin(jax.random.fold_in(key_of(0), 0)[None], None)
        o = self.observations.of(index(opening, 0))
        evidence = evidence_of(self.world, [(o, o)], np.zeros(1, bool))
        if isinstance(evidence, str):
            return None, evidence
        if len(evidence.symbols) != 1:
            return None, "its evidence names no symbol that theta changes."
        return next(iter(evidence.symbols)), None

    # Reading --------------------------------------------------------------------------------------------------------

    def read(self, history: History, parties: Collection[str] | None = None) -> State:
        """Return what the parties, by default all, believe and predict at each point of a recording."""
        x, m = self.recordings.arrange(history), history.num_observations
        answers = self._answers(x)
        accounts = {
            name: self._account(x, name, answers) for name in self.parties if parties is None or name in parties
        }
        rewards = np.array([r.reward for r in history.rounds[:m]], float)
        seen = [history.opening, *(r.observation for r in history.rounds[:m])]
        masks = [o[ACTION_MASK] > 0 if isinstance(o, dict) and ACTION_MASK in o else None for o in seen]
        return State(history, accounts, rewards, masks, self.has_ended(history))

    def _answers(self, x: Arranged) -> tuple[Any, ...]:
        """Return the predictions of actions of exact do and exact see, if there are exact answers."""
        return tuple(self._exactly(x, name).actions for name in (DO, SEE)) if self.symbol else ()

    def _account(self, x: Arranged, name: str, answers: tuple[Any, ...]) -> Account:
        n, m = len(x.history), x.history.num_observations
        found = self._summary(x, name, answers)
        of_actions, of_symbols, no = found.divergences(m + 1), np.full((2, 2, n), np.nan), np.zeros(n, bool)
        asked = np.array([r.expert_action is not None for r in x.history.rounds], bool)
        losses = np.where(asked, self._losses(x, name)[:n], np.nan)
        beliefs: tuple[Any, Any] = None, None
        impossible, acted_impossible = no[:m], no
        if name in self.exact:
            exact = self._exactly(x, name)
            symbols: Any = np.array(exact.symbols, float)[:n]
            symbols[m:] = np.nan  # What the symbol depends on has not happened yet.
            of_symbols = np.array(
                [kl_and_tv(np.asarray(self._exactly(x, y).symbols, float)[:n], symbols) for y in (DO, SEE)]
            )
            beliefs = np.asarray(exact.belief, float)[: m + 1], np.asarray(exact.acted_belief, float)[:n]
            impossible, acted_impossible = np.asarray(exact.impossible)[:m], np.asarray(exact.acted_impossible)[:n]
        else:
            symbols = self._symbols(x, name)
        divergences = {y: Divergence(*of_actions[i], *of_symbols[i]) for i, y in enumerate((DO, SEE))}
        shown = found.shown(m + 1)
        return Account(*beliefs, None, False, shown, symbols, impossible, acted_impossible, divergences, losses)

    def _exactly(self, x: Arranged, name: str) -> ExactReading:
        """Return the reading of an exact party."""
        recorded, history = x.recorded, x.history
        done: Any = {MARKED: recorded.intervened, SEE: np.zeros(self.num_rounds, bool)}.get(name, recorded.by_agent)
        theta = history.theta[0] if name == TOLD else -1

        def read() -> ExactReading:
            assert self.knowledge is not None
            over = [r.observation for r in history.rounds if r.observation is not None]
            known = self.knowledge.of(history.opening, over)
            return read_exactly(known, recorded, done, jnp.asarray(theta))

        return self._keep(("exact", x.seen, bytes(done), theta), read)

    def _predictions(self, x: Arranged, name: str) -> tuple[Any, Any]:
        """Return what an agent predicts: of actions and of observations, arrays with a leading axis."""
        agent = self.agents[name]
        marks = bytes(np.asarray(x.recorded.intervened if reads_marks(agent) else x.recorded.by_agent))
        if isinstance(agent, HostAgent):
            # Of rounds that it executed itself, its `act` is called too.
            key = (name, x.seen, marks, bytes(np.asarray(x.recorded.by_agent)), x.history.seed)
            return self._keep(key, lambda: self._host_predictions(x.history, agent))
        return self._keep((name, x.seen, marks), lambda: read_along(self.readers[name], x.recorded))

    def _host_predictions(self, history: History, agent: HostAgent) -> tuple[Any, Any]:
        rounds = [(r.action, r.observation, r.by == "agent", r.mark == "do") for r in history.rounds]
        player = HostPlayer(agent, self.world.specs, jax.random.fold_in(key_of(history.seed), 1))
        found = predictions(player, self.num_rounds, history.opening, rounds, has_opening=False)
        N = self.num_rounds
        return stacked(found.actions, N + 1), stacked(found.observations, N)

    def _action_distributions(self, x: Arranged, name: str) -> Any:
        """Return a party's predictions of actions, N + 1 distributions; None if it predicts none."""
        return self._exactly(x, name).actions if name in self.exact else self._predictions(x, name)[0]

    def _summary(self, x: Arranged, name: str, answers: tuple[Any, ...]) -> Summary:
        actions = self._action_distributions(x, name)
        if actions is None:
            return unknown_summary(self.num_rounds + 1, self.num_actions, self.actions.size)
        key = ("summary", *(id(y) for y in (actions, *answers)))

        # The distributions are part of what is kept, so that no other object has their identities.
        def summary() -> Any:
            return summarise(actions, answers, self.num_actions, jax.random.key(0)), actions, answers

        return self._keep(key, summary)[0]

    def _losses(self, x: Arranged, name: str) -> Float[np.ndarray, " N"]:
        """Return `-log P(label)` of each round in nats; any number in rounds without a label."""
        actions = self._action_distributions(x, name)
        if actions is None or all(r.expert_action is None for r in x.history.rounds):
            return np.full(self.num_rounds, np.nan)
        return np.asarray(log_losses(actions, x.labels), float)

    def _symbols(self, x: Arranged, name: str) -> Float[np.ndarray, "n S"] | None:
        observations = self._predictions(x, name)[1]
        if self.symbol is None or observations is None:
            return None
        found = symbol_probabilities(observations, self.symbol)
        return None if found is None else found[: len(x.history)].astype(float)

    def densities(self, history: History, t: int, *, outcome: bool = False) -> dict[str, Any]:
        """Return the density of each number of the action of round `t`, by party; of an outcome, none."""
        if self.num_actions is not None or outcome:
            return {"grid": [], "parties": {}}
        x = self.recordings.arrange(history)
        answers, known = self._answers(x), {}
        for name in self.parties:
            distributions = self._action_distributions(x, name)
            if distributions is not None:
                known[name] = distributions, self._summary(x, name, answers).shown(t + 1)
        taken = history.rounds[t].action if t < len(history) else None
        wide = self.exact if answers else tuple(known)
        return densities(known, t, wide=wide, taken=taken, box=self.actions.box)

    def scenes(self, history: History) -> Sequence[Any] | None:
        """Return what `world.draw` needs before the first action and after each; None if the world draws nothing.

        Raises:
            ValueError: the world shows something else than in the recording, or fails to render.
        """
        if self.world.no_film is not None:
            return None
        m = history.num_observations
        return self.stage.scenes(history, self.recordings.episode(history.truncate(m)))[: m + 1]

    def scene(self, history: History) -> tuple[Any, ...] | None:
        """Return the world, and the arguments of its `draw` with the belief as marked; None if it draws nothing."""
        scenes = self.scenes(history)
        if scenes is None:
            return None
        belief: Sequence[tuple[int, float]] = []
        if self.symbol:
            account = self.read(history).accounts[MARKED]
            row = account.acted_belief if len(history) > history.num_observations else account.belief
            assert row is not None
            belief = list(enumerate(map(float, row[-1])))
        o = [history.opening, *(r.observation for r in history.rounds)][history.num_observations]
        return self.world, history.theta[0], scenes[-1], belief, jax.tree.map(np.asarray, o)

    def _with_more(self, history: History, data: Mapping[str, Any]) -> History:
        check_paid(data["rounds"])
        return history

    def history_of(self, episode: Episodes) -> History:
        """Return one episode of a rollout, checked as a file is."""
        return self.from_json(self.to_json(self.recordings.history_of(episode)))

    def about(self) -> dict[str, Any]:
        """Return the words of the simulator, and why there are no exact answers."""
        return self.words.about() | {"why_inexact": self.why_inexact}

    def outcome(self, o: Any) -> int | str:
        """Return the symbol of an observation, or else the observation in a few words."""
        return self.words.outcome(o)

    def seen(self, history: History) -> list[str]:
        """Return in words what else the agent saw."""
        shown = [history.opening, *(r.observation for r in history.rounds if r.observation is not None)]
        return [self.words.rest(o) for o in shown]

    # Playing --------------------------------------------------------------------------------------------------------

    def begin(self, *, seed: int = 0, theta: int | None = None) -> History:
        """Return an empty recording."""
        drawn, opening = self.stage.begin(seed, theta)
        return History((drawn,), (), opening, seed)

    def play(
        self, history: History, *, rounds: int = 1, actor: str = MARKED, observe: bool = True, label: bool = False
    ) -> History:
        """Let the episode go on: the simulator first plays the recorded actions again.

        Raises:
            ValueError: the party does not exist, the environment fails, it shows something else than recorded, or the
                expert is to be asked and is a person.
        """
        if label and self.world.expert_is_person:
            raise ValueError('the expert is a person: "Expert asked: me" asks you in each round.')
        if rounds:
            self.check_party(actor)
        if self.has_ended(history):
            return history
        check_length(history, self.num_rounds)
        self.stage.go_to(history)
        if len(history) > history.num_observations:
            history = self._answered(history)
        choose = self._chooser(actor, history) if rounds else None
        for i in range(rounds):
            if self.has_ended(history):
                break
            t = len(history)
            asked = self.stage.consult(t) if label or actor == TOLD else None
            action = asked if actor == TOLD or choose is None else self.actions.of(choose(history))
            by = "expert" if actor == TOLD else "agent"
            new = Round(action, self.own_mark(actor), by, None, asked if label else None)
            history = dataclasses.replace(history, rounds=(*history.rounds, new))
            if observe or i < rounds - 1:
                history = self._answered(history)
        self.stage.stays_at(history)
        return history

    def _answered(self, history: History) -> History:
        """Let the simulator answer to the last action."""
        t = len(history) - 1
        answer = self.stage.respond(history.rounds[t].action, t)
        return history.edit(t, observation=answer.observation, reward=answer.reward, ended=answer.ended)

    def _chooser(self, actor: str, history: History) -> Callable[[History], Action] | None:
        """Return a function of the history that chooses the next action."""
        if actor == TOLD:
            return None
        rounds = self.stage.rounds
        if actor in self.exact:

            def choose(history: History) -> Action:
                t = len(history)
                key = RoundKeys.of(jax.random.fold_in(rounds, t)).act
                return draw_action(self._exactly(self.recordings.arrange(history), actor).actions, jnp.asarray(t), key)

            return choose
        agent = self.agents[actor]
        playing = HostPlay(self._player(agent, history.seed), self.num_rounds, history.opening, key_of(history.seed))
        reader = self.readers.get(actor)

        chosen = -1

        def follow(history: History) -> Action:
            nonlocal chosen
            for r in history.rounds[playing.t :]:
                marks = jnp.asarray(r.mark == "do"), jnp.asarray(r.by == "agent")
                done = r.mark == "do" if reader is None else bool(reader.intervened(*marks))
                if playing.t == chosen:  # The agent has read what came before when it chose this action.
                    playing.follow(r.action, r.observation, intervened=done)
                else:
                    playing.read(r.action, r.observation, own=r.by == "agent", intervened=done)
            chosen = playing.t
            return playing.act()

        return follow

    def _player(self, agent: AbstractAgent | HostAgent, seed: int) -> AbstractPlayer:
        if isinstance(agent, AbstractAgent):
            return TracedPlayer(agent)
        return HostPlayer(agent, self.world.specs, jax.random.fold_in(key_of(seed), 1))

    def _end(self, history: History) -> int | None:
        return next((t + 1 for t, r in enumerate(history.rounds) if r.ended), None)

    def _keep(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return what was made for a key, of which the last ones are kept."""
        if key not in self._kept:
            self._kept[key] = make()
        self._kept.move_to_end(key)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return self._kept[key]
