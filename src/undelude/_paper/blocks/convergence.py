"""Section 3: the policy converges to the expert where there is feedback."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.figure import Figure

import undelude as ud
from undelude._distributions import as_categorical
from undelude._drawing.svg import DO, MUTED, SEE, STYLE, WIDTH, Svg, to_figure
from undelude._paper.item import Block, Settings, equal, holds
from undelude._process import inference

SHOWN_ROUNDS = (1, 10, 100, 1000)


def without_feedback(process: ud.InteractionProcess) -> ud.InteractionProcess:
    """The same expert, but every arm pays alike, so that nothing tells theta from another."""
    return eqx.tree_at(lambda p: p.task.log_probs, process, replace_fn=lambda x: jnp.full_like(x, -jnp.log(2)))


def kl_to_expert(process: ud.InteractionProcess, mark: Any, *, seed: int, num_episodes: int) -> np.ndarray:
    """`KL(Q(A_t | theta) || P(A_t | m))` of an exact agent on its own histories, mean over episodes, `[T]`, nats."""
    agent = ud.ExactAgent(process, own_actions=mark)
    episodes = ud.rollout(
        process, agent, key=jax.random.key(seed), num_episodes=num_episodes, num_rounds=SHOWN_ROUNDS[-1]
    )
    distributions = as_categorical(inference.expert_distributions(process, inference.init(process)))
    expert = np.asarray(distributions.probs, float)  # [K, A], whatever happened before
    P_A = np.exp(np.asarray(ud.posterior(process, episodes), float))[:, :-1] @ expert
    row = expert[np.asarray(episodes.theta)][:, None]
    return np.maximum((row * np.log(row / P_A)).sum(-1), 0).mean(0)


def block(settings: Settings) -> Block:
    """The policy of equation 3 approaches the expert's, where feedback tells theta."""
    size = {"seed": settings.seed, "num_episodes": max(settings.num_episodes // 40, 50)}
    bandit = ud.tasks.bandit()
    kl = {mark: kl_to_expert(bandit, mark, **size) for mark in ("do", "see")}
    kl["blind"] = kl_to_expert(without_feedback(bandit), "do", **size)
    do, see, blind = (kl[name][np.array(SHOWN_ROUNDS) - 1] for name in ("do", "see", "blind"))
    name, first = "section-3-convergence", 0.6 * np.log(3) + 0.4 * np.log(0.5)
    items = [equal(f"{name}/KL-to-the-expert/round-1", do[0], first, ".6 log 3 + .4 log 1/2", ours=True)]
    for t, before, now, bound in zip(SHOWN_ROUNDS[1:], do[:-1], do[1:], (0.4, 0.05, 1e-4), strict=True):
        falls = now < bound and now < before + 1e-6  # Of float32.
        items.append(
            holds(f"{name}/KL-to-the-expert/round-{t}", now, f"falls towards 0: under {bound:g}", falls, ours=True)
        )
    items += [
        holds(
            f"{name}/KL-to-the-expert/own-actions-as-evidence",
            see,
            "deluded, it does not converge",
            see[-1] > 0.2,
            ours=True,
        ),
        equal(
            f"{name}/KL-to-the-expert/without-feedback",
            blind,
            [first] * 4,
            "under broad conditions only: here it never falls",
            ours=True,
        ),
    ]
    text = [
        f"{size['num_episodes']:,} agents play the bandit for 1,000 rounds each. What is shown is how far their policy "
        "is from that of an expert who knows the best arm, as a Kullback-Leibler divergence in nats per action, "
        "averaged over agents, in rounds 1, 10, 100 and 1,000. It falls to nothing for the agent that treats its "
        "actions as interventions; the one that takes them for evidence grows certain, often of a wrong arm, and "
        "stays away.",
        "The conditions matter. With the same expert on a process whose rewards say nothing about theta, there is "
        "nothing to learn from, and the distance is the same in round 1,000 as in round 1.",
    ]
    caption = "Distance from the expert's policy, round by round; both axes are logarithmic."
    title = "Section 3: the policy converges to the expert's"
    return Block(name, title, text, items, figures=[(_convergence_figure(kl), caption)])


def _convergence_figure(kl: dict[str, np.ndarray]) -> Svg:
    rounds = np.unique(np.geomspace(1, SHOWN_ROUNDS[-1], 60).astype(int))
    looks = {
        "do": ("own actions done", {"color": DO}),
        "see": ("own actions seen", {"color": SEE, "ls": "--"}),
        "blind": ("done, no feedback", {"color": MUTED, "ls": ":"}),
    }
    with matplotlib.rc_context(STYLE):
        canvas = Figure(figsize=(WIDTH, 2.7), layout="constrained")
        axes = canvas.subplots()
        for name, (label, look) in looks.items():
            axes.loglog(rounds, np.maximum(kl[name][rounds - 1], 1e-9), label=label, lw=1.6, **look)
        axes.set(xlabel="round", title="KL(expert ‖ agent), nats per action", ylim=(1e-3, 2))
        axes.set_xticks(SHOWN_ROUNDS, [f"{t:,}" for t in SHOWN_ROUNDS])
        axes.set_yticks([1e-3, 1e-2, 1e-1, 1], ["0.001", "0.01", "0.1", "1"])
        axes.legend(frameon=False, loc="lower left", handlelength=2.6)
        ends = ", ".join(f"{label} {kl[name][-1]:.2g}" for name, (label, _) in looks.items())
        alt = f"Distance from the expert over 1,000 rounds; at the end, in nats: {ends}."
        return to_figure(canvas, "convergence", alt)
