"""Remark 4: a controller outside the model."""

import numpy as np

import undelude as ud
from undelude._paper.blocks.models import draw, log_tables
from undelude._paper.criterion import at_least, near
from undelude._paper.item import Block, Rows, Settings


def controller(belief: np.ndarray, family: np.ndarray, action: np.ndarray, outcome: np.ndarray) -> np.ndarray:
    """Update the belief of a controller: an action selects a distribution from a family and is not a random variable.

    Args:
        belief: belief before the action, `[B, K]`.
        family: for each action the distribution of the outcome given the state, `[A, K, O]`.
        action: `[B]`.
        outcome: `[B]`.

    Returns:
        The belief after the outcome, `[B, K]`.
    """
    belief = belief * family[action, :, outcome]
    return belief / belief.sum(-1, keepdims=True)


# Behaviours: the distribution of an action, `[B, A]`, from the belief, theta and the expert's table `[K, A]`.
BEHAVIOURS = {
    "expert": lambda b, theta, expert: expert[theta],
    "intervening-agent": lambda b, theta, expert: b @ expert,
    "adversary": lambda b, theta, expert: np.eye(expert.shape[1])[(b @ expert).argmin(-1)],
    "arm-1-only": lambda b, theta, expert: np.eye(expert.shape[1])[0 * theta],
}


def block(settings: Settings) -> Block:
    """Compare a controller's filter with `ud.posterior`, for four behaviours."""
    bandit, rng = ud.tasks.bandit(), np.random.default_rng(settings.seed)
    prior, size = np.asarray(bandit.prior, float), max(settings.num_episodes // 20, 50)
    expert, task = (np.exp(table) for table in log_tables(bandit))
    family = task.swapaxes(0, 1)

    episodes = []
    for behaviour in BEHAVIOURS.values():
        theta = draw(rng, np.broadcast_to(prior, (size, len(prior))))
        beliefs, actions, outcomes = [np.broadcast_to(prior, (size, len(prior)))], [], []
        for _ in range(bandit.num_rounds):
            actions.append(draw(rng, behaviour(beliefs[-1], theta, expert)))
            outcomes.append(draw(rng, family[actions[-1], theta]))
            beliefs.append(controller(beliefs[-1], family, actions[-1], outcomes[-1]))
        episodes.append([np.stack(x, 1) for x in (beliefs, actions, outcomes)])
    beliefs, actions, outcomes = (np.concatenate(x) for x in zip(*episodes, strict=True))
    # Under both marks, in one call.
    marks = np.repeat([True, False], len(actions))[:, None] & np.ones(bandit.num_rounds, bool)
    a, o = (np.concatenate([x, x]) for x in (actions, outcomes))
    histories = ud.Episodes.of(bandit, actions=a, observations=o, intervened=marks)
    done, seen = np.split(np.exp(np.asarray(ud.posterior(bandit, histories), float)), 2)
    # The largest difference for each behaviour.
    apart, from_see = (np.abs(x - beliefs).reshape(len(BEHAVIOURS), -1).max(1) for x in (done, seen))
    rows = Rows(
        "remark-4",
        "Remark 4, p. 6",
        {"task": "bandit", "rounds": bandit.num_rounds, "episodes per behaviour": size, "seed": settings.seed},
    )
    return Block(
        "remark-4",
        "Remark 4: a controller outside the model",
        [
            "The belief filter of control, in two lines of NumPy: an action is an index that selects the distribution "
            "of the next outcome, and the computation contains no policy. It was run on bandits of twenty rounds, "
            f"{size:,} for each of four behaviours: the expert, an agent that intervenes, an adversary that pulls the "
            "arm that the expert is least likely to pull, and a constant behaviour that pulls arm 1. Listed is the "
            "largest difference of its belief from `ud.posterior` with all actions marked do, over all rounds and "
            "histories. The two agree for every behaviour.",
        ],
        [
            *(
                rows.paper(
                    f"largest-difference/behaviour-{name}",
                    '"results in the (correct) second posterior belief formula in (2)"',
                    x,
                    near(0),
                    behaviour=name.replace("-", " "),
                )
                for name, x in zip(BEHAVIOURS, apart, strict=True)
            ),
            rows.example(
                "largest-difference-from-the-first-posterior",
                "it is not the first posterior of equation 2, for any of the four behaviours",
                from_see,
                at_least(0.1),
            ),
        ],
    )
