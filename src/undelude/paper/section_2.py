"""Section 2 of the paper recomputed: prize or frog, equations 1 and 2, Remarks 1 to 8."""

from collections.abc import Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree
from matplotlib.figure import Figure as Canvas

import undelude as ud
from undelude.agent import Mark, scan
from undelude.inference import Belief
from undelude.paper.item import Block, Settings, equal, holds, sampled
from undelude.report.svg import DO, DO_TEXT, MUTED, SEE, SEE_TEXT, STYLE, WIDTH, Figure, to_figure

BOXES, CONTENTS = (1, 2), (-1, 1)
IDENTITY = np.eye(2)
# `[theta, a, o]`: a prize where the box is the right one, a frog where not.
CONTENT = np.stack([1 - IDENTITY, IDENTITY], -1)


def frog() -> ud.CausalModel:
    """The prize-or-frog problem, as printed."""
    return ud.CausalModel(
        [
            ud.Variable("Theta", BOXES, table=[1 / 2, 1 / 2]),
            ud.Variable("A", BOXES, parents="Theta", table=IDENTITY),
            ud.Variable("O", CONTENTS, parents=("Theta", "A"), table=CONTENT),
        ]
    )


def refusal(model: ud.CausalModel, asked: str, **query: Any) -> str:
    """Why `model` has no answer; empty where it has one."""
    try:
        model.query(asked, **query)
    except ValueError as error:
        return str(error)
    return ""


# ------------------------------------------------------------------------------------------------------- prize or frog


def cases(settings: Settings) -> Block:
    """Passive and interactive, Theta seen and hidden, from one model."""
    model = frog()
    hidden = model.marginal(("A", "O"))
    prize = "O", 1
    see_A, do_A = ([{mark: {"A": a}} for a in BOXES] for mark in ("see", "do"))
    right = [(a, a) for a in BOXES]
    return Block(
        "section-2",
        "Prize or frog",
        [
            "One `CausalModel` of three variables, with the paper's tables, answers everything in this section: the "
            "box with the prize (`Theta`), the box that is opened (`A`), and what is in it (`O`). The four cases "
            "differ only in what is asked of it. Passive: an expert opens, and the box opened is seen. Interactive: "
            "the model's user opens, and the box opened is done. Where Theta is hidden, predictions come from the "
            "marginal model of `A` and `O`.",
            "The delusion is the line where an own action is entered as seen: the prize becomes certain, whichever "
            "box it was. Entered as done, it leaves Theta as uncertain as before, and the prize at one half.",
            "Figure 2 is about which paths between `A` and `O` carry information; these come from the graph alone, "
            "without the tables. Below is what the marginal model says when it is asked for the effect of an own "
            "action.",
        ],
        [
            equal("section-2/passive-seen/P(Theta=1)", model.query("Theta")[0], 1 / 2, "1/2"),
            equal(
                "section-2/passive-seen/P(A=theta | Theta=theta)",
                [_of(model, "A", x, see={"Theta": x}) for x in BOXES],
                [1, 1],
                "predicted with certainty",
            ),
            equal(
                "section-2/passive-seen/P(O=+1 | Theta=theta, A=theta)",
                [_of(model, *prize, see={"Theta": x, "A": a}) for x, a in right],
                [1, 1],
                "predicted with certainty",
            ),
            equal("section-2/passive-hidden/P(A=1)", hidden.query("A")[0], 1 / 2, "1/2 (equation 1)"),
            equal(
                "section-2/passive-hidden/P(Theta=a | A=a)",
                [_of(model, "Theta", a, **mark) for a, mark in zip(BOXES, see_A, strict=True)],
                [1, 1],
                "1: the expert's choice gives the configuration away",
            ),
            equal(
                "section-2/passive-hidden/P(O=+1 | A=a)", [_of(hidden, *prize, **mark) for mark in see_A], [1, 1], "1"
            ),
            equal(
                "section-2/interactive-seen/P(A=1 | Theta)",
                [_of(model, "A", 1, see={"Theta": x}) for x in BOXES],
                [1, 0],
                "1 and 0: acting is imitating",
            ),
            equal(
                "section-2/interactive-seen/P(O=+1 | Theta, do(A))",
                [_of(model, *prize, see={"Theta": x}, do={"A": a}) for x in BOXES for a in BOXES],
                [_of(model, *prize, see={"Theta": x, "A": a}) if x == a else 0 for x in BOXES for a in BOXES],
                "P(O | Theta, do(A)) = P(O | Theta, A)",
            ),
            equal(
                "section-2/interactive-hidden/self-delusion/P(Theta=a | A=a)",
                [_of(model, "Theta", a, **mark) for a, mark in zip(BOXES, see_A, strict=True)],
                [1, 1],
                "1: whichever box is chosen, the choice convinces",
            ),
            equal(
                "section-2/interactive-hidden/self-delusion/P(O=+1 | A=a)",
                [_of(hidden, *prize, **mark) for mark in see_A],
                [1, 1],
                "1, no matter which box",
            ),
            equal(
                "section-2/interactive-hidden/P(Theta=1 | do(A=a))",
                [_of(model, "Theta", 1, **mark) for mark in do_A],
                [1 / 2, 1 / 2],
                "P(Theta), 1/2",
            ),
            equal(
                "section-2/interactive-hidden/P(O=+1 | do(A=a))",
                [_of(model, *prize, **mark) for mark in do_A],
                [1 / 2, 1 / 2],
                "1/2",
            ),
            equal(
                "section-2/back-door/sum_theta P(O=+1 | theta, a) P(theta)",
                np.einsum("ka,k->a", model["O"].table[..., 1], model["Theta"].table),
                [_of(model, *prize, **mark) for mark in do_A],
                "P(O=+1 | do(a)), the back-door adjustment formula",
            ),
            holds(
                "section-2/back-door/sets",
                _sets(model.back_door("A", "O")),
                "Theta is the confounder",
                model.back_door("A", "O") == (frozenset({"Theta"}),),
            ),
            holds(
                "section-2/back-door/estimand",
                str(model.identify("O", do="A")),
                "sum_theta P(o | theta, a) P(theta)",
                str(model.identify("O", do="A")) == "sum_Theta P(O | A, Theta) P(Theta)",
            ),
            holds(
                "section-2/back-door/sets-with-Theta-hidden",
                _sets(model.back_door("A", "O", latent="Theta")),
                "none: where Theta is hidden the observed data do not tell",
                not model.back_door("A", "O", latent="Theta") and refusal(hidden, "O", do={"A": 1}),
            ),
            *(
                holds(f"section-2/figure-2{panel}/open-paths", _open(model, **query), paper, _open(model, **query) == x)
                for panel, query, x, paper in (
                    ("a", {}, "A <- Theta -> O; A -> O", "seen, A also tells about its past: confounded by Theta"),
                    ("b", {"do": "A"}, "A -> O", "done, A tells nothing about Theta"),
                    ("c", {"given": "Theta"}, "A -> O", "given Theta, the way through it is blocked"),
                )
            ),
            holds(
                "section-2/figure-2b/Theta-independent-of-A",
                str(model.d_separated("Theta", "A", do="A")),
                "after surgery, and not before",
                model.d_separated("Theta", "A", do="A") and not model.d_separated("Theta", "A"),
            ),
        ],
        listing=refusal(hidden, "O", do={"A": 1}),
    )


def _of(model: ud.CausalModel, asked: str, value: Any, **query: Any) -> float:
    """`P(asked = value | ...)`."""
    return float(model.query(asked, **query)[model[asked].values.index(value)])


def _sets(sets: Sequence[frozenset[str]]) -> str:
    return "; ".join(", ".join(sorted(s)) or "the empty set" for s in sets) or "none"


def _open(model: ud.CausalModel, **query: Any) -> str:
    return "; ".join(str(path) for path in model.paths("A", "O", **query) if path.is_open)


# ------------------------------------------------------------------------------------------------------------ Remark 1


def other_order() -> ud.CausalModel:
    """The same, except that A precedes Theta: the prize is put where the choice fell."""
    return ud.CausalModel(
        [
            ud.Variable("A", BOXES, table=[1 / 2, 1 / 2]),
            ud.Variable("Theta", BOXES, parents="A", table=IDENTITY),
            ud.Variable("O", CONTENTS, parents=("Theta", "A"), table=CONTENT),
        ]
    )


def remark_1(settings: Settings) -> Block:
    """An intervention needs the causal structure."""
    models = frog(), other_order()
    joints = [np.asarray(model.query(("Theta", "A", "O"))) for model in models]

    def weights(**evidence: Any) -> np.ndarray:
        """Posterior probabilities of the two orders, from 1/2 each."""
        x = np.exp([float(model.log_prob(**evidence)) for model in models]) / 2
        return x / x.sum()

    experiment = [weights(do={"A": 1}, see={"O": o})[1] for o in (1, -1)]
    predicted = np.mean([_of(model, "O", 1, do={"A": 1}) for model in models])
    return Block(
        "remark-1",
        "Remark 1: an intervention needs the causal structure",
        [
            "A second `CausalModel` has the arrow between Theta and `A` turned round, as if the prize were put where "
            "the choice falls. All probabilities of what is seen are the same. What follows from an own choice is "
            "not: here it fixes the configuration.",
            "Which of the two is true can be learned, though not by watching. With a prior of one half on each, the "
            "evidence `log_prob(see=, do=)` of both models gives the posterior: any number of demonstrations leaves it "
            "at one half, and one own action with its outcome moves it.",
        ],
        [
            equal(
                "remark-1/P(Theta=1 | do(A))",
                [_of(models[1], "Theta", 1, do={"A": a}) for a in BOXES],
                [1, 0],
                "a point mass on the action",
            ),
            equal(
                "remark-1/P(Theta | do(A)) - P(Theta | A)",
                np.abs([_between(models[1], "Theta", a) for a in BOXES]).max(),
                0,
                "P(theta | do(a)) = P(theta | a)",
            ),
            equal(
                "remark-1/first-order/P(Theta=1 | do(A))",
                [_of(models[0], "Theta", 1, do={"A": a}) for a in BOXES],
                [1 / 2, 1 / 2],
                "1/2 in the first order",
            ),
            equal("remark-1/joints", np.abs(joints[0] - joints[1]).max(), 0, "what is seen is the same (ours)"),
            equal(
                "remark-1/hypotheses/after-demonstrations",
                [weights(see={"A": a, "O": 1})[1] for a in BOXES],
                [1 / 2, 1 / 2],
                "1/2: demonstrations do not tell the orders apart (ours)",
            ),
            equal("remark-1/hypotheses/P(O=+1 | do(A=1))", predicted, 3 / 4, "3/4 (ours)"),
            equal(
                "remark-1/hypotheses/after-prize-and-frog",
                experiment,
                [2 / 3, 0],
                "2/3 for the turned arrow after a prize, 0 after a frog (ours)",
            ),
        ],
    )


def _between(model: ud.CausalModel, asked: str, a: Any) -> np.ndarray:
    """`P(asked | do(a)) - P(asked | a)`."""
    return np.asarray(model.query(asked, do={"A": a}) - model.query(asked, see={"A": a}))


# ------------------------------------------------------------------------------------------------------------ Remark 2

ACCURACIES = (1 / 2, 3 / 4, 9 / 10, 1)


def random_model(rng: np.random.Generator, *, K: int = 3, A: int = 3, O: int = 3) -> ud.CausalModel:  # noqa: E741
    """Theta, A, O with tables from flat Dirichlet laws."""
    tables = [rng.dirichlet(np.ones(shape[-1]), shape[:-1]) for shape in ((K,), (K, A), (K, A, O))]
    names, parents = ("Theta", "A", "O"), ((), ("Theta",), ("Theta", "A"))
    return ud.CausalModel(
        ud.Variable(name, range(table.shape[-1]), parents=above, table=table)
        for name, above, table in zip(names, parents, tables, strict=True)
    )


def remark_2(settings: Settings) -> Block:
    """The same where everything is stochastic."""
    rng = np.random.default_rng(settings.seed)
    belief, outcome, formula, shown, deluded = [], [], [], [], []
    for _ in range(100):
        model = random_model(rng)
        table, prior = np.asarray(model["O"].table), np.asarray(model["Theta"].table)
        a = int(rng.integers(3))
        done, seen = model.query(("Theta", "O"), do={"A": a}), model.query(("Theta", "O"), see={"A": a})
        belief.append(np.abs(done.sum(1) - prior).max())
        formula.append(np.abs(done.sum(0) - table[:, a].T @ prior).max())
        shown.append(np.abs(done / done.sum(1, keepdims=True) - seen / seen.sum(1, keepdims=True)).max())
        deluded.append(np.abs(seen.sum(1) - prior).sum() / 2)
        outcome.append(np.abs(seen.sum(0) - done.sum(0)).sum() / 2)
    dial = []
    for p in ACCURACIES:
        expert = ud.Variable("A", BOXES, parents="Theta", table=[[p, 1 - p], [1 - p, p]])
        boxes = ud.CausalModel([expert, *(v for v in frog().variables if v.name != "A")])
        dial.append(_of(boxes, "Theta", 1, see={"A": 1}))
    return Block(
        "remark-2",
        "Remark 2: stochastic choices and outcomes",
        [
            "A hundred models with three values for each variable, all tables drawn at random. In each, one action is "
            "entered once as seen and once as done; the first three figures are the largest deviation from what the "
            "section derives, over all hundred. The two after it are the delusion: how far, in total variation, "
            "seeing the own action moves the belief, and the prediction of the outcome.",
            "The last figure has the two boxes again, and experts that open the right one with probability 1/2, 3/4, "
            "9/10 and 1. The delusion is as strong as the expert is good, and there is none where the expert guesses.",
        ],
        [
            equal("remark-2/P(Theta | do(A)) - P(Theta)", max(belief), 0, "P(theta | do(a)) = P(theta)"),
            equal("remark-2/P(O | do(A)) - back-door", max(formula), 0, "sum_theta P(o | theta, a) P(theta)"),
            equal("remark-2/P(O | Theta, do(A)) - P(O | Theta, A)", max(shown), 0, "the same where Theta is seen"),
            holds(
                "remark-2/delusion-about-Theta",
                [min(deluded), np.mean(deluded), max(deluded)],
                "the problem holds in general: least, mean and largest shift of the belief",
                min(deluded) > 1e-3,
            ),
            holds(
                "remark-2/delusion-about-O",
                [np.mean(outcome), max(outcome)],
                "and of the prediction: mean and largest shift",
                np.mean(outcome) > 1e-2,
            ),
            equal("remark-2/P(Theta=1 | A=1)-by-accuracy", dial, ACCURACIES, "the expert's accuracy (ours)"),
        ],
    )


# ------------------------------------------------------------------------------------------------------------ Remark 3


def remark_3(settings: Settings) -> Block:
    """Equation 2: the evidence of the own action."""
    model = frog()
    seen = {"A": 1, "O": 1}
    impossible = refusal(model, "Theta", see={"A": 1, "O": -1})
    # Where everything is possible, the two posteriors and the factor that sets them apart.
    stochastic = random_model(np.random.default_rng(settings.seed + 3))
    P_Theta, P_A, P_O = (np.asarray(v.table, float) for v in stochastic.variables)
    process = ud.tasks.from_tables(prior=P_Theta, expert=P_A, task=P_O, num_rounds=1)
    apart = {"see": [], "do": [], "recursion": []}
    for a, o in np.ndindex(3, 3):
        see, do = stochastic.query("Theta", see={"A": a, "O": o}), stochastic.query("Theta", see={"O": o}, do={"A": a})
        for mark, x, numerator in (
            ("see", see, P_Theta * P_A[:, a] * P_O[:, a, o]),
            ("do", do, P_Theta * P_O[:, a, o]),
        ):
            apart[mark].append(np.abs(x - numerator / numerator.sum()).max())
            history = ud.Episodes.of(process, actions=[a], observations=[o], intervened=mark == "do")
            apart["recursion"].append(np.abs(np.exp(ud.posterior(process, history)[-1]) - x).max())
    return Block(
        "remark-3",
        "Remark 3, equation 2: the evidence of the own action",
        [
            "Both posteriors of equation 2 for the boxes. After a prize in box 1 they agree. After a frog in box 1 "
            "the second knows that the prize is in box 2. The first has no answer: it was certain of the prize, and "
            "what came has probability 0, so the library raises an error that says so, shown below.",
            "Then the formulas as printed were evaluated in NumPy on tables drawn at random, for all actions and "
            "outcomes, and compared with queries to the model and with the recursion that the agents use.",
        ],
        [
            equal("remark-3/see/P(Theta=1 | A=1, O=+1)", _of(model, "Theta", 1, see=seen), 1, "1"),
            holds(
                "remark-3/see/P(Theta=1 | A=1, O=-1)",
                impossible.partition(":")[0],
                "undefined: 0/0",
                impossible.startswith("impossible evidence"),
            ),
            equal("remark-3/do/P(Theta=1 | do(A=1), O=+1)", _of(model, "Theta", 1, do={"A": 1}, see={"O": 1}), 1, "1"),
            equal("remark-3/do/P(Theta=1 | do(A=1), O=-1)", _of(model, "Theta", 1, do={"A": 1}, see={"O": -1}), 0, "0"),
            equal("remark-3/see/formula", max(apart["see"]), 0, "three factors, the action's among them"),
            equal("remark-3/do/formula", max(apart["do"]), 0, "two factors, without the action's"),
            equal("remark-3/recursion", max(apart["recursion"]), 0, "the agents' recursion is the same (ours)"),
        ],
        listing=impossible,
    )


# ------------------------------------------------------------------------------------------------------------ Remark 4


def log_tables(process: ud.InteractionProcess) -> tuple[np.ndarray, np.ndarray]:
    """`log Q(a | theta)`, `[K, A]`, and `log Q(o | theta, a)`, `[K, A, O]`, of a process from tables."""
    expert: Any = process.expert
    task: Any = process.task
    return np.asarray(expert.log_probs, float), np.asarray(task.log_probs, float)


def controller(belief: np.ndarray, family: np.ndarray, action: np.ndarray, outcome: np.ndarray) -> np.ndarray:
    """A control engineer's filter: an action picks a law from a family, and is no random variable.

    Args:
        belief: `[B, K]`, before.
        family: `[A, K, O]`, for each action the law of the outcome given the state.
        action: `[B]`.
        outcome: `[B]`.

    Returns:
        The belief after, `[B, K]`.
    """
    belief = belief * family[action, :, outcome]
    return belief / belief.sum(-1, keepdims=True)


# How the actions come about: the law of an action, `[B, A]`, from the belief, theta and the expert's table `[K, A]`.
BEHAVIOURS = {
    "expert": lambda b, theta, expert: expert[theta],
    "sober-agent": lambda b, theta, expert: b @ expert,
    "adversary": lambda b, theta, expert: np.eye(expert.shape[1])[(b @ expert).argmin(-1)],
    "always-arm-1": lambda b, theta, expert: np.eye(expert.shape[1])[0 * theta],
}


def remark_4(settings: Settings) -> Block:
    """The controller outside of the model."""
    bandit, rng = ud.tasks.bandit(), np.random.default_rng(settings.seed)
    prior, size = np.asarray(bandit.prior, float), max(settings.num_episodes // 20, 50)
    expert, task = (np.exp(table) for table in log_tables(bandit))
    family = task.swapaxes(0, 1)

    def draw(law: np.ndarray) -> np.ndarray:
        return (rng.random((len(law), 1)) > law.cumsum(-1)[:, :-1]).sum(-1)

    histories = []
    for behaviour in BEHAVIOURS.values():
        theta = draw(np.broadcast_to(prior, (size, len(prior))))
        beliefs, actions, outcomes = [np.broadcast_to(prior, (size, len(prior)))], [], []
        for _ in range(bandit.num_rounds):
            actions.append(draw(behaviour(beliefs[-1], theta, expert)))
            outcomes.append(draw(family[actions[-1], theta]))
            beliefs.append(controller(beliefs[-1], family, actions[-1], outcomes[-1]))
        histories.append([np.stack(x, 1) for x in (beliefs, actions, outcomes)])
    beliefs, actions, outcomes = (np.concatenate(x) for x in zip(*histories, strict=True))
    done, seen = (
        np.exp(ud.posterior(bandit, ud.Episodes.of(bandit, actions=actions, observations=outcomes, intervened=mark)))
        for mark in (True, False)
    )
    # Of each behaviour, the largest difference.
    apart, from_see = (np.abs(x - beliefs).reshape(len(BEHAVIOURS), -1).max(1) for x in (done, seen))
    return Block(
        "remark-4",
        "Remark 4: a controller outside of the model",
        [
            "The belief filter of control engineering, in two lines of NumPy: an action is an index that picks the law "
            "of the next outcome, and no policy occurs in the computation. It ran along on bandits of twenty rounds, "
            f"{size:,} for each of four behaviours: the expert's, a sober agent's, an adversary's that always pulls "
            "the arm least likely to be the expert's choice, and that of somebody who only ever pulls arm 1. Its "
            "belief was compared with `ud.posterior` with all actions done; the largest difference is shown, over "
            "all rounds and histories. Whoever acted, the two are the same.",
        ],
        [
            *(
                equal(f"remark-4/behaviour/{name}", x, 0, "the second posterior of equation 2")
                for name, x in zip(BEHAVIOURS, apart, strict=True)
            ),
            holds(
                "remark-4/first-posterior",
                from_see,
                "not the first posterior of equation 2: the largest differences from it",
                (from_see > 0.1).all(),
            ),
        ],
    )


# ------------------------------------------------------------------------------------------------------------ Remark 5

PRIOR_SCALE, AIM_SCALE, ERROR_SCALE = 1.0, 0.5, 1.0


class Error(ud.AbstractTask[Array]):
    """Theta is a place on a line; the outcome is how far the action was off, `N(theta - a, scale)`."""

    theta_free_memory: ClassVar[bool] = True

    def init(self, theta: Any) -> Array:
        """No action yet."""
        return jnp.zeros(())

    def Q_O(self, theta: Any, w: Array) -> ud.Normal:
        """`N(theta - a, scale)`."""
        return ud.Normal(theta - w, ERROR_SCALE)

    def g_A(self, theta: Any, a: Any, w: Array) -> Array:
        """Remember the action."""
        return jnp.asarray(a)

    def g_O(self, theta: Any, o: Any, w: Array) -> Array:
        """Nothing to remember."""
        return w

    def reward(self, theta: Any, w: Array, a: Any, o: Any) -> Array:
        """The nearer, the better."""
        return -jnp.abs(a - theta)


class Aim(ud.AbstractExpert[None]):
    """Aims at theta: `N(theta, scale)`."""

    theta_free_memory: ClassVar[bool] = True

    def init(self, theta: Any) -> None:
        """No memory."""

    def Q_A(self, theta: Any, e: None) -> ud.Normal:
        """`N(theta, scale)`."""
        return ud.Normal(theta, AIM_SCALE)

    def g_A(self, theta: Any, a: Any, e: None) -> None:
        """No memory."""

    def g_O(self, theta: Any, o: Any, e: None) -> None:
        """No memory."""


def line() -> ud.InteractionProcess:
    """A continuous Theta, normal throughout, so that all answers have closed forms."""
    return ud.InteractionProcess(ud.Normal(0.0, PRIOR_SCALE), None, Error(), Aim(), num_rounds=4, name="line")


@eqx.filter_jit
def after(agent: Any, history: ud.Episodes) -> Any:
    """The memory of an agent after one history."""

    def round(m: Any, x: Any) -> tuple[Any, None]:
        a, intervened, o = x
        return agent.g_O(o, agent.g_A(a, m, intervened=intervened)), None

    m = agent.init(num_rounds=history.num_rounds)
    return jax.lax.scan(round, m, (history.actions, history.intervened, history.observations))[0]


@eqx.filter_jit
def draws(agent: Any, m: Any, key: Key[Array, ""], num_draws: int) -> PyTree:
    """Actions of an agent that acts from one memory again and again."""
    return jax.vmap(lambda k: agent.act(m, key=k)[0])(jax.random.split(key, num_draws))


def gaussian(actions: np.ndarray, outcomes: np.ndarray, seen: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of Theta on the line, by precisions: outcomes count, and actions that were seen."""
    precision = 1 / PRIOR_SCALE**2 + len(outcomes) / ERROR_SCALE**2 + seen.sum() / AIM_SCALE**2
    mean = ((actions + outcomes).sum() / ERROR_SCALE**2 + actions[seen].sum() / AIM_SCALE**2) / precision
    return mean, precision**-0.5


def remark_5(settings: Settings) -> Block:
    """Thompson sampling is sampling from the posterior predictive."""
    key_bandit, key_particles, key_line = jax.random.split(jax.random.key(settings.seed), 3)
    bandit, size = ud.tasks.bandit(num_rounds=2), max(settings.num_episodes, 1000)
    history = ud.Episodes.of(bandit, actions=[1], observations=[1])
    thompson = ud.ThompsonAgent(bandit)
    m = after(thompson, history)
    # Draw theta from the belief, then the expert's action under it: the law of both together, summed over theta.
    model, past = bandit.causal_model(), {"do": {"A_1": 1}, "see": {"O_1": 1}}
    belief = model.query("Theta", **past)
    two_steps = sum(p * model.query("A_2", see={"Theta": k}) for k, p in enumerate(belief))
    predictive = np.asarray(model.query("A_2", **past))
    actions = np.asarray(draws(thompson, m, key_bandit, size))

    # Continuous: x_1 and x_3 are the expert's, x_2 is own (Remark 12's words).
    particles = line().particles(size, key=key_particles)
    agent = ud.ThompsonAgent(particles)
    a, o = np.array([0.4, 1.9, 0.1]), np.array([0.3, -1.2, 0.6])
    items = []
    for equation, seen in (("equation-4", [True, True, True]), ("equation-6", [True, False, True])):
        exact_mean, exact_sd = gaussian(a, o, np.array(seen))
        episode = ud.Episodes.of(particles, actions=a, observations=o, intervened=~np.array(seen))
        m = after(agent, episode)
        p, theta = np.exp(np.asarray(m.belief.log_posterior, float)), np.asarray(particles.thetas, float)
        mean = p @ theta
        sd = np.sqrt(p @ (theta - mean) ** 2)
        errors = np.sqrt(p**2 @ (theta - mean) ** 2), np.sqrt(p**2 @ ((theta - mean) ** 2 - sd**2) ** 2) / (2 * sd)
        items.append(
            holds(
                f"remark-5/continuous/{equation}/posterior",
                [mean, sd],
                f"mean and standard deviation {exact_mean:.4f}, {exact_sd:.4f} in closed form (ours)",
                abs(mean - exact_mean) < 4 * errors[0] and abs(sd - exact_sd) < 4 * errors[1],
            )
        )
        x = np.asarray(draws(agent, m, key_line, max(size // 10, 100)), float)
        items.append(
            sampled(
                f"remark-5/continuous/{equation}/mean-action",
                x,
                exact_mean,
                f"{exact_mean:.4f}, the mean of the posterior predictive (ours)",
                error=4 * float(errors[0]),
            )
        )
        items.append(
            sampled(
                f"remark-5/continuous/{equation}/variance-of-actions",
                (x - x.mean()) ** 2,
                exact_sd**2 + AIM_SCALE**2,
                f"{exact_sd**2 + AIM_SCALE**2:.4f}, its variance (ours)",
                error=8 * exact_sd * float(errors[1]),
            )
        )
    return Block(
        "remark-5",
        "Remark 5: Thompson sampling",
        [
            f"On the bandit, after arm 2 was pulled once and paid: the law of an action that is drawn in two steps, "
            f"theta from the belief and the action from the expert's policy under it, against the posterior "
            f"predictive; exactly, and as frequencies of {size:,} actions of `ThompsonAgent`.",
            f"Where Theta is continuous the sum becomes an integral. On a line, theta is a place, an expert aims at "
            f"it, and the outcome is a noisy measure of the miss; all laws are normal, so that closed forms exist. "
            f"`process.particles` draws {size:,} thetas from the prior, and the same agents compute with "
            f"these. Of three actions the second is the agent's own. Counted as seen (equation 4) it drags the "
            f"belief after it; counted as done (equation 6) it does not. Values agree within four standard errors.",
        ],
        [
            equal("remark-5/two-steps", two_steps, predictive, "the posterior predictive"),
            *(
                sampled(
                    f"remark-5/frequency-of-arm-{arm + 1}",
                    actions == arm,
                    float(predictive[arm]),
                    f"{fraction}, the posterior predictive",
                )
                for arm, fraction in ((0, "6/35"), (1, "11/35"))
            ),
            *items,
        ],
    )


# ------------------------------------------------------------------------------------------------------------ Remark 6


def goals() -> ud.CausalModel:
    """Luck, which the expert knows of and the agent does not, decides whether the risky action reaches the goal."""
    return ud.CausalModel(
        [
            ud.Variable("Theta", ("lucky", "unlucky"), table=[0.1, 0.9]),
            ud.Variable("A", ("risky", "safe"), parents="Theta", table=[[0.9, 0.1], [0.1, 0.9]]),
            ud.Variable(
                "G", (0, 1), parents=("Theta", "A"), table=[[[0.05, 0.95], [0.7, 0.3]], [[0.95, 0.05], [0.7, 0.3]]]
            ),
        ]
    )


def remark_6(settings: Settings) -> Block:
    """Goal-conditioned planning."""
    model = goals()
    reached = np.array([_of(model, "G", 1, do={"A": a}) for a in ("risky", "safe")])
    imitation, conditioned = np.asarray(model.query("A")), np.asarray(model.query("A", see={"G": 1}))
    weighed = imitation * reached / (imitation @ reached)
    return Block(
        "remark-6",
        "Remark 6: conditioning on the goal",
        [
            "The paper gives no figures here; these are of an example. One time in ten the agent is lucky. A risky "
            "action reaches the goal with .95 if it is lucky and with .05 if not, a safe one with .3. The expert "
            "knows, and takes the risk with .9 when lucky and .1 when not. The agent does not know.",
            "Among demonstrations that reached the goal, risky ones are frequent, as the lucky are among them. To act "
            "on `P(A | G=1)` is to believe, for having a goal, that one is lucky: it reaches the goal less often than "
            "plain imitation. What an action does is `P(G | do(A))`; to weigh imitation by that, or to take the "
            "best, is better than either. As the remark has it, to choose a goal is an action: entered as an "
            "intervention on G, it tells nothing.",
        ],
        [
            equal(
                "remark-6/P(risky | G=1)",
                conditioned[0],
                15 / 56,
                "conditioning on the goal misleads; here 15/56 (ours)",
            ),
            equal(
                "remark-6/P(lucky | G=1)",
                _of(model, "Theta", "lucky", see={"G": 1}),
                59 / 224,
                "false information about theta: 59/224 where the prior is 1/10 (ours)",
            ),
            equal(
                "remark-6/P(lucky | do(G=1))",
                _of(model, "Theta", "lucky", do={"G": 1}),
                1 / 10,
                "the choice of a goal is an action: 1/10 as before (ours)",
            ),
            equal("remark-6/P(G=1 | do(A))", reached, [0.14, 0.3], ".14 risky, .30 safe (ours)"),
            equal("remark-6/success-of-conditioning-on-the-goal", conditioned @ reached, 9 / 35, ".257 (ours)"),
            equal("remark-6/success-of-plain-imitation", imitation @ reached, 0.2712, ".271 (ours)"),
            equal(
                "remark-6/success-of-imitation-by-effect",
                weighed @ reached,
                0.077328 / 0.2712,
                ".285, by Q(a) P(G=1 | do(a)) (ours)",
            ),
            equal("remark-6/success-of-argmax", reached.max(), 0.3, ".30 (ours)"),
        ],
    )


# ------------------------------------------------------------------------------------------------------------ Remark 7

TELLING = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.975, 0.99, 1.0)
SHOWN_TELLING = (0.5, 0.7, 0.9, 1.0)
VISIBLE = ("O_0", "A_1", "O_1", "A_2", "O_2", "A_3")


def opening(telling: float) -> ud.CausalModel:
    """Two arms; an opening observation is the better one's number with probability `telling`, then two rounds."""
    expert, pays = [[0.9, 0.1], [0.1, 0.9]], np.where(IDENTITY == 1, 0.75, 0.25)
    pays = np.stack([1 - pays, pays], -1)
    variables = [
        ud.Variable("Theta", (0, 1), table=[1 / 2, 1 / 2]),
        ud.Variable("O_0", (0, 1), parents="Theta", table=[[telling, 1 - telling], [1 - telling, telling]]),
    ]
    for t in (1, 2, 3):
        variables.append(ud.Variable(f"A_{t}", (0, 1), parents="Theta", table=expert))
        variables.append(ud.Variable(f"O_{t}", (0, 1), parents=("Theta", f"A_{t}"), table=pays))
    return ud.CausalModel(variables[:-1])


def opening_gap(telling: float) -> float:
    """`E KL(P(A_3 | do(a_1:2), o_0:2) || P(A_3 | a_1:2, o_0:2))`, nats, over a deluded agent's own histories."""
    model = opening(telling)
    see = np.asarray(model.query(VISIBLE), float)
    do = np.empty_like(see)
    for a_1, a_2 in np.ndindex(2, 2):
        do[:, a_1, :, a_2] = model.query(("O_0", "O_1", "O_2", "A_3"), do={"A_1": a_1, "A_2": a_2})

    def conditional(joint: np.ndarray, i: int) -> np.ndarray:
        """Of variable i, given those before it."""
        p = joint.sum(tuple(range(i + 1, joint.ndim)), keepdims=True)
        return p / p.sum(i, keepdims=True)

    # Its actions follow what it believes; Nature's answers, what is so.
    weight = do.sum(-1, keepdims=True) * conditional(see, 1) * conditional(see, 3)
    P_do, P_see = conditional(do, 5), conditional(see, 5)
    return float((weight * P_do * np.log(P_do / P_see)).sum())


def remark_7(settings: Settings) -> Block:
    """Telling observations."""
    gaps = np.array([opening_gap(x) for x in TELLING])
    shown = [gaps[TELLING.index(x)] for x in SHOWN_TELLING]
    return Block(
        "remark-7",
        "Remark 7: observations that tell the task",
        [
            "Two arms, and an opening observation that names the better one with a probability that can be turned up, "
            "from 1/2 (it says nothing) to 1 (it is the task identifier). A deluded agent then acts for two rounds. "
            "The gap is how far its prediction of the third action is from the interventional one, in nats, averaged "
            "over its own histories; all of them are enumerated, so there is no sampling error.",
            "The gap falls all the way, and is 0 where the opening leaves no doubt. A task on which a sequence model "
            "seems to be free of the delusion may just be one whose observations give everything away.",
        ],
        [
            holds(
                "remark-7/gap-by-telling",
                shown,
                "limits the delusion: falls as openings tell more (1/2, .7, .9, 1)",
                (np.diff(gaps) < 0).all(),
            ),
            equal(
                "remark-7/gap-where-theta-is-shown", gaps[-1], 0, "back to the fully observable case", tolerance=1e-9
            ),
        ],
        figures=[(_opening_figure(gaps), "The gap between the two readings, by how telling the opening is.")],
    )


def _opening_figure(gaps: np.ndarray) -> Figure:
    with matplotlib.rc_context(STYLE):
        canvas = Canvas(figsize=(WIDTH, 2.3), layout="constrained")
        axes = canvas.subplots()
        axes.plot(TELLING, gaps, color=SEE, lw=1.6, marker="o", ms=3.5, clip_on=False)
        axes.set(
            xlabel="probability that the opening names the better arm",
            title="KL(do ‖ see) of the third action, nats",
            xlim=(0.5, 1),
            ylim=(0, None),
        )
        return to_figure(
            canvas,
            "telling",
            f"The gap falls from {gaps[0]:.3f} nats, where the opening says nothing, to 0, where it names the arm.",
        )


# ------------------------------------------------------------------------------------------------------------ Remark 8


class Unmarked(eqx.Module):
    """What an agent remembers whose mark is cut: a belief, and the round."""

    belief: Belief
    t: Int[Array, ""]


class CutAgent(ud.AbstractAgent[Unmarked]):
    """A sober agent that is told which actions are its own for `cut` rounds; then they reach it unmarked.

    Attributes:
        exact: who it is with the mark.
        cut: rounds before the mark is cut.
    """

    exact: ud.ExactAgent
    cut: Int[Array, ""] | int = eqx.field(converter=jnp.asarray)
    own_actions: Mark = eqx.field(static=True, default="do")
    marks: tuple[Mark, ...] = eqx.field(static=True, default=("do", "see"))

    def init(self, *, num_rounds: int) -> Unmarked:
        """The prior, before the first round."""
        return Unmarked(self.exact.init(num_rounds=num_rounds), jnp.zeros((), jnp.int32))

    def f_A(self, m: Unmarked) -> Any:
        """As the exact agent."""
        return self.exact.f_A(m.belief)

    def f_O(self, m: Unmarked) -> Any:
        """As the exact agent."""
        return self.exact.f_O(m.belief)

    def g_A(self, a: Any, m: Unmarked, *, intervened: Any) -> Unmarked:
        """The mark is lost from the cut on."""
        return Unmarked(self.exact.g_A(a, m.belief, intervened=intervened & (m.t < self.cut)), m.t + 1)

    def g_O(self, o: Any, m: Unmarked) -> Unmarked:
        """As the exact agent."""
        return Unmarked(self.exact.g_O(o, m.belief), m.t)


@eqx.filter_jit
def expected(agent: Any, episodes: ud.Episodes) -> tuple[Float[Array, "B T A"], Float[Array, "B T O"]]:
    """What an agent predicted before each action and each observation of its episodes."""
    P_A, P_O = jax.vmap(lambda episode: scan(agent, episode))(episodes)
    assert isinstance(P_A, ud.Categorical)
    assert isinstance(P_O, ud.Categorical)
    return P_A.probs, P_O.probs


def remark_8(settings: Settings) -> Block:
    """The efference copy, and what happens without it."""
    bandit, boxes = ud.tasks.bandit(), ud.tasks.prize_or_frog()
    cut, key, size = 10, jax.random.key(settings.seed), max(settings.num_episodes, 1000)
    agent = CutAgent(exact=ud.ExactAgent(bandit), cut=cut)
    episodes = ud.rollout(bandit, agent, key=key, num_episodes=size)
    P_A, P_O = expected(agent, episodes)
    by_hand = _policy_by_marks(bandit, episodes, np.arange(bandit.num_rounds) < cut)
    never, _ = expected(CutAgent(exact=ud.ExactAgent(bandit), cut=0), episodes)
    deluded, _ = expected(ud.ExactAgent(bandit, "see"), eqx.tree_at(lambda e: e.intervened, episodes, replace_fn=_none))
    predicted = np.asarray(P_O[..., 1], float)
    surplus = predicted - np.asarray(episodes.observations)
    after_cut = surplus[:, cut:].mean(1)
    one_box = ud.Episodes.of(boxes, actions=[[0]], observations=[[1]])
    prize = {
        rounds: expected(CutAgent(exact=ud.ExactAgent(boxes), cut=rounds), one_box)[1][0, 0, 1] for rounds in (1, 0)
    }
    return Block(
        "remark-8",
        "Remark 8: the efference copy",
        [
            "What the brain's motor system sends to the senses is, in this library, one bit beside each action: "
            "`intervened`. Here the bit is cut. The agent is sober, and stays the same; but from round 11 of a bandit "
            "its own actions reach it as if somebody else had taken them.",
            f"Up to the cut the rewards that it expects of its actions are those that come, over "
            f"{size:,} episodes. After it, the agent hears an expert in its own actions and expects "
            "more than it gets. Cut before the first round, it is the deluded agent.",
        ],
        [
            equal(
                "remark-8/boxes/P(O=+1)-with-and-without-the-mark",
                [prize[1], prize[0]],
                [1 / 2, 1],
                "own actions are not mistaken for the environment's: 1/2 with the mark, 1 without (ours)",
            ),
            equal(
                "remark-8/cut-before-round-1",
                np.abs(never - deluded).max(),
                0,
                "the deluded agent's prediction (ours)",
            ),
            equal(
                "remark-8/cut-before-round-11",
                np.abs(P_A - by_hand).max(),
                0,
                "the factors of actions 11 to 20 are evidence, those of 1 to 10 are not (ours)",
            ),
            sampled(
                "remark-8/expected-less-actual-reward/rounds-1-10",
                surplus[:, :cut].mean(1),
                0,
                "0 with the mark (ours)",
            ),
            holds(
                "remark-8/expected-less-actual-reward/rounds-11-20",
                after_cut.mean(),
                "above 0 without it: over-confident (ours)",
                after_cut.mean() > 4 * after_cut.std() / np.sqrt(len(after_cut)),
            ),
        ],
        figures=[
            (
                _cut_figure(predicted.mean(0), np.asarray(episodes.observations, float).mean(0), cut),
                "Reward of the own action, as the agent expects it and as it comes; the mark is cut at the line.",
            )
        ],
    )


def _none(marks: Bool[Array, "B T"]) -> Bool[Array, "B T"]:
    return jnp.zeros_like(marks)


def _policy_by_marks(process: ud.InteractionProcess, episodes: ud.Episodes, done: np.ndarray) -> np.ndarray:
    """What an exact agent predicts before each action, `[B, T, A]`, by equation 2 in NumPy; `done[t]` marks round t."""
    log_expert, log_task = log_tables(process)
    a, o = np.asarray(episodes.actions), np.asarray(episodes.observations)
    evidence = log_task.transpose(1, 2, 0)[a, o] + np.where(done[:, None], 0, log_expert.T[a])
    before = np.concatenate([np.zeros_like(evidence[:, :1]), evidence.cumsum(1)[:, :-1]], 1)
    belief = np.asarray(process.prior) * np.exp(before - before.max(-1, keepdims=True))
    return belief / belief.sum(-1, keepdims=True) @ np.exp(log_expert)


def _cut_figure(predicted: np.ndarray, actual: np.ndarray, cut: int) -> Figure:
    rounds = np.arange(1, len(actual) + 1)
    with matplotlib.rc_context(STYLE):
        canvas = Canvas(figsize=(WIDTH, 2.3), layout="constrained")
        axes = canvas.subplots()
        axes.plot(rounds, actual, color=DO, lw=1.6)
        axes.plot(rounds, predicted, color=SEE, lw=1.6, ls="--")
        axes.axvline(cut + 0.5, color=MUTED, lw=0.8, ls=":")
        axes.text(rounds[-1], predicted[-1] + 0.01, "expected", color=SEE_TEXT, ha="right", va="bottom")
        axes.text(rounds[-1], actual[-1] - 0.015, "actual", color=DO_TEXT, ha="right", va="top")
        axes.set(xlabel="round", title="reward of the own action", xlim=(1, len(actual)))
        axes.set_xticks([1, 5, 10, 15, 20])
        axes.margins(y=0.15)
        return to_figure(
            canvas,
            "cut",
            f"Expected and actual reward agree until round {cut}; in the last round {predicted[-1]:.2f} is expected "
            f"and {actual[-1]:.2f} comes.",
        )


BLOCKS: Sequence[Any] = (cases, remark_1, remark_2, remark_3, remark_4, remark_5, remark_6, remark_7, remark_8)
