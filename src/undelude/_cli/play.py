"""The command `undelude play`: a person plays Nature against a sober and a deluded agent (Section 2, Remark 11)."""

import secrets
import sys
from typing import NoReturn

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from undelude._agents.exact import ExactAgent
from undelude._asking import QuitError, ask
from undelude._cli import backend
from undelude._cli.console import make_console
from undelude._cli.errors import ExitCode, UsageError
from undelude._cli.options import Call, Play
from undelude._compiled import compiled
from undelude._distributions import Block, Symbols, as_categorical
from undelude._process.host_world import World
from undelude._process.inference import Belief
from undelude._process.process import InteractionProcess
from undelude.tasks.game_words import all_outcomes, outcomes_of, words_of
from undelude.tasks.registry import make

# Width of a bar in characters.
BAR_WIDTH = 20


def run(options: Play, call: Call) -> ExitCode:
    """Run the command."""
    del call
    backend.configure()
    process = make(options.task)
    _check_playable(process)
    assert isinstance(process, InteractionProcess)
    seed = secrets.randbits(31) if options.seed is None else options.seed
    game = _Game(process, jax.random.key(seed), make_console(stderr=False))
    try:
        game.introduce()
        while game.round < process.num_rounds:
            game.play_round()
    except QuitError:
        game.console.print("\n")
    except KeyboardInterrupt:
        game.console.print()
        raise
    game.conclude()
    return ExitCode.OK


class _Player:
    """One agent with its history.

    Attributes:
        belief: its belief.
        sober_belief: the belief after the same history, with its actions read as interventions.
        was_refuted: whether a round was impossible by its belief.
    """

    def __init__(self, process: InteractionProcess, name: str):
        self.name = name
        self.agent = ExactAgent(process, "do" if name == "sober" else "see")
        self.belief = self.agent.init(num_rounds=process.num_rounds)
        self.sober_belief = self.belief
        self.was_refuted = False
        self.actions: list[np.ndarray] = []
        self.observations: list[int] = []

    def act(self, key: Key[Array, ""]) -> tuple[np.ndarray, np.ndarray]:
        """Choose an action; return it with the probabilities of the observations that the agent then expects."""
        intervened = jnp.asarray(self.agent.own_actions == "do")
        a, expected = _act(self.agent, self.belief, intervened, key)
        return np.asarray(a), np.asarray(expected)

    def learn(self, action: np.ndarray, observation: int) -> None:
        """Update the beliefs by an action and its observation."""
        intervened = self.agent.own_actions == "do"
        a, o = jnp.asarray(action, jnp.int32), jnp.asarray(observation, jnp.int32)
        # Reset the flag, so that it tells whether this round was impossible.
        before = eqx.tree_at(lambda b: b.impossible, self.belief, jnp.asarray(False))
        self.belief = _update(self.agent, before, a, o, jnp.asarray(intervened))
        self.was_refuted |= bool(self.belief.impossible)
        self.sober_belief = _update(self.agent, self.sober_belief, a, o, jnp.asarray(True))
        self.actions.append(action)
        self.observations.append(observation)


class _Game:
    """The state of a game."""

    def __init__(self, process: InteractionProcess, key: Key[Array, ""], console: Console):
        self.process, self.key, self.console = process, key, console
        self.players = [_Player(process, name) for name in ("sober", "deluded")]
        self.round = 0
        self.theta = -1
        # `Q(O | theta, a)` in the first round.
        self.probs, rewards = all_outcomes(process)
        self.words = words_of(process, self.probs, rewards)

    def introduce(self) -> None:
        """Explain the game, and have theta chosen."""
        K, T, words = self.process.num_thetas, self.process.num_rounds, self.words
        certain = self.probs.size > 0 and bool(np.isin(self.probs, (0, 1)).all())
        rule = "the outcomes follow from theta" if certain else words.outcomes.rule
        self.console.print(
            f"You are {words.role}. There are {K} {words.plural}, and only you know {words.which}.\n"
            f"For {T} rounds a sober and a deluded agent each imitate {words.expert} who knew it too; {rule}. Both "
            "reason exactly, by Bayes' rule. They differ in one thing: the sober agent reads its actions as its own "
            "interventions, and the deluded one reads them as an expert's choices, and so as evidence.\n"
        )
        if words.expectation and not certain:
            self.console.print(f"{words.expectation}You need not be fair.\n")
        keys = [str(k + 1) for k in range(K)]
        offer = ", ".join(f"{key} {name}" for key, name in zip(keys, words.names, strict=False)) or f"1-{K}"
        answer = self._ask(f"W{words.which[1:]}? ", offer, keys)
        self.theta = int(answer) - 1 if answer else int(self.process.sample_theta(self._next_key()))
        self.console.print(f"{words.theta_is.format(words.label(self.theta))}\n")

    def play_round(self) -> None:
        """Let both agents act, ask the person for each outcome that is open, and show the beliefs."""
        words, outcomes = self.words, self.words.outcomes
        self.console.print(f"Round {self.round + 1} of {self.process.num_rounds}", style="bold")
        for player in self.players:
            a, expected = player.act(self._next_key())
            action = f"{words.acts} {words.action(a)}, and expects {outcomes.expected(expected)}"
            self.console.print(f"  The {player.name:7} agent {action}.", soft_wrap=True)
            p = np.asarray(outcomes_of(self.process, player.belief, jnp.asarray(a))[self.theta])
            choices = outcomes.choices(np.flatnonzero(p).tolist())
            answer = ""
            if len(choices) > 1:
                answer = self._ask(f"    {outcomes.question}", outcomes.offer(choices), [*choices])
            o = choices[answer] if answer else int(jax.random.choice(self._next_key(), len(p), p=jnp.asarray(p)))
            if not (answer and outcomes.keys):
                self.console.print(f"    {outcomes.says[o]}")
            player.learn(a, o)
            if player.belief.impossible:
                self.console.print("    This is impossible by its belief, which therefore stays as it was.")
        self.round += 1
        self._show_beliefs()

    def conclude(self) -> None:
        """Summarise the game."""
        if self.theta >= 0:
            self.console.print(self.words.theta_is.format(self.words.label(self.theta)))
        for player in self.players:
            if not player.actions:
                self.console.print(f"The {player.name} agent has not acted.")
                continue
            words, outcomes = self.words, self.words.outcomes
            best = ""
            if words.right is not None:
                best = f", {words.best} {_times([words.right(a) for a in player.actions].count(self.theta))}"
            seen = ""
            if outcomes.watched is not None:
                seen = f", and {outcomes.observed} {_times(player.observations.count(outcomes.watched))}"
            self.console.print(
                f"The {player.name} agent {words.acted} {_times(len(player.actions))}{best}{seen}. "
                f"{self._favourite(player.belief)}"
            )
        deluded = self.players[1]
        if deluded.actions and not deluded.was_refuted:
            favourite = int(deluded.belief.log_posterior.argmax())
            p = float(jnp.exp(deluded.sober_belief.log_posterior[favourite]))
            self.console.print(
                f"By the outcomes of its actions alone, the probability of {self.words.theta(favourite)} is {p:.2f}."
            )

    def _favourite(self, belief: Belief) -> str:
        p = np.exp(belief.log_posterior)
        top = np.flatnonzero(p > p.max() - 1e-4).tolist()
        if len(top) > 1:
            names = ", ".join(map(self.words.label, top))
            return f"It believes in each of the {self.words.plural} {names} with probability {p.max():.2f}."
        wrongly = "" if top[0] == self.theta else ", wrongly"
        return f"It believes in {self.words.theta(top[0])} with probability {p.max():.2f}{wrongly}."

    def _show_beliefs(self) -> None:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
        table.add_column(f"  {self.words.noun}")
        for player in self.players:
            table.add_column(f"the {player.name} agent believes")
        beliefs = [np.exp(player.belief.log_posterior) for player in self.players]
        for k in range(self.process.num_thetas):
            is_true = k == self.theta
            label = Text(f"  {self.words.label(k)} {f'({self.words.true})' if is_true else ''}", no_wrap=True)
            table.add_row(label, *(self._bar(float(b[k]), "green" if is_true else "yellow") for b in beliefs))
        self.console.print(table)
        self.console.print()

    def _bar(self, p: float, style: str) -> Text:
        eighths = " ▏▎▍▌▋▊▉█" if self.console.encoding.startswith("utf") else "        #"
        whole, part = divmod(round(p * BAR_WIDTH * 8), 8)
        bar = (eighths[8] * whole + (eighths[part] if part else "")).ljust(BAR_WIDTH)
        return Text.assemble((bar, style), f" {p:.2f}")

    def _next_key(self) -> Key[Array, ""]:
        self.key, key = jax.random.split(self.key)
        return key

    def _ask(self, question: str, offer: str, answers: list[str]) -> str:
        """Return one of `answers`, or "" for Enter; raise `QuitError` at q and at the end of the input."""
        prompt = f"{question}[{offer}, Enter: the program chooses, q: quit] "
        # A terminal shows the typed answer by itself.
        return ask(
            lambda: self.console.input(prompt, markup=False),
            self.console.print,
            answers,
            enter=True,
            echoes=not sys.stdin.isatty(),
        )


def _times(n: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(n, f"{n} times")


def _check_playable(process: World) -> None:
    def refuse(why: str) -> NoReturn:
        raise UsageError(f"{process.name} cannot be played, because {why}; try: undelude play bandit")

    if not isinstance(process, InteractionProcess):
        raise UsageError(
            f"{process.name} cannot be played, because it is a simulator and no game of tables. Watch its agents: "
            "undelude train makes a page with a film, and undelude check plays it."
        )
    if not process.finite:
        refuse("its theta is continuous")
    if not isinstance(process.action_spec, Symbols | Block):
        refuse("its actions are not symbols")
    if not isinstance(process.observation_spec, Symbols) or process.observation_spec.n is None:
        refuse("its observations are not symbols")
    if process.opening:
        refuse("it opens with an observation")
    if process.transition is not None:
        refuse("its theta changes")
    if process.ends_early:
        refuse("its episodes may end early")


@compiled
def _act(
    agent: ExactAgent, belief: Belief, intervened: Bool[Array, ""], key: Key[Array, ""]
) -> tuple[Int[Array, "*L"], Float[Array, " O"]]:
    a, m = agent.act(belief, key=key)
    return a, as_categorical(agent.f_O(agent.g_A(a, m, intervened=intervened))).probs


@compiled
def _update(
    agent: ExactAgent, belief: Belief, a: Int[Array, "*L"], o: Int[Array, ""], intervened: Bool[Array, ""]
) -> Belief:
    return agent.g_O(o, agent.g_A(a, belief, intervened=intervened))
