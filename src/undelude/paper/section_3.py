"""Section 3 of the paper recomputed: the sequential case, equation 3, Figure 3d, Remarks 9 to 12."""

import dataclasses
import itertools
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from jaxtyping import Array, Float, Int
from matplotlib.figure import Figure as Canvas

import undelude as ud
from undelude import inference
from undelude.agent import scan
from undelude.paper.figures import figure_3
from undelude.paper.game_tree import extensive_form, information_sets
from undelude.paper.item import Block, Item, Settings, equal, holds, sampled
from undelude.report.beliefs import belief_plot
from undelude.report.svg import DO, INK, MUTED, SEE, STYLE, WIDTH, Figure, to_figure

# ------------------------------------------------------------------------------- the game of Figure 3, and its process

GAME = ("Theta_1", "A_1", "O_1", "Theta_2", "A_2", "O_2")
OBSERVED = ("A_1", "O_1", "A_2", "O_2")
ROUNDS = 2
# Letters of a line in a listing.
LINE = 88


def game(seed: int = 139) -> ud.CausalModel:
    """Figure 3's game of two rounds: six binary variables, each of which listens to all that came before it."""
    rng = np.random.default_rng(seed)
    variables = []
    for i, name in enumerate(GAME):
        p = rng.uniform(0.1, 0.9, [2] * i).round(2)
        variables.append(ud.Variable(name, (0, 1), parents=GAME[:i], table=np.stack([1 - p, p], -1)))
    return ud.CausalModel(variables)


class Past(eqx.Module):
    """All that was done and seen: the round, and the number of the history among those of its length."""

    t: Int[Array, ""]
    code: Int[Array, ""]

    def then(self, symbol: Any, num_symbols: int, *, end: bool = False) -> "Past":
        """The past with one more symbol; `end`, where it is the last of its round."""
        return Past(self.t + end, self.code * num_symbols + symbol)


def _nothing_yet() -> Past:
    return Past(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


class PastTask(ud.AbstractTask[Past]):
    """`Q(O_t | theta, a_1:t, o_1:t-1)` by a table `[K, T, history, O]`."""

    theta_free_memory: ClassVar[bool] = True
    probs: Float[Array, "K T H O"]
    num_actions: int = eqx.field(static=True)

    def init(self, theta: Any) -> Past:
        """Nothing happened yet."""
        return _nothing_yet()

    def Q_O(self, theta: Any, w: Past) -> ud.Categorical:
        """A row of the table."""
        return ud.Categorical(probs=self.probs[theta, w.t, w.code])

    def g_A(self, theta: Any, a: Any, w: Past) -> Past:
        """Remember the action."""
        return w.then(a, self.num_actions)

    def g_O(self, theta: Any, o: Any, w: Past) -> Past:
        """Remember the observation."""
        return w.then(o, self.probs.shape[-1], end=True)

    def reward(self, theta: Any, w: Past, a: Any, o: Any) -> Array:
        """What was observed."""
        return jnp.asarray(o, float)


class PastExpert(ud.AbstractExpert[Past]):
    """`Q(A_t | theta, a_1:t-1, o_1:t-1)` by a table `[K, T, history, A]`."""

    theta_free_memory: ClassVar[bool] = True
    probs: Float[Array, "K T H A"]
    num_observations: int = eqx.field(static=True)

    def init(self, theta: Any) -> Past:
        """Nothing happened yet."""
        return _nothing_yet()

    def Q_A(self, theta: Any, e: Past) -> ud.Categorical:
        """A row of the table."""
        return ud.Categorical(probs=self.probs[theta, e.t, e.code])

    def g_A(self, theta: Any, a: Any, e: Past) -> Past:
        """Remember the action."""
        return e.then(a, self.probs.shape[-1])

    def g_O(self, theta: Any, o: Any, e: Past) -> Past:
        """Remember the observation."""
        return e.then(o, self.num_observations, end=True)


# What Theta is in the process of the game: theta_1 before the first round is over, theta_1:2 after it.
PATHS = ((0,), (1,), (0, 0), (0, 1), (1, 0), (1, 1))


class Extend(eqx.Module):
    """`Q(theta_1:2 | theta_1, a_1, o_1)`: after the first round the path of thetas grows, then it stays."""

    probs: Float[Array, "2 4 2"]  # theta_1, (a_1, o_1), theta_2

    def __call__(self, theta: Any, w: Past) -> ud.Categorical:
        """Over `PATHS`."""
        grown = jnp.zeros(len(PATHS)).at[jnp.array([2, 3]) + 2 * theta].set(self.probs[theta, w.code])
        return ud.Categorical(probs=jnp.where((theta < 2) & (w.t == 1), grown, jnp.eye(len(PATHS))[theta]))


def game_process(model: ud.CausalModel) -> ud.InteractionProcess:
    """The same game as an interaction process whose Theta is the path `theta_1:t`, which grows round by round.

    Args:
        model: of the variables of `GAME`, each listening to all before it, as `game` gives.
    """
    table = {name: np.asarray(model[name].table) for name in GAME}
    first, second = slice(0, 2), slice(2, 6)
    # Where a path does not occur in a round, or a history is too short for the table, any law will do.
    Q_A, Q_O = np.full((6, ROUNDS, 4, 2), 0.5), np.full((6, ROUNDS, 8, 2), 0.5)
    Q_A[first, 0, 0] = table["A_1"]
    Q_O[first, 0, :2] = table["O_1"]
    Q_A[second, 1] = np.einsum("iaojx->ijaox", table["A_2"]).reshape(4, 4, 2)
    Q_O[second, 1] = np.einsum("iaojbx->ijaobx", table["O_2"]).reshape(4, 8, 2)
    return ud.InteractionProcess(
        prior=np.append(table["Theta_1"], np.zeros(4)),
        thetas=jnp.arange(6),
        task=PastTask(jnp.asarray(Q_O, float), 2),
        expert=PastExpert(jnp.asarray(Q_A, float), 2),
        num_rounds=ROUNDS,
        transition=Extend(jnp.asarray(table["Theta_2"].reshape(2, 4, 2), float)),
        name="game of two rounds",
    )


class Tire(eqx.Module):
    """The best arm moves on with probability 1/2 when it was pulled, otherwise with 1/10."""

    num_arms: int = eqx.field(static=True)

    def __call__(self, theta: Any, w: Any) -> ud.Categorical:
        """`w` is the last action."""
        p, arms = jnp.where(w == theta, 1 / 2, 1 / 10), jnp.arange(self.num_arms)
        moved = p * (arms == (theta + 1) % self.num_arms)
        return ud.Categorical(probs=jnp.where(arms == theta, 1 - p, moved))


def tiring_bandit(num_arms: int = 3, num_rounds: int = 3) -> ud.InteractionProcess:
    """Remark 11's bandit whose best arm changes, the sooner the more it is pulled: `P(Theta_t+1 | theta_t, a_t)`."""
    b = ud.tasks.bandit(num_arms=num_arms, num_rounds=num_rounds)
    return ud.InteractionProcess(b.prior, b.thetas, b.task, b.expert, num_rounds, transition=Tire(num_arms))


@eqx.filter_jit
def policies(process: ud.InteractionProcess, histories: ud.Episodes) -> Float[Array, "B T A"]:
    """What an exact agent predicts before each action of each history, the actions marked as they are there."""

    def one(episode: ud.Episodes) -> Array:
        P_A, _ = scan(ud.ExactAgent(process), episode)
        assert isinstance(P_A, ud.Categorical)
        return P_A.probs

    return jax.vmap(one)(histories)


def section_3(settings: Settings) -> Block:
    """Theta drawn anew in every round."""
    model, tiring = game(), tiring_bandit().causal_model(num_rounds=2)
    again = game_process(model).causal_model()
    stays = [tiring.query("Theta_2", see={"Theta_1": 0, "A_1": a})[0] for a in (0, 1)]
    by_history = np.ptp(np.asarray(model["Theta_2"].table)[..., 1], axis=(1, 2))
    gap = np.abs(again.query(OBSERVED) - model.query(OBSERVED)).max()
    num_parents = [len(model[name].parents) for name in GAME]
    text = [
        "The game of Figure 3 has two rounds and six binary variables. Here each of them listens to all that came "
        "before it, with tables drawn at random, so that nothing below rests on an independence that the figure "
        "does not grant. It was built twice: as a `CausalModel`, and as an `InteractionProcess` whose hidden state "
        "is the whole path of thetas so far and whose transition depends on the history.",
        "The second example is a bandit whose best arm moves on, the sooner if it is pulled: there Nature's hidden "
        "move answers what the agent did.",
    ]
    items = [
        equal("section-3/parents", num_parents, range(6), "each may depend on everything before it"),
        holds("section-3/theta-by-history", by_history, "thetas arise as the process unfolds", by_history.min() > 0),
        equal("section-3/best-arm-stays", stays, [1 / 2, 9 / 10], "1/2 where it was pulled, 9/10 where not (ours)"),
        equal("section-3/theta-as-a-path", gap, 0, "the same marginal process over A and O"),
    ]
    captions = (
        "Figure 3a: the game in extensive form; what the agent cannot tell apart is marked alike.",
        "Figure 3b: its causal Bayesian network.",
        "Figure 3c: the network once the actions were done.",
    )
    return Block("section-3", "The sequential case", text, items, list(zip(figure_3(model)[:3], captions, strict=True)))


# -------------------------------------------------------------------------------------------------------- equation 3


def equation_3(settings: Settings) -> Block:
    """Equation 3 after one round of the bandit."""
    bandit = ud.tasks.bandit(num_rounds=2)
    model = bandit.causal_model()
    histories = ud.Episodes.of(
        bandit, actions=[[1, 0]] * 2, observations=[[1, 0]] * 2, intervened=[[True, True], [False, False]]
    )
    done, seen = np.asarray(policies(bandit, histories))[:, 1]
    surgery = model.query("A_2", do={"A_1": 1}, see={"O_1": 1}), model.query("A_2", see={"A_1": 1, "O_1": 1})
    gaps = [np.abs(x - y).max() for x, y in zip((done, seen), surgery, strict=True)]
    text = [
        "The smallest case in which the two readings part: on the five-armed bandit, arm 2 was pulled once and it "
        "paid. As an intervention the pull says nothing, and only the reward speaks for arm 2. As a condition the "
        "pull itself counts as the advice of an expert, six times as likely if arm 2 is the best.",
        "Each number is computed by the recursive agent and by surgery on the graph of two rounds.",
    ]
    items = [
        equal("equation-3/do/same-arm", done[1], 11 / 35, "11/35, by hand"),
        equal("equation-3/do/other-arm", np.delete(done, 1), [6 / 35] * 4, "6/35, by hand"),
        equal("equation-3/see/same-arm", seen[1], 56 / 110, "56/110, by hand"),
        equal("equation-3/see/other-arm", np.delete(seen, 1), [27 / 220] * 4, "27/220, by hand"),
        equal("equation-3/agent-and-surgery", gaps, [0, 0], "two independent computations agree"),
    ]
    return Block("equation-3", "Equation 3: past actions as interventions", text, items)


# ------------------------------------------------------------------------------------------- convergence to the expert

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
    laws = inference.expert_laws(process, inference.init(process))
    assert isinstance(laws, ud.Categorical)
    expert = np.asarray(laws.probs, float)  # [K, A], whatever happened before
    P_A = np.exp(np.asarray(ud.posterior(process, episodes), float))[:, :-1] @ expert
    row = expert[np.asarray(episodes.theta)][:, None]
    return np.maximum((row * np.log(row / P_A)).sum(-1), 0).mean(0)


def converges(settings: Settings) -> Block:
    """The policy of equation 3 approaches the expert's, where feedback tells theta."""
    size = {"seed": settings.seed, "num_episodes": max(settings.num_episodes // 40, 50)}
    bandit = ud.tasks.bandit()
    kl = {mark: kl_to_expert(bandit, mark, **size) for mark in ("do", "see")}
    kl["blind"] = kl_to_expert(without_feedback(bandit), "do", **size)
    do, see, blind = (kl[name][np.array(SHOWN_ROUNDS) - 1] for name in ("do", "see", "blind"))
    name, first = "section-3-convergence", 0.6 * np.log(3) + 0.4 * np.log(0.5)
    items = [equal(f"{name}/round-1", do[0], first, ".6 log 3 + .4 log 1/2, by hand")]
    for t, before, now, bound in zip(SHOWN_ROUNDS[1:], do[:-1], do[1:], (0.4, 0.05, 1e-4), strict=True):
        falls = now < bound and now < before + 1e-6  # Of float32.
        items.append(holds(f"{name}/round-{t}", now, f"falls towards 0: under {bound:g}", falls))
    items += [
        holds(f"{name}/own-actions-as-evidence", see, "deluded, it does not converge", see[-1] > 0.2),
        equal(f"{name}/without-feedback", blind, [first] * 4, "under broad conditions only: here it never falls"),
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
    title = "The policy converges to the expert's"
    return Block(name, title, text, items, figures=[(_convergence_figure(kl), caption)])


def _convergence_figure(kl: dict[str, np.ndarray]) -> Figure:
    rounds = np.unique(np.geomspace(1, SHOWN_ROUNDS[-1], 60).astype(int))
    looks = {
        "do": ("own actions done", {"color": DO}),
        "see": ("own actions seen", {"color": SEE, "ls": "--"}),
        "blind": ("done, no feedback", {"color": MUTED, "ls": ":"}),
    }
    with matplotlib.rc_context(STYLE):
        canvas = Canvas(figsize=(WIDTH, 2.7), layout="constrained")
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


# ---------------------------------------------------------------------------------------------------------- Figure 3d


def figure_3d(settings: Settings) -> Block:
    """The marginal process cannot evaluate an intervention."""
    model = game()
    marginal = model.marginal(OBSERVED)
    see, do = {"A_1": 1, "O_1": 1}, {"A_1": 1}
    try:
        marginal.query("A_2", do=do, see={"O_1": 1})
        reason = ""
    except ud.NotIdentifiable as refusal:
        reason = textwrap.fill(str(refusal), LINE)
    conditional = model.query("A_2", see=see)
    kept = np.abs(marginal.query("A_2", see=see) - conditional).max()
    lost = np.abs(model.query("A_2", do=do, see={"O_1": 1}) - conditional).max()
    text = [
        "`model.marginal(...)` is what somebody has who recorded every action and observation of the game, however "
        "many, and never a theta. It still predicts the next action of the expert from what was seen. Asked for the "
        "effect of an own action it refuses, because models with other hidden moves would have left the same records "
        "and would answer otherwise. Below is the refusal, with its reason.",
    ]
    answer = "refused: not identifiable" if reason else "answered"
    items = [
        equal("figure-3d/see", kept, 0, "conditioning needs the marginal only"),
        holds("figure-3d/do", answer, "incapable of evaluating interventions", reason),
        holds("figure-3d/what-is-lost", lost, "the right answer is not the conditional", lost > 0.01),
    ]
    title, figures = (
        "Figure 3d: the marginal process refuses interventions",
        [(figure_3(model)[3], "Figure 3d: the game of who sees no theta.")],
    )
    return Block("figure-3d", title, text, items, figures, reason)


# ----------------------------------------------------------------------------------------------------------- Remark 9


def remark_9(settings: Settings) -> Block:
    """Information sets: where the expert may act differently, and the agent may not."""
    model = game()
    tree = extensive_form(model.variables, GAME, hidden=("Theta_1", "Theta_2"))
    sets = information_sets(tree, ("A_1", "A_2"))
    spread, average, other = [], [], []
    for (action, visible), nodes in sets.items():
        hidden = {name: value for name, value in nodes[0].moves if name not in dict(visible)}
        done = {name: value for name, value in visible if name.startswith("A")}
        seen = {name: value for name, value in visible if name not in done}
        expert = np.stack([model.query(action, see=dict(node.moves)) for node in nodes])
        belief, deluded = (
            np.asarray(model.query(list(hidden), see=see, do=do)).ravel()
            for see, do in ((seen, done), (dict(visible), {}))
        )
        spread.append(np.ptp(expert[:, 1]))
        average.append(np.abs(belief @ expert - model.query(action, see=seen, do=done)).max())
        other.append(np.abs(belief - deluded).sum() / 2)
    leaves = sum(node.next is None for node in tree)
    text = [
        "In the game of Figure 3 the expert chooses at 18 places: it knows every theta drawn so far. An agent that "
        "sees actions and observations only cannot tell these places apart wherever its memories agree; such places "
        "form an information set, and whatever it does, it does alike in all of one.",
        "So the expert's policy cannot be copied: within each set it takes several values. Equation 3 gives one "
        "policy for each set, namely the average of the expert's, weighed by the belief in each place. Conditioning "
        "averages the same policies with other weights, and those of the sets that an own action led to are wrong.",
    ]
    items = [
        equal("remark-9/decision-nodes", sum(map(len, sets.values())), 18, "2 + 16 places of the expert"),
        equal("remark-9/information-sets", len(sets), 5, "1 + 4 for the agent"),
        equal("remark-9/leaves", leaves, 64, "2 to the 6th ends"),
        holds("remark-9/spread-of-the-expert", spread, "its policy differs within each set", min(spread) > 0.01),
        equal("remark-9/do-is-the-average", average, [0] * 5, "one policy for a set: the belief's average"),
        holds("remark-9/see-weighs-otherwise", other, "in round 2", other[0] == 0 and min(other[1:]) > 0.01),
    ]
    return Block("remark-9", "Remark 9: information sets", text, items)


# ---------------------------------------------------------------------------------------------------------- Remark 10


def differences(process: ud.InteractionProcess, model: ud.CausalModel, *, num_rounds: int) -> tuple[float, float]:
    """The recursion against enumeration, over all histories and all marks: of the next theta, and of the next action.

    Args:
        process: with a transition.
        model: the same, enumerated.
        num_rounds: of the histories; one fewer than the model has.
    """
    A, O, n = len(model["A_1"].values), len(model["O_1"].values), num_rounds  # noqa: E741
    rows = np.array(list(itertools.product(*[range(A)] * n, *[range(O)] * n, *[(0, 1)] * n)))
    # The last round is there to ask the agent before it.
    a, o, do = (np.pad(rows[:, i * n : (i + 1) * n], ((0, 0), (0, 1))) for i in range(3))
    histories = ud.Episodes.of(process, actions=a, observations=o, intervened=do == 1)
    belief = np.exp(np.asarray(ud.posterior(process, histories)))[:, n]
    policy = np.asarray(policies(process, histories))[:, n]
    worst = [0.0, 0.0]
    for i in range(len(rows)):
        done = {f"A_{t + 1}": int(a[i, t]) for t in range(n) if do[i, t]}
        seen = {f"A_{t + 1}": int(a[i, t]) for t in range(n) if not do[i, t]}
        seen |= {f"O_{t + 1}": int(o[i, t]) for t in range(n)}
        for j, (name, answer) in enumerate(((f"Theta_{n + 1}", belief[i]), (f"A_{n + 1}", policy[i]))):
            worst[j] = max(worst[j], float(np.abs(model.query(name, see=seen, do=done) - answer).max()))
    return worst[0], worst[1]


def remark_10(settings: Settings) -> Block:
    """The recursive posterior, against enumeration."""
    model = game()
    process, tiring = game_process(model), tiring_bandit()
    # By the remark: P(theta_2 | theta_1, a_1, o_1) P(o_1 | theta_1, a_1) P(theta_1), of nothing but conditionals.
    step = 0.0
    for a, o in itertools.product((0, 1), (0, 1)):
        product = np.stack(
            [
                model.query("Theta_2", see={"Theta_1": i, "A_1": a, "O_1": o})
                * model.query("O_1", see={"Theta_1": i, "A_1": a})[o]
                * model.query("Theta_1")[i]
                for i in (0, 1)
            ]
        )
        done = model.query(("Theta_1", "Theta_2"), do={"A_1": a}, see={"O_1": o})
        step = max(step, float(np.abs(product / product.sum() - done).max()))
    path = differences(process, process.causal_model(), num_rounds=1)
    moving = differences(tiring, tiring.causal_model(), num_rounds=2)
    separated = [model.d_separated("Theta_1", "A_1"), model.d_separated("Theta_1", "A_1", do="A_1")]
    text = [
        "`ud.posterior` and the exact agents compute the belief by a recursion in which an action that was done "
        "leaves no likelihood. `process.causal_model(num_rounds=...)` writes the same process out as a graph, cuts "
        "the arrows into what was done, and sums over everything hidden. The two share no code beyond the mechanisms.",
        "What is listed is the largest difference of any probability over all histories and all ways of marking "
        "their actions as seen or done: in Figure 3's game, where the state is the path of thetas, and over three "
        "rounds of the bandit whose best arm moves.",
    ]
    items = [
        equal("remark-10/free-of-interventions", step, 0, "the product of three conditional probabilities"),
        equal("remark-10/game/posterior", path[0], 0, "recursion = enumeration, of theta_1:2"),
        equal("remark-10/game/next-action", path[1], 0, "recursion = enumeration, of A_2"),
        equal("remark-10/moving-arm/posterior", moving[0], 0, "recursion = enumeration, of Theta_3"),
        equal("remark-10/moving-arm/next-action", moving[1], 0, "recursion = enumeration, of A_3"),
        equal("remark-10/separated-by-do", separated, [0, 1], "the likelihood of the action is absent"),
    ]
    return Block("remark-10", "Remark 10: the recursion", text, items)


# ---------------------------------------------------------------------------------------------------------- Remark 11

# The table of the paper: actions and rewards, and the arm that each trajectory settles on.
PRINTED = {
    "see": (
        ("34333 33333 33333 33333", "10000 00100 00100 01010", 3),
        ("21212 11111 11111 11111", "01010 11110 11111 11011", 1),
        ("55222 25241 22222 22225", "00101 00011 11001 00000", 2),
    ),
    "do": (
        ("14431 11531 11411 11111", "00011 10001 11011 11101", 1),
        ("54534 53323 11155 11111", "10010 00100 10110 11101", 1),
        ("21115 45414 51111 14111", "01100 00000 11111 00111", 1),
    ),
}
# From 100,000 episodes of independent code each, good to .002; of what is printed with two digits, to .005 more.
REFERENCE_ERROR, ROUNDED = 0.002, 0.007
REFERENCE = {
    "do": {"first-5": 0.239, "last-5": 0.476, "reward": 0.434, "wrong": 0.0095, "truth": 0.806},
    "see": {"first-5": 0.240, "last-5": 0.323, "reward": 0.397, "wrong": 0.52, "truth": 0.45},
    "expert": {"first-5": 0.599, "last-5": 0.600, "reward": 0.550, "wrong": 0.0001, "truth": 0.999},
}
MEANING = {
    "first-5": "share of the best arm, rounds 1 to 5",
    "last-5": "share of the best arm, rounds 16 to 20",
    "reward": "a round",
    "wrong": "belief over .9 in a wrong arm after round 20",
    "truth": "belief in the best arm after round 20",
}
CONFIDENT = 0.9
T, LONG = 20, 100


def live(settings: Settings, name: str) -> tuple[ud.Episodes, np.ndarray]:
    """Long episodes of the expert, or of the exact agent that reads its own actions as `name`.

    As in the paper, the best arm is labelled as the first one; the mechanisms look alike under any labels.

    Returns:
        The episodes, and the belief `[B, LONG + 1, K]`, both with that label.
    """
    bandit = ud.tasks.bandit()
    expert = name == "expert"
    episodes = ud.rollout(
        bandit,
        None if expert else ud.ExactAgent(bandit, own_actions=name),  # pyright: ignore[reportArgumentType]
        key=jax.random.fold_in(jax.random.key(settings.seed), list(REFERENCE).index(name)),
        num_episodes=settings.num_episodes,
        num_rounds=LONG,
        executor="expert" if expert else "agent",
    )
    best = np.asarray(episodes.theta)[:, None]
    belief = np.exp(np.asarray(ud.posterior(bandit, episodes)))
    belief = np.take_along_axis(belief, (best + np.arange(5))[:, None] % 5, -1)
    return eqx.tree_at(lambda e: e.actions, episodes, (np.asarray(episodes.actions) - best) % 5), belief


def remark_11(settings: Settings) -> Block:
    """The bandit: three trajectories of either reader, and what becomes of many."""
    items, curves, lived = _printed_items(), {}, {}
    for name in REFERENCE:
        episodes, belief = live(settings, name)
        best, end = episodes.actions == 0, belief[:, T]
        curves[name] = best.mean(0)
        if name != "expert":
            lived[name] = episodes, belief
        if name == "see":
            items.append(_regularity(np.asarray(episodes.actions)[:, :T]))
        x = {
            "first-5": best[:, :5].mean(1),
            "last-5": best[:, T - 5 : T].mean(1),
            "reward": np.asarray(episodes.reward)[:, :T].mean(1),
            "wrong": end[:, 1:].max(1) > CONFIDENT,
            "truth": end[:, 0],
        }
        for quantity, reference in REFERENCE[name].items():
            error = ROUNDED if name == "see" and quantity in ("wrong", "truth") else REFERENCE_ERROR
            if quantity == "wrong":  # So rare that few episodes may hold none, and show no spread.
                error += 4 * np.sqrt(reference * (1 - reference) / settings.num_episodes)
            said = f"{reference:.4g}: {MEANING[quantity]} (ours)"
            items.append(sampled(f"remark-11/{name}/{quantity}", x[quantity], reference, said, error=error))
    do, see, expert = (float(curves[name][-10:].mean()) for name in ("do", "see", "expert"))
    near = abs(do - expert) < 0.01 + 1 / np.sqrt(settings.num_episodes)  # Of ten rounds each.
    said = "intervening finds the best arm, conditioning often does not"
    items.append(holds("remark-11/rounds-91-to-100", [do, see, expert], said, near and see < 0.45))
    text = [
        "Below is the paper's table with trajectories of our own, the best arm labelled 1, actions and rewards in "
        "blocks of five, with the belief that each ends on. An agent that conditions on its own actions tends to "
        "repeat them and to settle where it began; one that intervenes explores and ends on arm 1.",
        "The paper's six printed trajectories were read again with `ud.posterior`, each as the agent that produced it "
        "would: what is listed is the belief in the arms 1 to 5 at its end. Either column is likelier under its own "
        "reader than under the other. They are more regular, though, than these mechanisms make them: who is certain "
        "of an arm still pulls it only six times in ten, as the expert does.",
        f"Then {settings.num_episodes:,} agents of each kind: how often they pull the best arm, what they earn, and "
        "how many are more than 90 percent sure of a wrong arm after 20 rounds. The expert knows the best arm and its "
        "actions are seen, as they should be: evidence that is true deludes nobody.",
    ]
    figures = [*_belief_figures(lived), (_curves_figure(curves), "Share of the best arm per round, over 100 rounds.")]
    return Block("remark-11", "Remark 11: the multi-armed bandit", text, items, figures, table(lived))


def _printed_items() -> list[Item]:
    bandit = ud.tasks.bandit()
    items = []
    for mark, trajectories in PRINTED.items():
        arms = np.array([_digits(a) for a, _, _ in trajectories]) - 1
        rewards = np.array([_digits(o) for _, o, _ in trajectories])
        beliefs, log_likelihood = {}, {}
        for reading in ("do", "see"):
            histories = ud.Episodes.of(bandit, actions=arms, observations=rewards, intervened=reading == "do")
            beliefs[reading] = np.exp(np.asarray(ud.posterior(bandit, histories))[:, -1])
            P_A = np.take_along_axis(np.asarray(policies(bandit, histories)), arms[..., None], -1)
            log_likelihood[reading] = np.log(P_A).sum()
        for i, (belief, (_, _, arm)) in enumerate(zip(beliefs[mark], trajectories, strict=True), 1):
            sure = belief.argmax() == arm - 1 and belief.max() > CONFIDENT
            said = f"converges to arm {arm}, {'the best' if arm == 1 else 'a wrong one'}"
            items.append(holds(f"remark-11/printed/{mark}-{i}", belief, said, sure))
        ratio = float(log_likelihood[mark] - log_likelihood["see" if mark == "do" else "do"])
        said = "the column fits its own reader better, by so many nats (ours)"
        items.append(holds(f"remark-11/printed/{mark}-fits", ratio, said, ratio > 0))
    return items


def _regularity(actions: np.ndarray) -> Item:
    """How many of the deluded agents keep to one arm as the first printed trajectory does."""
    pulls = max(_digits(PRINTED["see"][0][0]).count(arm) for arm in range(1, 6))
    share = ((actions[..., None] == np.arange(5)).sum(1).max(1) >= pulls).mean()
    said = f"one arm {pulls} times in 20: rarer than 1 in 500 with the mechanisms as printed (ours)"
    # Of few agents, one is more than 1 in 500.
    return holds("remark-11/printed/see-1-regularity", share, said, share <= max(1 / 500, 1 / len(actions)))


def _digits(blocks: str) -> list[int]:
    return [int(x) for x in blocks if x != " "]


def _column(name: str, episodes: ud.Episodes, belief: np.ndarray) -> list[str]:
    """Half of the paper's table in its own format, the first three trajectories; and where the belief ended."""
    lines = {
        "see": ["Conditioning:", "a_t+1 ~ P(a_t+1 | a_1:t, o_1:t)"],
        "do": ["Intervening:", "a_t+1 ~ P(a_t+1 | do(a_1:t), o_1:t)"],
    }[name]
    for i in range(3):
        a, o, end = (np.asarray(x)[i] for x in (episodes.actions, episodes.observations, belief[:, T]))
        lines += ["", f"Actions: {_blocks(a[:T] + 1)}", f"Rewards: {_blocks(o[:T])}"]
        lines += [f"Belief:  {end.max():.2f} in arm {end.argmax() + 1}"]
    return lines


def _blocks(symbols: Iterable[Any]) -> str:
    digits = "".join(str(int(x)) for x in symbols)
    return " ".join(digits[i : i + 5] for i in range(0, len(digits), 5))


def table(lived: dict[str, tuple[ud.Episodes, np.ndarray]]) -> str:
    """The paper's table, of what `live` gave for "see" and for "do"."""
    left, right = (_column(name, *lived[name]) for name in ("see", "do"))
    width = max(map(len, left)) + 3
    return "\n".join(f"{x:<{width}}{y}".rstrip() for x, y in zip(left, right, strict=True))


@dataclasses.dataclass(frozen=True)
class Lived:
    """An episode of the bandit whose best arm is arm 0.

    Attributes:
        actions, rewards: `[T]`.
        belief: of its own reader, before each round and after the last, `[T + 1, K]`.
    """

    actions: np.ndarray
    rewards: np.ndarray
    belief: np.ndarray


def remark_11_episodes(settings: Settings) -> dict[str, Lived]:
    """The first agents to end over 90 percent sure: deluded ("see") of a wrong arm, sober ("do") of the best one."""
    return {name: _first(name, *live(settings, name)) for name in ("see", "do")}


def _first(name: str, episodes: ud.Episodes, belief: np.ndarray) -> Lived:
    end = belief[:, T]
    i = int(np.argmax((end[:, 0] if name == "do" else end[:, 1:].max(1)) > CONFIDENT))
    a, o = np.asarray(episodes.actions)[i, :T], np.asarray(episodes.observations)[i, :T]
    return Lived(a, o.astype(float), belief[i, : T + 1])


def _belief_figures(lived: dict[str, tuple[ud.Episodes, np.ndarray]]) -> list[tuple[Figure, str]]:
    figures = []
    for name, ends in (("see", "sure of a wrong arm"), ("do", "sure of the best")):
        x = _first(name, *lived[name])
        figure = belief_plot(x.belief, 0, x.actions, x.rewards, own_actions=name)  # pyright: ignore[reportArgumentType]
        figures.append((figure, f"The first of these agents that ends over 90 percent {ends}."))
    return figures


def _curves_figure(curves: dict[str, np.ndarray]) -> Figure:
    looks = {
        "expert": ("expert, knows the arm", {"color": INK, "lw": 1.0}),
        "do": ("own actions done", {"color": DO, "lw": 1.6}),
        "see": ("own actions seen", {"color": SEE, "lw": 1.6, "ls": "--"}),
    }
    with matplotlib.rc_context(STYLE):
        canvas = Canvas(figsize=(WIDTH, 2.5), layout="constrained")
        axes = canvas.subplots()
        for name, (label, look) in looks.items():
            axes.plot(np.arange(1, LONG + 1), curves[name], label=label, **look)
        axes.set(xlabel="round", title="share of the best arm", ylim=(0, 0.7), xlim=(0, LONG + 1))
        axes.legend(frameon=False, loc="lower right", handlelength=2.6)
        ends = ", ".join(f"{label} {curves[name][-10:].mean():.2f}" for name, (label, _) in looks.items())
        alt = f"Share of the best arm over {LONG} rounds; in the last ten: {ends}."
        return to_figure(canvas, "best-arm", alt)


# ---------------------------------------------------------------------------------------------------------- Remark 12

WORDS = ("X_1", "X_2", "X_3", "X_4")
VOCABULARY = 3
INFORMATIVE = (0.0, 0.3, 0.6, 0.9, 0.99)
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def dialogue(informative: float = 0.3, seed: int = 12) -> ud.CausalModel:
    """Four words of three kinds, each listening to theta and to all words before it.

    Args:
        informative: how much the first and the third word, which are the expert's, tell of theta: 0 nothing, 1 all.
        seed: of the tables.
    """
    rng = np.random.default_rng(seed)
    values = tuple(range(VOCABULARY))
    variables = [ud.Variable("Theta", values, table=np.full(VOCABULARY, 1 / VOCABULARY))]
    for i, name in enumerate(WORDS):
        past = [VOCABULARY] * i
        if name in ("X_1", "X_3"):
            told = np.eye(VOCABULARY).reshape(VOCABULARY, *[1] * i, VOCABULARY)
            probs = informative * told + (1 - informative) * rng.dirichlet(np.ones(VOCABULARY), past)
        else:
            probs = rng.dirichlet(np.full(VOCABULARY, 0.7), [VOCABULARY, *past])
        variables.append(ud.Variable(name, values, parents=("Theta", *WORDS[:i]), table=probs))
    return ud.CausalModel(variables)


def readings(model: ud.CausalModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`P(x_4 | x_1, x_2, x_3)`, `P(x_4 | x_1, do(x_2), x_3)`, and how often dialogues with the model get there.

    Returns:
        Two arrays `[x_1, x_2, x_3, x_4]`, and `P(x_1) P(x_2 | x_1) P(x_3 | x_1, do(x_2))`: the model writes x_2.
    """
    see = np.asarray(model.query(WORDS))
    do = np.empty_like(see)  # P(x_3, x_4 | x_1, do(x_2))
    for x_1, x_2 in itertools.product(range(VOCABULARY), repeat=2):
        do[x_1, x_2] = model.query(WORDS[2:], see={"X_1": x_1}, do={"X_2": x_2})
    weight = np.asarray(model.query(WORDS[:2]))[..., None] * do.sum(-1)
    return see / see.sum(-1, keepdims=True), do / do.sum(-1, keepdims=True), weight


def corpus(model: ud.CausalModel, share: float, generated: np.ndarray, *, fourth: str = "machine") -> ud.CausalModel:
    """Text of which a share comes from dialogues whose second word a machine wrote, theta-blind.

    Args:
        model: of the text that people write.
        share: of the dialogues with the machine.
        generated: `[x_1, x_2, x_3, x_4]`, how the machine continues three words.
        fourth: who writes the fourth word of these dialogues, "machine" or "human".
    """
    by = {v.name: v for v in model.variables}
    x_2 = np.asarray(model.query(WORDS[:2]))
    x_2 = np.broadcast_to(x_2 / x_2.sum(-1, keepdims=True), by["X_2"].table.shape)
    x_4 = np.broadcast_to(generated, by["X_4"].table.shape) if fourth == "machine" else by["X_4"].table
    variables = [by["Theta"], by["X_1"], by["X_3"], ud.Variable("Machine", (0, 1), table=[1 - share, share])]
    for name, written in (("X_2", x_2), ("X_4", x_4)):
        both = np.stack([by[name].table, written])
        variables.append(ud.Variable(name, by[name].values, parents=("Machine", *by[name].parents), table=both))
    return ud.CausalModel(variables)


def relearned(model: ud.CausalModel, share: float, generated: np.ndarray, *, fourth: str = "machine") -> np.ndarray:
    """`P(x_4 | x_1, x_2, x_3)` in that corpus: what a predictor learns from it, given text without end."""
    joint = np.asarray(corpus(model, share, generated, fourth=fourth).query(WORDS))
    return joint / joint.sum(-1, keepdims=True)


def _distance(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    """Mean total variation between two predictions of the fourth word."""
    return float((weight * np.abs(x - y).sum(-1) / 2).sum())


def _by_formula(model: ud.CausalModel, mark: str) -> tuple[np.ndarray, float]:
    """Equations 4 and 5, or 6 and 7, for all texts: the prediction, and how far the posterior is from the query's."""
    prior, *words = (np.asarray(model[name].table, float) for name in ("Theta", *WORDS))
    x_2 = np.ones_like(words[1]) if mark == "do" else words[1]
    posterior = np.einsum("i,ia,iab,iabc->iabc", prior, words[0], x_2, words[2])
    posterior = posterior / posterior.sum(0)
    worst = 0.0
    for text in itertools.product(range(VOCABULARY), repeat=3):
        given: dict[str, int] = dict(zip(WORDS, text, strict=False))
        do = {"X_2": given.pop("X_2")} if mark == "do" else {}
        worst = max(worst, float(np.abs(model.query("Theta", see=given, do=do) - posterior[:, *text]).max()))
    return np.einsum("iabc,iabcx->abcx", posterior, words[3]), worst


def _relearning_items(model: ud.CausalModel) -> list[Item]:
    see, do, weight = readings(model)
    # A model that is wrong to begin with: its predictions are mixed with those of an ignorant one.
    wrong = (see + 1 / VOCABULARY) / 2
    again = [relearned(model, share, see) for share in SHARES]
    drift, stays = ([_distance(x, y, weight) for x in again] for y in (see, do))
    heals = [_distance(relearned(model, share, see, fourth="human"), do, weight) for share in SHARES]
    left = [_distance(relearned(model, s, wrong), see, weight) / _distance(wrong, see, weight) for s in SHARES]
    rises, falls = (np.diff(left) > 0).all(), (np.diff(heals) < 0).all()
    all_left, all_healed = abs(left[-1] - 1) < 1e-5, heals[-1] < 1e-5
    name = "remark-12/relearning"
    return [
        equal(f"{name}/drift", drift, [0] * 5, "confirms what it predicts"),
        equal(f"{name}/distance-to-do", stays, [stays[0]] * 5, "the delusion stays, at any share of its text"),
        holds(f"{name}/bias-left", left, "confirms the model's biases: all, in its own text", rises and all_left),
        holds(f"{name}/people-write-x_4", heals, "falls to 0: counterfactual teaching (ours)", falls and all_healed),
    ]


def remark_12(settings: Settings) -> Block:
    """Language models: a word of one's own is an intervention."""
    model = dialogue()
    see, do, _ = readings(model)
    (eq_4, eq_5), (eq_6, eq_7) = (_by_formula(model, mark) for mark in ("see", "do"))
    apart = np.abs(see - do).sum(-1) / 2
    distances = [_distance(*readings(dialogue(informative))) for informative in INFORMATIVE]
    doors = model.back_door("X_2", "X_4")
    only_door = doors == (frozenset({"Theta", "X_1"}),) and not model.back_door("X_2", "X_4", latent="Theta")
    falls = (np.diff(distances) < 0).all() and distances[-1] < 0.1 * distances[0]
    text = [
        "A language of three words and texts of four. A hidden theta, say the intention of the writer, and all earlier "
        "words decide about each word, by tables drawn at random. People write the first and the third word; who "
        "wrote the second is the question. Equations 4 to 7 were evaluated as they stand, for all 27 texts of three "
        "words, and compared with queries to the model. The two predictions agree where the words of people tell much "
        "about theta, and part where they do not: listed is their mean total variation, from words that tell nothing "
        "to words that tell nearly all.",
        "Then a share of 0, 1/4, 1/2, 3/4 or all of the text comes from dialogues in which the machine wrote the "
        "second word, knowing nothing of theta, and continued with the fourth. A predictor that learns again from "
        "everything learns exactly what it said before: its distance from the right answer does not move, and of what "
        "it had wrong a share stays that grows with that of its own text. Had people written the fourth word, the "
        "distance would fall to 0: that is counterfactual teaching.",
    ]
    door = "; ".join(" and ".join(sorted(s)) for s in doors)
    items = [
        equal("remark-12/equation-4", np.abs(eq_4 - see).max(), 0, "the sum over theta"),
        equal("remark-12/equation-5", eq_5, 0, "four factors, that of the second word among them"),
        equal("remark-12/equation-6", np.abs(eq_6 - do).max(), 0, "the sum over theta"),
        equal("remark-12/equation-7", eq_7, 0, "three factors, that of the second word gone"),
        holds("remark-12/equation-8", [apart.min(), apart.max()], "the two are different", apart.min() > 1e-3),
        holds("remark-12/back-door", door, "the back-door criterion: theta and the first word", only_door),
        holds("remark-12/informative", distances, "very different if words tell little, else small", falls),
        *_relearning_items(model),
    ]
    return Block("remark-12", "Remark 12: language models", text, items)


BLOCKS: Sequence[Any] = (
    section_3,
    equation_3,
    converges,
    figure_3d,
    remark_9,
    remark_10,
    remark_11,
    remark_12,
)
