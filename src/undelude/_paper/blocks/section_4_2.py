"""Section 4.2: the naive repair of logged demonstrations."""

import dataclasses
import itertools

import matplotlib
import numpy as np
from matplotlib.figure import Figure

import undelude as ud
from undelude._drawing.colours import DO, SEE
from undelude._drawing.svg import STYLE, WIDTH, Svg, to_figure
from undelude._paper.blocks.models import demonstrations
from undelude._paper.criterion import at_least, near, sampled
from undelude._paper.item import Block, Item, Measured, Rows, Settings, mean

LOGGED = ("A_1", "O_1", "A_2", "O_2", "A_3")
# Shares of the demonstrations that the figure has.
SHARES = (0.01, 0.1, 1.0)
# Actions and observations of the agent, and the actions that it was taught.
Lessons = tuple[np.ndarray, np.ndarray, np.ndarray]


def taught_by_switching(logged: np.ndarray) -> list[np.ndarray]:
    """Return the lessons of counterfactual teaching from logs that switches trajectories; exact.

    A trajectory tau is sampled from the logs. The agent is taught tau's next action, and samples its own. If they are
    equal, tau continues. Otherwise tau is replaced by another trajectory that begins with the agent's history. The next
    observation is read from tau.

    Args:
        logged: the distribution of `a_1, o_1, ..., a_t`, with one axis for each symbol.

    Returns:
        For each action, the distribution of the taught action given the agent's history.
    """
    distribution, lessons = logged, []
    for k in range(0, logged.ndim, 2):
        later = tuple(range(k + 1, logged.ndim))
        lesson = distribution.sum(later)  # P(a_bar | history)
        lessons.append(lesson)
        if not later:
            break
        begins_so = logged / logged.sum(later, keepdims=True)  # P(rest of a logged trajectory | its beginning)
        distribution = distribution + (1 - np.expand_dims(lesson, later)) * begins_so  # kept, or switched
        distribution = distribution / distribution.sum(later[1:], keepdims=True)  # read the observation
    return lessons


def taught_with_same_theta(joint: np.ndarray) -> np.ndarray:
    """Return the second lesson if a switch keeps theta, as if it were known; from `P(theta, a_1, o_1, a_2)`.

    Then `P(theta, a_1)` becomes `P(theta)` times the agent's uniform action.
    """
    switched = (joint / joint.sum((2, 3), keepdims=True) * joint.sum((1, 2, 3), keepdims=True)).sum(0)
    return switched / switched.sum(-1, keepdims=True)


def simulate_switching(
    rng: np.random.Generator, actions: np.ndarray, observations: np.ndarray, num_lessons: int
) -> Lessons:
    """Simulate teaching by switching trajectories with a data set.

    Args:
        rng: random generator.
        actions: actions of the logged trajectories, `[N, T]`.
        observations: their observations, `[N, T]`.
        num_lessons: number of episodes of the agent.

    Returns:
        The agent's actions and observations, and the actions that it was taught, each `[num_lessons, T]`. Episodes
        whose history begins no trajectory are omitted.
    """
    T, A, O = actions.shape[1], actions.max() + 1, observations.max() + 1
    tau = rng.integers(len(actions), size=num_lessons)
    agent_a, agent_o, taught = (np.zeros((num_lessons, T), int) for _ in range(3))
    logged_code, agent_code = np.zeros(len(actions), int), np.zeros(num_lessons, int)
    for t in range(T):
        taught[:, t] = actions[tau, t]
        agent_a[:, t] = rng.integers(A, size=len(tau))
        logged_code, agent_code = logged_code * A + actions[:, t], agent_code * A + agent_a[:, t]
        order = np.argsort(logged_code, kind="stable")
        first, end = (np.searchsorted(logged_code[order], agent_code, side=side) for side in ("left", "right"))
        drawn = first + (rng.random(len(tau)) * (end - first)).astype(int)
        other = order[np.minimum(drawn, len(order) - 1)]
        tau = np.where(taught[:, t] != agent_a[:, t], other, tau)
        agent_o[:, t] = observations[tau, t]
        logged_code, agent_code = logged_code * O + observations[:, t], agent_code * O + agent_o[:, t]
        known = end > first
        tau, agent_code, agent_a, agent_o, taught = (x[known] for x in (tau, agent_code, agent_a, agent_o, taught))
    return agent_a, agent_o, taught


def block(settings: Settings) -> Block:
    """Compare the lessons of the naive repair with the deluded and the interventional answer."""
    bandit = ud.tasks.bandit()
    model = bandit.causal_model(num_rounds=3)
    logged = np.asarray(model.query(LOGGED), float)
    _, *lessons = taught_by_switching(logged)
    see = [x / x.sum(-1, keepdims=True) for x in (logged.sum((3, 4)), logged)]
    answers = {"see": see, "do": [_done(model, num_rounds) for num_rounds in (1, 2)]}
    do = answers["do"]
    same = taught_with_same_theta(np.asarray(model.query(("Theta", *LOGGED[:3])), float))

    size = max(5 * settings.num_episodes // 2, 2000)
    rng = np.random.default_rng(settings.seed)
    _, actions, observations = demonstrations(bandit, size, 3, rng)
    log = actions, observations
    sample = simulate_switching(rng, *log, size)

    read = [_rewards(logged)[1], model.query("O_1", do={"A_1": 0})[1]]
    as_see, off = ([np.abs(x - y).max() for x, y in zip(lessons, answers[name], strict=True)] for name in ("see", "do"))
    name = "section-4-2"
    rows = Rows(name, "Section 4.2, p. 13", {"task": "bandit", "log": "its expert, three rounds, enumerated"})
    simulated = dataclasses.replace(
        rows, parameters={"task": "bandit", "demonstrations and lessons": size, "seed": settings.seed}
    )
    items = [
        rows.paper(
            "largest-difference/lesson-and-see",
            '"This problem cannot be circumvented by replacing tau with another sequence": the lessons are P(A | a, o)',
            as_see,
            near([0, 0]),
        ),
        rows.paper(
            "largest-difference/lesson-and-do",
            '"the above problem persists": the lessons are far from P(A | do(a), o)',
            off,
            at_least(0.05),
        ),
        rows.paper(
            "least-probability-of-a-sequence-of-two-rounds",
            '"This is not a problem of data sparsity": the log has every sequence, at this rate at least',
            logged.sum(-1).min(),
            at_least(1e-4),
        ),
        rows.example(
            "P(same-theta)-after-switching",
            "the other trajectory seldom has the same theta: .6 .1 + .4 (1/4 .6 + 3/4 .1)",
            _same_theta(model),
            near(0.15),
        ),
        rows.example("P(repeat-after-reward)/as-taught", "what the log does", lessons[0][0, 1, 0], near("56/110")),
        rows.example("P(repeat-after-reward)/do", "the right answer, equation 3", do[0][0, 1, 0], near("11/35")),
        rows.example("P(O_1=1)/as-read-and-done", "in the log, and after an own action", read, near([0.55, 0.35])),
        rows.example(
            "largest-difference/lesson-with-the-same-theta-and-do",
            "with the same theta the lessons would be right",
            np.abs(same - do[0]).max(),
            near(0),
        ),
        *_simulated_items(simulated, sample, logged, answers, size),
    ]
    text = [
        "An agent is taught from a log of the bandit's expert. It is taught the expert's action and samples its own. "
        "If the two differ, the logged trajectory no longer fits. A naive repair is to continue with another "
        "trajectory that begins with the agent's history. Enumeration shows that this teaches exactly the conditional "
        "distribution of the log: the deluded answer. The other trajectory has the same theta with probability .15 "
        "only, less than a random one. With the same theta the lessons would be right.",
        f"Then {size:,} demonstrations were simulated. Lessons of the second round are compared with both answers by "
        "their total variation, those of the third round by their log-likelihood ratio in nats.",
        "More data do not help. The log contains every sequence of two rounds. In the figure the total variation from "
        "the deluded answer converges to 0 as the log grows, and that from the right one does not.",
    ]
    figure = _sizes_figure(log, logged, answers, settings.seed)
    caption = "Lessons of the second round by size of the log: total variation from both answers."
    title = "Section 4.2: why logged demonstrations do not suffice"
    return Block(name, title, text, items, [(figure, caption)])


def _done(model: ud.CausalModel, num_rounds: int) -> np.ndarray:
    """Return `P(A_t+1 | do(a_1:t), o_1:t)` for each history, `[a_1, o_1, ..., a_t+1]`."""
    actions, observations = ([f"{x}_{t + 1}" for t in range(num_rounds)] for x in "AO")
    answer = np.empty([5, 2] * num_rounds + [5])
    for history in itertools.product(*[range(5), range(2)] * num_rounds):
        do, see = (dict(zip(names, history[i::2], strict=True)) for i, names in enumerate((actions, observations)))
        answer[history] = model.query(f"A_{num_rounds + 1}", do=do, see=see)
    return answer


def _same_theta(model: ud.CausalModel) -> float:
    """Return the probability that after the first action the new trajectory has the same theta as tau.

    By hand: if the expert's action is theta (.6), the agent takes another arm and the new theta is that of tau with
    probability .1. If not (.4), theta is one of four other arms: 1/4 .6 + 3/4 .1 = 9/40. In sum .06 + .09 = .15.
    """
    joint = np.asarray(model.query(("Theta", "A_1")), float)
    given = joint / joint.sum(0)  # P(theta' | a)
    # The agent's action is uniform over the arms that the expert did not take.
    switched = joint[:, :, None] * (1 - np.eye(5)) / 5  # theta, a_bar, a
    return float((switched * given[:, None, :]).sum() / switched.sum())


def _simulated_items(
    rows: Rows, sample: Lessons, logged: np.ndarray, answers: dict[str, list[np.ndarray]], size: int
) -> list[Item]:
    (a, o, taught), see, do = sample, answers["see"], answers["do"]
    claims = {"see": "the lessons are the deluded answer", "do": "and not the right one"}
    items = []
    for name, answer in answers.items():
        exact = float(_rewards(logged) @ np.abs(see[0][0, :, 0] - answer[0][0, :, 0]))
        tv = Measured(*_pooled_tv(sample, logged, answer[0], size))
        items.append(rows.example(f"simulated/total-variation-from-{name}", claims[name], tv, sampled(exact)))
    history, ratio = (a[:, 0], o[:, 0], a[:, 1], o[:, 1]), np.log(see[1] / do[1])
    x = ratio[(*history, taught[:, 2])]
    expected = float((see[1] * ratio).sum(-1)[history].mean())
    # Lessons share trajectories, and the log has a sampling error of the same size.
    criterion = sampled(expected, error=float(x.std(ddof=1)) / np.sqrt(size))
    claim = "log-likelihood ratio of see to do, nats: its mean under the deluded answer"
    return [*items, rows.example("simulated/log-likelihood-ratio-of-see", claim, mean(x), criterion)]


def _pooled_tv(sample: Lessons, logged: np.ndarray, answer: np.ndarray, size: int) -> tuple[float, float]:
    """Return the mean total variation of the second lesson from an answer, and its standard error.

    By symmetry lessons are pooled into those that repeat the first arm and those that do not, after a loss and after a
    reward. The error of the lessons and that of the log add up.
    """
    a, o, taught = (x[:, i] for x, i in zip(sample, (0, 0, 1), strict=True))
    counts = np.bincount(o, minlength=2)
    p, weight = np.bincount(o, weights=taught == a, minlength=2) / counts, _rewards(logged)
    se = np.sqrt(p * (1 - p) * (1 / counts + 1 / (size * weight)))
    return float(weight @ np.abs(p - answer[0, :, 0])), float(np.sqrt(weight**2 @ se**2))


def _rewards(logged: np.ndarray) -> np.ndarray:
    """Return `P(O_1 | A_1)` in the log, the distribution of the observation after a switch."""
    return logged[0].sum((1, 2, 3)) / logged[0].sum()


def _sizes_figure(
    log: tuple[np.ndarray, np.ndarray], logged: np.ndarray, answers: dict[str, list[np.ndarray]], seed: int
) -> Svg:
    most = len(log[0])
    sizes = [int(most * share) for share in SHARES]
    rng, tv = np.random.default_rng(seed), {name: [] for name in answers}
    for size in sizes:
        sample = simulate_switching(rng, log[0][:size], log[1][:size], most)
        for name, answer in answers.items():
            tv[name].append(_pooled_tv(sample, logged, answer[0], size)[0])
    looks = {"do": ("from the right answer", DO, "o-"), "see": ("from the deluded answer", SEE, "s--")}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.3), layout="constrained")
        axes = figure.subplots()
        for name, (label, colour, line) in looks.items():
            axes.semilogx(sizes, tv[name], line, color=colour, label=label, lw=1.6, ms=4, mew=0)
        axes.set(xlabel="logged demonstrations", title="total variation of lessons", ylim=(0, None))
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.set_xticks([], minor=True)
        axes.legend(frameon=False, loc="center right")
        ends = ", ".join(f"{label} {tv[name][-1]:.3f}" for name, (label, *_) in looks.items())
        return to_figure(figure, "switching", f"Lessons from up to {most:,} demonstrations; with all of them: {ends}.")
