"""Poker with two cards too few: "a player who sees the cards of the others" (Section 1), against a fixed opponent.

Game trees and the opponent are OpenSpiel's (Lanctot et al., 2019, arXiv:1908.09453), written by tools/card_games.py.
"""

import functools
import json
import re
from importlib import resources
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float

from undelude._checks import check_between, check_probabilities
from undelude._process.process import InteractionProcess
from undelude.tasks.tabular import TabularExpert, TabularTask, soft_value_iteration

RANKS = ("J", "Q", "K")
# Where a move is no move: nothing to fold to is a check, and a raise over the limit a call.
INSTEAD = "1"


def kuhn(opponent: str | ArrayLike = "nash", *, temperature: float = 0.25) -> InteractionProcess:
    """Kuhn poker, one hand: three cards, one bet. The negative control: there is hardly anything to be deluded by.

    See `leduc`, of which it is the small sister; actions are pass and bet.

    >>> kuhn().num_thetas, kuhn().action_spec.n
    (3, 2)
    """
    return _hand("kuhn", opponent, temperature)


def leduc(opponent: str | ArrayLike = "nash", *, temperature: float = 0.25) -> InteractionProcess:
    """Leduc hold'em, one hand: six cards of three ranks, two rounds of bets, one card on the table between them.

    `Theta` is the rank of the opponent's card. Seat and own card are dealt with the opening; an observation is what the
    player knows at its next move (own card, table, bets), or what the hand paid. The expert sees the opponent's card
    and knows its policy: with them the hand is a known MDP, and it plays the soft best response,
    `Q(a | s) ~ exp(Q*(s, a) / temperature)`. Actions are fold, call and raise; where there is nothing to fold to a fold
    is a check, and where nobody may raise a raise is a call. After the end of the hand nothing happens.

    Why it deludes: a raise of one's own is taken for proof that the opponent's card is beaten. But a hand has at most
    four moves, so that it is little; and Kuhn poker has two.

    Args:
        opponent: "nash", the average policy of CFR+, or "random", any legal move alike; or its own table, `[I, A]`,
            a row for each information state of `states(game)`.
        temperature: of the expert, in chips; greater than 0, so that every move has some mass.

    Raises:
        ValueError: an unknown opponent, a table that is no policy, or a temperature that is not positive.

    >>> leduc().num_thetas, leduc().num_rounds
    (3, 4)
    """
    return _hand("leduc", opponent, temperature)


class HandTask(TabularTask):
    """The hand as one player meets it; `outcomes` of `TabularTask` are what it knows next, or what it was paid.

    Attributes:
        known: what the player knows in each state, in OpenSpiel's words.
        moves: the names of the actions.
    """

    known: tuple[str, ...] = eqx.field(static=True)
    moves: tuple[str, ...] = eqx.field(static=True)

    def init(self, theta: Any) -> Any:
        """Before the deal; -1, for no move yet."""
        state, _ = super().init(theta)
        return state, jnp.asarray(-1, jnp.int32)

    def draw(self, frame: Any, theta: Any, w: Any, belief: Any) -> None:
        """The card in hand, the card on the table, the move, and what the opponent's card is held to be."""
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

    def say(self, o: Any) -> str:
        """What the hand paid, once it is over."""
        _, paid, _ = self.outcomes[int(o)]
        return "" if not paid else f"{paid:+g}"


def states(game: Literal["kuhn", "leduc"]) -> tuple[str, ...]:
    """What a player may know when it is to move, as OpenSpiel writes it; an observation's number is its place here."""
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
    K, rows, A, _ = P.shape
    over = rows - 2
    worth = np.concatenate([np.zeros(over), tables.payoffs, [0.0]])
    state_of = np.concatenate([np.arange(over), np.full(len(tables.payoffs) + 1, over)])
    to_state = np.zeros((K, rows, A, rows))
    for o, s in enumerate(state_of):
        to_state[..., s] += P[..., o]
    terminal = np.broadcast_to(np.arange(rows) == over, (K, rows))
    log_pi = soft_value_iteration(to_state, P @ worth, terminal, temperature=temperature, discount=1.0)
    log_pi[:, -1] = -np.log(A)  # Before the opening nobody moves.
    outcomes = [(s, None, False) for s in range(over)] + [(over, float(x), True) for x in tables.payoffs]
    arrays = (jnp.asarray(log_P, float), jnp.broadcast_to(jnp.asarray(worth, float), P.shape))
    return InteractionProcess(
        prior=tables.prior,
        thetas=jnp.arange(K),
        task=HandTask(
            *arrays,
            jnp.asarray(state_of, jnp.int32),
            (*outcomes, (over, None, True)),
            known=tuple(game["states"]),
            moves=tuple(game["actions"]),
        ),
        expert=TabularExpert(jnp.asarray(log_pi, float), jnp.asarray(state_of, jnp.int32)),
        num_rounds=tables.num_rounds,
        opening=True,
        name=name,
    )


def _policy(name: str, game: dict[str, Any], opponent: str | ArrayLike) -> Float[np.ndarray, "I A"]:
    """The opponent's, with no mass on what is not legal."""
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
    """The hand as one player meets it, the opponent folded into Nature.

    Attributes:
        prior: `[K]`, the opponent's card.
        P: `[K, S + 2, A, O]`: from what the player knows and does to what it sees next, for each card of the opponent;
            S is "over" and S + 1 "before the opening"; O is a state, a payoff or "over".
        payoffs: those that occur, in order.
        num_rounds: the most moves that a player makes in a hand.
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
        self.P[:, :, :, -1] += self.P.sum(-1) == 0  # Over, or a state that this card of the opponent rules out.

    def _play(self, node: Any, seat: int, k: int) -> int:
        """Fill in every move of the player from here on; how many it makes at most."""
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
        """Add to `row` what the player sees next: the opponent moves and cards are dealt until it is to move."""
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
