"""Section 3: the policy converges to the expert's if observations are informative."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.figure import Figure

import undelude as ud
from undelude._distributions import as_categorical
from undelude._drawing.colours import DO, MUTED, SEE
from undelude._drawing.svg import STYLE, WIDTH, Svg, to_figure
from undelude._paper.item import Block, Settings, equal, holds
from undelude._process import inference

SHOWN_ROUNDS = (1, 10, 100, 1000)


def without_feedback(process: ud.InteractionProcess) -> ud.InteractionProcess:
    """Return the process with the same expert and uninformative rewards: every arm pays with probability 1/2."""
    return eqx.tree_at(lambda p: p.task.log_probs, process, replace_fn=lambda x: jnp.full_like(x, -jnp.log(2)))


def kl_to_expert(process: ud.InteractionProcess, mark: Any, *, seed: int, num_episodes: int) -> np.ndarray:
    """Return `KL(Q(A_t | theta) || P(A_t | m))` of an exact agent on its own histories, `[T]`, the mean in nats."""
    agent = ud.ExactAgent(process, own_actions=mark)
    episodes = ud.rollout(
        process, agent, key=jax.random.key(seed), num_episodes=num_episodes, num_rounds=SHOWN_ROUNDS[-1]
    )
    distributions = as_categorical(inference.expert_distributions(process, inference.init(process)))
    expert = np.asarray(distributions.probs, float)  # [K, A], the same in every round
    P_A = np.exp(np.asarray(ud.posterior(process, episodes), float))[:, :-1] @ expert
    row = expert[np.asarray(episodes.theta)][:, None]
    return np.maximum((row * np.log(row / P_A)).sum(-1), 0).mean(0)


def block(settings: Settings) -> Block:
    """Compare the policy of equation 3 with the expert's over 1,000 rounds."""
    size = {"seed": settings.seed, "num_episodes": max(settings.num_episodes // 40, 50)}
    bandit = ud.tasks.bandit()
    kl = {mark: kl_to_expert(bandit, mark, **size) for mark in ("do", "see")}
    kl["blind"] = kl_to_expert(without_feedback(bandit), "do", **size)
    do, see, blind = (kl[name][np.array(SHOWN_ROUNDS) - 1] for name in ("do", "see", "blind"))
    name, first = "section-3-convergence", 0.6 * np.log(3) + 0.4 * np.log(0.5)
    items = [equal(f"{name}/KL-to-the-expert/round-1", do[0], first, ".6 log 3 + .4 log 1/2", ours=True)]
    for t, before, now, bound in zip(SHOWN_ROUNDS[1:], do[:-1], do[1:], (0.4, 0.05, 1e-4), strict=True):
        falls = now < bound and now < before + 1e-6  # Float32 rounding.
        items.append(
            holds(f"{name}/KL-to-the-expert/round-{t}", now, f"converges to 0: below {bound:g}", falls, ours=True)
        )
    items += [
        holds(
            f"{name}/KL-to-the-expert/own-actions-as-evidence",
            see,
            "deluded: does not converge",
            see[-1] > 0.2,
            ours=True,
        ),
        equal(
            f"{name}/KL-to-the-expert/without-feedback",
            blind,
            [first] * 4,
            "under broad conditions only: constant without feedback",
            ours=True,
        ),
    ]
    text = [
        f"{size['num_episodes']:,} agents play the bandit for 1,000 rounds each. Listed is the Kullback-Leibler "
        "divergence of their policy from that of the expert, who knows the best arm: nats per action, averaged over "
        "agents, in rounds 1, 10, 100 and 1,000. It converges to 0 if the agent treats its actions as interventions. "
        "If the agent conditions on them, it becomes certain, often of a wrong arm, and the divergence stays.",
        "The conditions matter: with uninformative rewards and the same expert, the divergence in round 1,000 is that "
        "of round 1.",
    ]
    caption = "KL divergence from the expert's policy by round; both axes are logarithmic."
    title = "Section 3: the policy converges to the expert's"
    return Block(name, title, text, items, figures=[(_convergence_figure(kl), caption)])


def _convergence_figure(kl: dict[str, np.ndarray]) -> Svg:
    rounds = np.unique(np.geomspace(1, SHOWN_ROUNDS[-1], 60).astype(int))
    looks = {
        "do": ("intervening", {"color": DO}),
        "see": ("conditioning", {"color": SEE, "ls": "--"}),
        "blind": ("intervening, no feedback", {"color": MUTED, "ls": ":"}),
    }
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
        axes = figure.subplots()
        for name, (label, look) in looks.items():
            axes.loglog(rounds, np.maximum(kl[name][rounds - 1], 1e-9), label=label, lw=1.6, **look)
        axes.set(xlabel="round", title="KL(expert ‖ agent), nats per action", ylim=(1e-3, 2))
        axes.set_xticks(SHOWN_ROUNDS, [f"{t:,}" for t in SHOWN_ROUNDS])
        axes.set_yticks([1e-3, 1e-2, 1e-1, 1], ["0.001", "0.01", "0.1", "1"])
        axes.legend(frameon=False, loc="lower left", handlelength=2.6)
        ends = ", ".join(f"{label} {kl[name][-1]:.2g}" for name, (label, _) in looks.items())
        alt = f"KL divergence from the expert over 1,000 rounds; at the end, in nats: {ends}."
        return to_figure(figure, "convergence", alt)
