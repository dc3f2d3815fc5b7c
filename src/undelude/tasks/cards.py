"""Poker against a fixed opponent: "a player who sees the cards of the others" (Section 1) is the expert.

Game trees and opponents are from OpenSpiel (Lanctot et al., 2019, arXiv:1908.09453), written by tools/card_games.py.
"""

import functools
import json
import re
from importlib import resources
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from undelude._checks import check_between, check_probabilities
from undelude._process.process import InteractionProcess
from undelude._types import Belief, Frame, Memory, Observation, Theta
from undelude.tasks.known_mdp import KnownMDP, soft_policy
from undelude.tasks.tabular import AbstractTabularTask, TabularExpert

RANKS = ("J", "Q", "K")
# The move that replaces an illegal one: a fold without a bet is a check, and a raise above the limit a call.
INSTEAD = "1"


def kuhn(opponent: str | ArrayLike = "nash", *, temperature: float = 0.25) -> InteractionProcess:
    """Return a process: one hand of Kuhn poker, three cards and one bet; a negative control with hardly any delusion.

    Arguments and rules are as for `leduc`; actions are pass and bet.

    >>> kuhn().num_thetas, kuhn().action_spec.n
    (3, 2)
    """
    return _hand("kuhn", opponent, temperature)


def leduc(opponent: str | ArrayLike = "nash", *, temperature: float = 0.25) -> InteractionProcess:
    """Return a process: one hand of Leduc hold'em, six cards of three ranks, two rounds of bets, one card on the table.

    `Theta` is the rank of the opponent's card. The opening deals the seat and the player's own card. An observation is
    the player's information at its next move (own card, table, bets), or the payoff. The expert sees the opponent's
    card and knows the opponent's policy, so the hand is a known MDP for it. It plays the soft best response,
    `Q(a | s) ~ exp(Q*(s, a) / temperature)`. Actions are fold, call and raise; a fold without a bet is a check, and a
    raise above the limit is a call. After the end of the hand nothing happens.

    Why it deludes: an agent that reads its own raise as evidence takes it for proof that the opponent's card is beaten.
    The effect is small, because a hand has at most four moves of the player (two in Kuhn poker).

    Args:
        opponent: "nash", the average policy of CFR+; "random", uniform over legal moves; or a table `[I, A]` with a row
            for each information state of `undelude.tasks.cards.states(game)`.
        temperature: of the expert, in chips; greater than 0, so that every move has some mass.

    Raises:
        ValueError: the opponent is unknown, its table is not a policy, or the temperature is not positive.

    >>> leduc().num_thetas, leduc().num_rounds
    (3, 4)
    """
    return _hand("leduc", opponent, temperature)


class HandTask(AbstractTabularTask):
    """A hand as one player meets it. An outcome is the player's next information state, or the payoff.

    Attributes:
        log_probs, rewards, row_of, outcomes: as in `AbstractTabularTask`.
        known: the player's information in each state, as OpenSpiel writes it.
        moves: the names of the actions.
    """

    log_probs: Float[Array, "K R A O"]
    rewards: Float[Array, "K R A O"]
    row_of: Int[Array, " O"]
    outcomes: tuple[tuple[int, float | None, bool], ...] = eqx.field(static=True)
    known: tuple[str, ...] = eqx.field(static=True)
    moves: tuple[str, ...] = eqx.field(static=True)

    def init(self, theta: Theta) -> Memory:
        """Return the state before the deal, and -1 for no move yet."""
        del theta
        return jnp.asarray(self.log_probs.shape[1] - 1, jnp.int32), jnp.asarray(-1, jnp.int32)

    def draw(self, frame: Frame, theta: Theta, w: Memory, belief: Belief) -> None:
        """Draw the card in hand, the card on the table, the move, and the belief about the opponent's card."""
        state, move = int(w[0]), int(w[1])
        if state < len(self.known):
            text = self.known[state]
            cards = re.findall(r"(?:Private|Public): (\d)", text) or [text[0]]
            for x, card in zip((0.1, 0.4), cards, strict=False):
                frame.box((x, 0.1), (x + 0.22, 0.42), outline=frame.ink)
                frame.text((x + 0.11, 0.26), RANKS[int(card)], size=0.14)
            frame.text((0.82, 0.26), self.moves[move] if move >= 0 else "", size=0.07)
        else:
            frame.text((0.5, 0.26), "over" if state == len(self.known) else "dealt", size=0.07, colour=frame.muted)
        frame.bars([p for _, p in belief], framed=int(theta), labels=[f"it has {x}" for x in RANKS], top=0.6)

    def say(self, o: Observation) -> str:
        """Name the payoff, once the hand is over."""
        _, paid, _ = self.outcomes[int(o)]
        return "" if not paid else f"{paid:+g}"


def states(game: Literal["kuhn", "leduc"]) -> tuple[str, ...]:
    """Return the information states of a player to move, as OpenSpiel writes them, in the order of the observations."""
    return tuple(_load(game)["states"])


@functools.cache
def _load(name: str) -> dict[str, Any]:
    return json.loads((resources.files("undelude.tasks") / "games" / f"{name}.json").read_text())


def _hand(name: str, opponent: str | ArrayLike, temperature: float) -> InteractionProcess:
    temperature = check_between(f"{name}: temperature", temperature, 0, np.inf, ends=False)
    game = _load(name)
    tables = _Tables(game, _policy(name, game, opponent))
    P, log_P = tables.P / tables.P.sum(-1, keepdims=True), np.full(tables.P.shape, -np.inf)
    log_P[P > 0] = np.log(P[P > 0])
    K, rows, _, _ = P.shape
    over = rows - 2
    worth = np.concatenate([np.zeros(over), tables.payoffs, [0.0]])
    row_of = np.concatenate([np.arange(over), np.full(len(tables.payoffs) + 1, over)])
    mdps = [_hand_mdp(P[k], worth, row_of, over) for k in range(K)]
    log_pi = np.stack([soft_policy(mdp, temperature=temperature, discount=1.0) for mdp in mdps])
    outcomes = [(s, None, False) for s in range(over)] + [(over, float(x), True) for x in tables.payoffs]
    arrays = (jnp.asarray(log_P, float), jnp.broadcast_to(jnp.asarray(worth, float), P.shape))
    return InteractionProcess(
        prior=tables.prior,
        thetas=jnp.arange(K),
        task=HandTask(
            *arrays,
            jnp.asarray(row_of, jnp.int32),
            (*outcomes, (over, None, True)),
            known=tuple(game["states"]),
            moves=tuple(game["actions"]),
        ),
        expert=TabularExpert(jnp.asarray(log_pi, float), jnp.asarray(row_of, jnp.int32), temperature),
        num_rounds=tables.num_rounds,
        opening=True,
        name=name,
    )


def _hand_mdp(P: np.ndarray, worth: np.ndarray, row_of: np.ndarray, over: int) -> KnownMDP:
    """Return the hand as a party that knows the opponent's card controls it; it ends in the row "over"."""
    going_on = P * (row_of < over)
    going_on[over:] = 0.0  # Nobody moves when the hand is over, and before the deal.
    s, a, o = np.nonzero(going_on)
    rewards = P @ worth
    rewards[over:] = 0.0
    return KnownMDP(s, a, row_of[o], going_on[s, a, o], rewards, np.eye(len(P))[-1])


def _policy(name: str, game: dict[str, Any], opponent: str | ArrayLike) -> Float[np.ndarray, "I A"]:
    """Return the opponent's policy, with mass on legal moves only."""
    legal = np.zeros((len(game["states"]), len(game["actions"])))
    _mark_legal(game["tree"], legal)
    if isinstance(opponent, str):
        if opponent not in ("nash", "random"):
            raise ValueError(f'{name}: opponent must be "nash", "random" or a table, not {opponent!r}.')
        policy = np.array(game["nash"]) if opponent == "nash" else legal
        return policy / policy.sum(-1, keepdims=True)
    policy = np.asarray(opponent, float)
    if policy.shape != legal.shape:
        raise ValueError(f"{name}: the opponent's table has shape {policy.shape}; it must be {legal.shape}.")
    check_probabilities(policy, f"{name}: opponent")
    if (policy[legal == 0] > 0).any():
        state = int(np.argmax(((policy > 0) & (legal == 0)).any(-1)))
        raise ValueError(f"{name}: the opponent makes an illegal move in state {state}, {game['states'][state]}.")
    return policy


def _mark_legal(node: Any, legal: np.ndarray) -> None:
    if isinstance(node, list):
        for _, _, child in node:
            _mark_legal(child, legal)
    elif isinstance(node, dict):
        for move, child in node["moves"].items():
            legal[node["state"], int(move)] = 1
            _mark_legal(child, legal)


class _Tables:
    """A hand as one player meets it, with the opponent as part of Nature.

    Attributes:
        prior: `[K]`, over the opponent's card.
        P: `[K, S + 2, A, O]`, `P(next outcome | card of the opponent, state, action)`. State S is "over" and S + 1
            "before the opening"; an outcome is a state, a payoff or "over".
        payoffs: all payoffs that occur, in order.
        num_rounds: the greatest number of moves of a player in a hand.
    """

    def __init__(self, game: dict[str, Any], policy: np.ndarray):
        self.policy, S, A = policy, len(game["states"]), len(game["actions"])
        # Two cards are dealt, to player 0 and to player 1.
        deals = [(p * q, (x, y), node) for p, x, then in game["tree"] for q, y, node in then]
        K = 1 + max(max(cards) for _, cards, _ in deals)
        self.payoffs = sorted({sign * x for x in _leaves(game["tree"]) for sign in (1, -1)})
        self.symbols = {x: S + i for i, x in enumerate(self.payoffs)}
        self.P = np.zeros((K, S + 2, A, S + len(self.payoffs) + 1))
        self.prior, self.num_rounds = np.zeros(K), 0
        for probability, cards, node in deals:
            for seat in (0, 1):
                k = cards[1 - seat]
                self.prior[k] += probability / 2
                self._reach(node, seat, probability, self.P[k, S + 1])
                self.num_rounds = max(self.num_rounds, self._play(node, seat, k))
        # Over, or a state that this card of the opponent rules out.
        self.P[:, :, :, -1] += self.P.sum(-1) == 0

    def _play(self, node: Any, seat: int, k: int) -> int:
        """Fill in the player's moves below `node`, and return the greatest number of them in a hand."""
        if isinstance(node, list):
            return max(self._play(child, seat, k) for _, _, child in node)
        if not isinstance(node, dict):
            return 0
        depth = max(self._play(child, seat, k) for child in node["moves"].values())
        if node["player"] != seat:
            return depth
        for a in range(self.P.shape[2]):
            child = node["moves"].get(str(a), node["moves"].get(INSTEAD))
            self._reach(child, seat, 1.0, self.P[k, node["state"], a])
        return 1 + depth

    def _reach(self, node: Any, seat: int, probability: float, row: np.ndarray) -> None:
        """Add the distribution of the player's next outcome to `row`, over the opponent's moves and the cards dealt."""
        if isinstance(node, list):
            for p, _, child in node:
                self._reach(child, seat, probability * p, row)
        elif not isinstance(node, dict):
            row[..., self.symbols[node if seat == 0 else -node]] += probability
        elif node["player"] == seat:
            row[..., node["state"]] += probability
        else:
            for move, child in node["moves"].items():
                self._reach(child, seat, probability * self.policy[node["state"], int(move)], row)


def _leaves(node: Any) -> set[float]:
    if isinstance(node, list):
        return set().union(*(_leaves(child) for _, _, child in node))
    return set().union(*map(_leaves, node["moves"].values())) if isinstance(node, dict) else {node}
