"""The command `undelude play`: a person plays Nature against a sober and a deluded agent (Section 2, Remark 11)."""

import secrets
import sys
from typing import NamedTuple, NoReturn

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
from undelude._cli import backend
from undelude._cli.console import make_console
from undelude._cli.errors import ExitCode, UsageError
from undelude._cli.options import Call, Play
from undelude._compiled import compiled
from undelude._distributions import Symbols, as_categorical, num_symbols
from undelude._process import inference
from undelude._process.inference import Belief
from undelude._process.process import InteractionProcess
from undelude.tasks.registry import make

# Width of a bar in characters.
BAR_WIDTH = 20


class _Words(NamedTuple):
    """The words of a game for theta and actions."""

    noun: str
    plural: str
    adjective: str
    which: str
    theta_is: str
    acts: str
    acted: str


class _Outcomes(NamedTuple):
    """The words of a game for the two observations."""

    one: str
    zero: str
    question: str
    decides: str
    expects: str
    observed: str


# For bandits, in which the best action of each theta is its own.
ARMS = _Words("arm", "arms", "best", "which arm is the best", "The best arm is {}.", "pulls", "pulled")
BOXES = _Words("box", "boxes", "prize", "which box holds the prize", "The prize is in box {}.", "opens", "opened")
THETAS = _Words("theta", "thetas", "true", "which theta is the true one", "The true theta is {}.", "takes", "acted")

# For processes in which a 1 earns more than a 0 after every action.
PAYMENTS = _Outcomes("It pays.", "It does not pay.", "Does it pay?", "whether it pays", "to be paid", "was paid")
PRIZES = _Outcomes(
    "Out comes the prize.",
    "Out jumps a frog.",
    "Does it hold the prize?",
    "whether it holds the prize",
    "the prize",
    "found the prize",
)
SYMBOLS = _Outcomes("It shows 1.", "It shows 0.", "Does it show 1?", "whether it shows 1", "a 1", "was shown 1")


def run(options: Play, call: Call) -> ExitCode:
    """Run the command."""
    del call
    backend.configure()
    process = make(options.task)
    _check_playable(process)
    seed = secrets.randbits(31) if options.seed is None else options.seed
    game = _Game(process, jax.random.key(seed), make_console(stderr=False))
    try:
        game.introduce()
        while game.round < process.num_rounds:
            game.play_round()
    except _QuitError:
        game.console.print("\n")
    except KeyboardInterrupt:
        game.console.print()
        raise
    game.conclude()
    return ExitCode.OK


class _QuitError(Exception):
    """The request of the person to end the game."""


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
        self.actions: list[int] = []
        self.observations: list[int] = []

    def act(self, key: Key[Array, ""]) -> tuple[int, float]:
        """Choose an action; return it with the probability of a payment that the agent then expects."""
        intervened = jnp.asarray(self.agent.own_actions == "do")
        a, expected = _act(self.agent, self.belief, intervened, key)
        return int(a), float(expected)

    def learn(self, action: int, observation: int) -> None:
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
        # `Q(O = 1 | theta, a)` in the first round, and the rewards of both observations, `[K, A]` and `[K, A, 2]`.
        self.payment, rewards = map(np.asarray, _payments(process, self.players[0].belief))
        expected = self.payment * rewards[..., 1] + (1 - self.payment) * rewards[..., 0]
        self.is_bandit = _own_action_is_best(expected)
        is_frog = self.is_bandit and process.name == "frog"
        self.words = BOXES if is_frog else ARMS if self.is_bandit else THETAS
        pays = bool((rewards[..., 1] > rewards[..., 0]).all())
        self.outcomes = PRIZES if is_frog else PAYMENTS if pays else SYMBOLS

    def introduce(self) -> None:
        """Explain the game, and have theta chosen."""
        K, T, words = self.process.num_thetas, self.process.num_rounds, self.words
        certain = self._is_certain(self.payment)
        rule = "the outcomes follow from theta" if certain else f"you say {self.outcomes.decides}"
        self.console.print(
            f"You are Nature. There are {K} {words.plural}, and only you know {words.which}.\n"
            f"For {T} rounds a sober and a deluded agent each imitate an expert who knew it too; {rule}. Both reason "
            "exactly, by Bayes' rule. They differ in one thing: the sober agent reads its actions as its own "
            "interventions, and the deluded one reads them as an expert's choices, and so as evidence.\n"
        )
        if self.is_bandit and not certain:
            self._print_payments()
        question = f"W{words.which[1:]}? [1-{K}, Enter: the program chooses, q: quit] "
        answer = self._ask(question, [str(k + 1) for k in range(K)])
        self.theta = int(answer) - 1 if answer else int(self.process.sample_theta(self._next_key()))
        self.console.print(f"{words.theta_is.format(self.theta + 1)}\n")

    def play_round(self) -> None:
        """Let both agents act, ask the person for each outcome that is open, and show the beliefs."""
        words, outcomes = self.words, self.outcomes
        self.console.print(f"Round {self.round + 1} of {self.process.num_rounds}", style="bold")
        for player in self.players:
            a, expected = player.act(self._next_key())
            action = f"{words.acts} {a + 1}, and expects {outcomes.expects} with probability {expected:.2f}"
            self.console.print(f"  The {player.name:7} agent {action}.", soft_wrap=True)
            p = _payments(self.process, player.belief)[0][self.theta, a]
            question = f"    {outcomes.question} [y/n, Enter: the program chooses, q: quit] "
            answer = "" if self._is_certain(p) else self._ask(question, ["y", "n"])
            o = int(answer == "y") if answer else int(jax.random.uniform(self._next_key()) < p)
            if not answer:
                self.console.print(f"    {outcomes.one if o else outcomes.zero}")
            player.learn(a, o)
            if player.belief.impossible:
                self.console.print("    This is impossible by its belief, which therefore stays as it was.")
        self.round += 1
        self._show_beliefs()

    def conclude(self) -> None:
        """Summarise the game."""
        for player in self.players:
            if not player.actions:
                self.console.print(f"The {player.name} agent has not acted.")
                continue
            words, num_best = self.words, _times(player.actions.count(self.theta))
            best = f", the {words.adjective} {words.noun} {num_best}" if self.is_bandit else ""
            self.console.print(
                f"The {player.name} agent {words.acted} {_times(len(player.actions))}{best}, and "
                f"{self.outcomes.observed} {_times(sum(player.observations))}. {self._favourite(player.belief)}"
            )
        deluded = self.players[1]
        if deluded.actions and not deluded.was_refuted:
            favourite = int(deluded.belief.log_posterior.argmax())
            p = float(jnp.exp(deluded.sober_belief.log_posterior[favourite]))
            self.console.print(
                f"By the outcomes of its actions alone, {self.words.noun} {favourite + 1} has probability {p:.2f}."
            )

    def _favourite(self, belief: Belief) -> str:
        p = np.exp(belief.log_posterior)
        top = np.flatnonzero(p > p.max() - 1e-4)
        if len(top) > 1:
            names = ", ".join(str(k + 1) for k in top)
            return f"It believes in each of the {self.words.plural} {names} with probability {p.max():.2f}."
        wrongly = "" if top[0] == self.theta else ", wrongly"
        return f"It believes in {self.words.noun} {top[0] + 1} with probability {p.max():.2f}{wrongly}."

    def _print_payments(self) -> None:
        best, others = np.diag(self.payment), self.payment[~np.eye(len(self.payment), dtype=bool)]
        if np.ptp(best) < 1e-6 and np.ptp(others) < 1e-6:
            self.console.print(
                f"They expect the best arm to pay with probability {best[0]:.2g} and any other with {others[0]:.2g}. "
                "You need not be fair.\n"
            )

    def _show_beliefs(self) -> None:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
        table.add_column(f"  {self.words.noun}")
        for player in self.players:
            table.add_column(f"the {player.name} agent believes")
        beliefs = [np.exp(player.belief.log_posterior) for player in self.players]
        for k in range(self.process.num_thetas):
            is_true = k == self.theta
            label = f"  {k + 1} {self.words.adjective if is_true else ''}"
            table.add_row(label, *(self._bar(float(b[k]), "green" if is_true else "yellow") for b in beliefs))
        self.console.print(table)
        self.console.print()

    def _bar(self, p: float, style: str) -> Text:
        eighths = " ▏▎▍▌▋▊▉█" if self.console.encoding.startswith("utf") else "        #"
        whole, part = divmod(round(p * BAR_WIDTH * 8), 8)
        bar = (eighths[8] * whole + (eighths[part] if part else "")).ljust(BAR_WIDTH)
        return Text.assemble((bar, style), f" {p:.2f}")

    @staticmethod
    def _is_certain(p: np.ndarray | Array) -> bool:
        """Return whether theta and the action determine the outcome."""
        return bool(np.isin(p, (0, 1)).all())

    def _next_key(self) -> Key[Array, ""]:
        self.key, key = jax.random.split(self.key)
        return key

    def _ask(self, question: str, answers: list[str]) -> str:
        """Return one of `answers`, or "" for Enter; raise `_QuitError` at q and at the end of the input."""
        while True:
            try:
                answer = self.console.input(question, markup=False).strip().lower()
            except EOFError:
                raise _QuitError from None
            if not sys.stdin.isatty():
                self.console.print(answer)  # A terminal shows the typed answer by itself.
            if answer in ("q", "quit"):
                raise _QuitError
            if answer in ("yes", "no"):
                answer = answer[0]
            if answer in ("", *answers):
                return answer
            self.console.print(f"    Please answer with {', '.join(answers)}, Enter or q.")


def _times(n: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(n, f"{n} times")


def _check_playable(process: InteractionProcess) -> None:
    def refuse(why: str) -> NoReturn:
        raise UsageError(f"{process.name} cannot be played, because {why}; try: undelude play bandit")

    if not process.finite:
        refuse("its theta is continuous")
    if not isinstance(process.action_spec, Symbols):
        refuse("its actions are not symbols")
    if process.observation_spec != Symbols(2):
        refuse("its observations are not two, pays and does not pay")
    if process.opening or process.transition is not None or process.ends_early:
        refuse("it opens with an observation, its theta changes, or it may end early")


def _num_actions(process: InteractionProcess) -> int:
    return num_symbols(process.action_spec)


@compiled
def _act(
    agent: ExactAgent, belief: Belief, intervened: Bool[Array, ""], key: Key[Array, ""]
) -> tuple[Int[Array, ""], Float[Array, ""]]:
    a, m = agent.act(belief, key=key)
    return a, as_categorical(agent.f_O(agent.g_A(a, m, intervened=intervened))).probs[1]


@compiled
def _update(
    agent: ExactAgent, belief: Belief, a: Int[Array, ""], o: Int[Array, ""], intervened: Bool[Array, ""]
) -> Belief:
    return agent.g_O(o, agent.g_A(a, belief, intervened=intervened))


@compiled
def _payments(process: InteractionProcess, belief: Belief) -> tuple[Float[Array, "K A"], Float[Array, "K A 2"]]:
    """Return `Q(O = 1 | theta, a)` for the memories of a belief, and the rewards of both observations."""

    def given_action(a: Int[Array, ""]) -> tuple[Float[Array, " K"], Float[Array, "K 2"]]:
        after = inference.update_action(process, belief, a, True)
        distributions = inference.task_distributions(process, after)
        w_axis = None if process.task.theta_free_memory else 0
        reward = jax.vmap(jax.vmap(process.task.reward, in_axes=(None, None, None, 0)), in_axes=(0, w_axis, None, None))
        rewards = jnp.asarray(reward(process.thetas, after.w, a, jnp.arange(2)), float)
        return as_categorical(distributions).probs[:, 1], rewards

    probs, rewards = jax.vmap(given_action, out_axes=1)(jnp.arange(_num_actions(process)))
    return probs, rewards


def _own_action_is_best(expected: np.ndarray) -> bool:
    """Return whether the action of the same number as theta is clearly the best one under each theta, `[K, A]`."""
    K, A = expected.shape
    if K != A:
        return False
    others = np.where(np.eye(K, dtype=bool), -np.inf, expected)
    return bool((np.diag(expected) > others.max(-1) + 1e-6).all())
