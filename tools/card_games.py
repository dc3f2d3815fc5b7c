"""Writes the game trees of `undelude.tasks.cards`, each with an opponent, from OpenSpiel.

    pip install open_spiel && python tools/card_games.py        (a minute)

A tree is a payoff to player 0, or `[probability, rank, tree]` for each card that may be dealt, or `{"player", "state",
"moves"}`. The opponent is the average policy of CFR+ (Tammelin, 2014, arXiv:1407.5042) as OpenSpiel implements it.
"""

import json
from pathlib import Path
from typing import Any

import pyspiel
from open_spiel.python.algorithms import cfr, exploitability

FOLDER = Path(__file__).parent.parent / "src" / "undelude" / "tasks" / "games"
# Name: the game in OpenSpiel, iterations of CFR+, actions. Suits make no difference in Leduc, so they are merged.
GAMES = {
    "kuhn": ("kuhn_poker", 2000, ["pass", "bet"]),
    "leduc": ("leduc_poker(suit_isomorphism=True)", 1000, ["fold", "call", "raise"]),
}


def tree(state: Any, states: dict[str, int]) -> Any:
    """Return the tree below a state of the game, and number its information states in `states` as they occur."""
    if state.is_terminal():
        return state.returns()[0]
    if state.is_chance_node():
        return [[p, outcome, tree(state.child(outcome), states)] for outcome, p in state.chance_outcomes()]
    number = states.setdefault(state.information_state_string(), len(states))
    moves = {str(a): tree(state.child(a), states) for a in state.legal_actions()}
    return {"player": state.current_player(), "state": number, "moves": moves}


def main() -> None:
    """Write both games."""
    FOLDER.mkdir(exist_ok=True)
    for name, (opened, iterations, actions) in GAMES.items():
        game, states = pyspiel.load_game(opened), {}
        root = tree(game.new_initial_state(), states)
        solver = cfr.CFRPlusSolver(game)
        for _ in range(iterations):
            solver.evaluate_and_update_policy()
        policy = solver.average_policy()
        nash = [[0.0] * len(actions) for _ in states]
        for text, i in states.items():
            for a, p in enumerate(policy.policy_for_key(text)):
                nash[i][a] = round(float(p), 6)
        found = {
            "game": opened,
            "iterations": iterations,
            "exploitability": float(f"{exploitability.exploitability(game, policy):.3g}"),
            "actions": actions,
            "states": list(states),
            "nash": nash,
            "tree": root,
        }
        text = json.dumps(found, separators=(",", ":")) + "\n"
        (FOLDER / f"{name}.json").write_text(text)
        print(name, len(states), "states,", len(text) // 1000, "kB, exploitability", found["exploitability"])


if __name__ == "__main__":
    main()
