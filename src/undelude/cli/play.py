"""`undelude play`: a person is Nature, and watches a sober and a deluded agent (Section 2, Remark 11)."""

import dataclasses
import secrets
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Array, Bool, Float, Int, Key
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from undelude import inference
from undelude.agents.exact import ExactAgent
from undelude.cli import backend
from undelude.cli.console import make_console
from undelude.cli.errors import ExitCode, UsageError
from undelude.distributions import Categorical
from undelude.inference import Belief
from undelude.process import InteractionProcess
from undelude.tasks.registry import make

NAMES = ("sober", "deluded")
BAR_WIDTH = 20


class _Quit(Exception):
    """The person has had enough."""


@dataclasses.dataclass(frozen=True)
class Play:
    """Be Nature: pay two agents or do not, and watch what they come to believe."""

    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK")] = "bandit"
    """One whose rounds are paid or not, such as bandit and prize_or_frog."""
    seed: int | None = None
    """Of what the agents and the program draw; a new one each time by default."""

    def run(self, args: Sequence[str]) -> ExitCode:
        """Carry it out."""
        del args
        backend.configure()
        process = make(self.task)
        _check_playable(process)
        seed = secrets.randbits(31) if self.seed is None else self.seed
        game = _Game(process, jax.random.key(seed), make_console(stderr=False))
        try:
            game.introduce()
            while game.round < process.num_rounds:
                game.play_round()
        except _Quit:
            game.console.print("\n")
        game.conclude()
        return ExitCode.OK


class _Player:
    """One agent and what has happened to it."""

    def __init__(self, process: InteractionProcess, name: str):
        self.name = name
        self.agent = ExactAgent(process, "do" if name == "sober" else "see")
        self.belief = self.agent.init(num_rounds=process.num_rounds)
        # What the same history says when its actions are read as interventions.
        self.sober_belief = self.belief
        self.actions: list[int] = []
        self.observations: list[int] = []

    def act(self, key: Key[Array, ""]) -> int:
        """Choose an action from its belief."""
        return int(_act(self.agent, self.belief, key))

    def learn(self, action: int, observation: int) -> None:
        """What it did, and what came of it."""
        intervened = self.agent.own_actions == "do"
        a, o = jnp.asarray(action, jnp.int32), jnp.asarray(observation, jnp.int32)
        self.belief = _update(self.agent, self.belief, a, o, jnp.asarray(intervened))
        self.sober_belief = _update(self.agent, self.sober_belief, a, o, jnp.asarray(True))
        self.actions.append(action)
        self.observations.append(observation)


class _Game:
    """A game, and how far it has come."""

    def __init__(self, process: InteractionProcess, key: Key[Array, ""], console: Console):
        self.process, self.key, self.console = process, key, console
        self.players = [_Player(process, name) for name in NAMES]
        self.round = 0
        self.theta = -1

    def introduce(self) -> None:
        """Say what this is, and have theta chosen."""
        K, T = self.process.num_thetas, self.process.num_rounds
        noun = self._noun()
        self.console.print(
            f"You are Nature. One of {K} {noun}s is the best, and only you know which.\n"
            f"For {T} rounds a sober and a deluded agent each pull one, as an expert would who knew the best; you say "
            "whether it pays. Both reason exactly, by Bayes' rule. They differ in one thing: to the sober agent its "
            "own pulls are its own doing, to the deluded one they are an expert's, and so evidence.\n"
        )
        self._say_law()
        answer = self._ask(f"Which {noun} is the best? [1-{K}, Enter: the program draws it, q: quit] ", [str(k + 1) for k in range(K)])
        self.theta = int(answer) - 1 if answer else int(self.process.sample_theta(self._next_key()))
        self.console.print(f"The best is {noun} {self.theta + 1}.\n")

    def play_round(self) -> None:
        """Both agents act, the person answers, all look at the beliefs."""
        self.console.print(f"Round {self.round + 1} of {self.process.num_rounds}", style="bold")
        for player in self.players:
            a = player.act(self._next_key())
            told = self._ask(f"  The {player.name:7} agent pulls {a + 1}. Does it pay? [y/n, Enter: draw it, q] ", ["y", "n"])
            o = int(told == "y") if told else self._draw(player.belief, a)
            if not told:
                self.console.print(f"    It {'pays' if o else 'does not pay'}.")
            player.learn(a, o)
        self.round += 1
        self._show_beliefs()

    def conclude(self) -> None:
        """What happened."""
        for player in self.players:
            n, best = len(player.actions), player.actions.count(self.theta)
            if n == 0:
                self.console.print(f"The {player.name} agent did not come to play.")
                continue
            self.console.print(
                f"The {player.name} agent pulled {_times(n)}, the best {self._noun()} {_times(best)}, and was paid "
                f"{_times(sum(player.observations))}. {self._favourite(player.belief)}"
            )
        deluded = self.players[1]
        if deluded.actions:
            favourite = int(deluded.belief.log_posterior.argmax())
            owed = float(jnp.exp(deluded.sober_belief.log_posterior[favourite]))
            self.console.print(
                f"What it was paid alone would speak for {self._noun()} {favourite + 1} with {owed:.2f}; "
                "the rest of its belief comes from its own pulls."
            )
        if any(bool(player.belief.impossible) for player in self.players):
            self.console.print("Some answers were impossible under every theta; the agents left those out of account.")

    def _favourite(self, belief: Belief) -> str:
        p = np.exp(belief.log_posterior)
        top = np.flatnonzero(p > p.max() - 1e-4)
        if len(top) > 1:
            return f"It takes {self._noun()}s {', '.join(str(k + 1) for k in top)} to be as likely, {p.max():.2f} each."
        return f"It believes in {self._noun()} {top[0] + 1} with {p.max():.2f}{'' if top[0] == self.theta else ', wrongly'}."

    def _say_law(self) -> None:
        law = np.asarray(_payment(self.process, self.players[0].belief))
        K, A = law.shape
        if K == A and A > 1:
            off = law[~np.eye(A, dtype=bool)]
            if np.ptp(np.diag(law)) < 1e-6 and np.ptp(off) < 1e-6:
                self.console.print(
                    f"They expect the best to pay with probability {law[0, 0]:.2g} and any other with {off[0]:.2g}. "
                    "Be as fair as you like.\n"
                )

    def _show_beliefs(self) -> None:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
        table.add_column(f"  {self._noun()}")
        for player in self.players:
            table.add_column(f"the {player.name} agent believes")
        beliefs = [np.exp(player.belief.log_posterior) for player in self.players]
        for k in range(self.process.num_thetas):
            best = k == self.theta
            table.add_row(f"  {k + 1}{' best' if best else ''}", *(self._bar(float(b[k]), best) for b in beliefs))
        self.console.print(table)
        self.console.print()

    def _bar(self, p: float, best: bool) -> Text:
        eighths = " ▏▎▍▌▋▊▉█" if self.console.encoding.startswith("utf") else "        #"
        whole, part = divmod(round(p * BAR_WIDTH * 8), 8)
        bar = (eighths[8] * whole + (eighths[part] if part else "")).ljust(BAR_WIDTH)
        return Text.assemble((bar, "green" if best else "yellow"), f" {p:.2f}")

    def _noun(self) -> str:
        return "arm" if self.process.num_thetas == self.process.action_law.num_categories else "theta"

    def _draw(self, belief: Belief, a: int) -> int:
        law = _payment(self.process, belief)[self.theta, a]
        return int(jax.random.uniform(self._next_key()) < law)

    def _next_key(self) -> Key[Array, ""]:
        self.key, key = jax.random.split(self.key)
        return key

    def _ask(self, question: str, answers: list[str]) -> str:
        """One of `answers`, or "" for Enter; raises `_Quit` at q and at the end of input."""
        while True:
            try:
                answer = self.console.input(question, markup=False).strip().lower()
            except EOFError:
                raise _Quit from None
            if not sys.stdin.isatty():
                self.console.print(answer)  # A terminal has shown what was typed.
            if answer in ("q", "quit"):
                raise _Quit
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
    if not isinstance(process.action_law, Categorical):
        refuse("its actions are no symbols")
    observations = process.observation_law
    if not (isinstance(observations, Categorical) and observations.num_categories == 2):
        refuse("its observations are not just two, pays and does not pay")
    if process.opening or process.transition is not None:
        refuse("it opens with an observation or its theta changes")


@eqx.filter_jit
def _act(agent: ExactAgent, belief: Belief, key: Key[Array, ""]) -> Int[Array, ""]:
    return agent.act(belief, key=key)[0]


@eqx.filter_jit
def _update(agent: ExactAgent, belief: Belief, a: Array, o: Array, intervened: Bool[Array, ""]) -> Belief:
    return agent.g_O(o, agent.g_A(a, belief, intervened=intervened))


@eqx.filter_jit
def _payment(process: InteractionProcess, belief: Belief) -> Float[Array, "K A"]:
    """`Q(O = 1 | theta, a)` in the state that a belief remembers."""
    actions = jnp.arange(process.action_law.num_categories)
    after = jax.vmap(lambda a: inference.update_action(process, belief, a, True))(actions)
    return jax.vmap(lambda b: inference.task_laws(process, b).probs[:, 1])(after).T
