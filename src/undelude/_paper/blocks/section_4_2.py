"""Section 4.2: the naive repair of logged demonstrations."""

import itertools

import jax
import matplotlib
import numpy as np
from matplotlib.figure import Figure

import undelude as ud
from undelude._drawing.svg import DO, SEE, STYLE, WIDTH, Svg, to_figure
from undelude._paper.item import Block, Item, Settings, equal, holds, sampled

LOGGED = ("A_1", "O_1", "A_2", "O_2", "A_3")
# Of the demonstrations, in the figure.
SHARES = (0.01, 0.1, 1.0)
Lived = tuple[np.ndarray, np.ndarray, np.ndarray]


def taught_by_switching(logged: np.ndarray) -> list[np.ndarray]:
    """What counterfactual teaching from logs gives, if the agent's choice is met by switching trajectories; exact.

    A trajectory tau is drawn from the logs. The agent is taught tau's next action, and draws its own, blind to theta.
    Where that is tau's, tau goes on; otherwise another trajectory that begins with what the agent has lived through
    takes its place. The next observation is read from it.

    Args:
        logged: the distribution of `a_1, o_1, ..., a_t`, an axis for each symbol.

    Returns:
        For each action, the distribution of what is taught there, given the history as the agent lived it.
    """
    distribution, lessons = logged, []
    for k in range(0, logged.ndim, 2):
        later = tuple(range(k + 1, logged.ndim))
        lesson = distribution.sum(later)  # P(a_bar | lived)
        lessons.append(lesson)
        if not later:
            break
        begins_so = logged / logged.sum(later, keepdims=True)  # P(rest of a logged trajectory | it begins so)
        distribution = distribution + (1 - np.expand_dims(lesson, later)) * begins_so  # kept, or switched
        distribution = distribution / distribution.sum(later[1:], keepdims=True)  # the observation is read
    return lessons


def taught_with_same_theta(joint: np.ndarray) -> np.ndarray:
    """Return the second lesson if a switch keeps theta, as if it were known; from `P(theta, a_1, o_1, a_2)`.

    Then `P(theta, a_1)` becomes `P(theta)` times the agent's uniform action.
    """
    switched = (joint / joint.sum((2, 3), keepdims=True) * joint.sum((1, 2, 3), keepdims=True)).sum(0)
    return switched / switched.sum(-1, keepdims=True)


def simulate_switching(
    rng: np.random.Generator, actions: np.ndarray, observations: np.ndarray, num_lessons: int
) -> Lived:
    """The same with a data set.

    Args:
        rng: of draws.
        actions: of the logged trajectories, `[N, T]`.
        observations: likewise.
        num_lessons: how many times a trajectory is drawn to begin with.

    Returns:
        The agent's actions and observations as it lived them, and what it was taught, `[num_lessons, T]` each; without
        those that came to a history that no trajectory begins with.
    """
    T, A, O = actions.shape[1], actions.max() + 1, observations.max() + 1  # noqa: E741 - the letter of the paper
    tau = rng.integers(len(actions), size=num_lessons)
    lived_a, lived_o, taught = (np.zeros((num_lessons, T), int) for _ in range(3))
    logged_code, lived_code = np.zeros(len(actions), int), np.zeros(num_lessons, int)
    for t in range(T):
        taught[:, t] = actions[tau, t]
        lived_a[:, t] = rng.integers(A, size=len(tau))
        logged_code, lived_code = logged_code * A + actions[:, t], lived_code * A + lived_a[:, t]
        order = np.argsort(logged_code, kind="stable")
        first, end = (np.searchsorted(logged_code[order], lived_code, side=side) for side in ("left", "right"))
        drawn = first + (rng.random(len(tau)) * (end - first)).astype(int)
        other = order[np.minimum(drawn, len(order) - 1)]
        tau = np.where(taught[:, t] != lived_a[:, t], other, tau)
        lived_o[:, t] = observations[tau, t]
        logged_code, lived_code = logged_code * O + observations[:, t], lived_code * O + lived_o[:, t]
        known = end > first
        tau, lived_code, lived_a, lived_o, taught = (x[known] for x in (tau, lived_code, lived_a, lived_o, taught))
    return lived_a, lived_o, taught


def block(settings: Settings) -> Block:
    """Logs alone: the naive repair teaches the deluded answer."""
    bandit = ud.tasks.bandit()
    model = bandit.causal_model(num_rounds=3)
    logged = np.asarray(model.query(LOGGED), float)
    _, *lessons = taught_by_switching(logged)
    see = [x / x.sum(-1, keepdims=True) for x in (logged.sum((3, 4)), logged)]
    answers = {"see": see, "do": [_done(model, num_rounds) for num_rounds in (1, 2)]}
    do = answers["do"]
    same = taught_with_same_theta(np.asarray(model.query(("Theta", *LOGGED[:3])), float))

    size = max(5 * settings.num_episodes // 2, 2000)
    demonstrations = ud.rollout(
        bandit, None, key=jax.random.key(settings.seed), num_episodes=size, num_rounds=3, executor="expert"
    )
    log = np.asarray(demonstrations.actions), np.asarray(demonstrations.observations)
    lived = simulate_switching(np.random.default_rng(settings.seed), *log, size)
    sequences = len(np.unique(np.stack([log[0][:, 0], log[1][:, 0], log[0][:, 1], log[1][:, 1]], 1), axis=0))

    read = [_rewards(logged)[1], model.query("O_1", do={"A_1": 0})[1]]
    as_see, off = ([np.abs(x - y).max() for x, y in zip(lessons, answers[name], strict=True)] for name in ("see", "do"))
    everything = logged.min() > 0 and sequences == 100
    name = "section-4-2"
    items = [
        equal(
            f"{name}/P(repeat-after-reward)/as-taught",
            lessons[0][0, 1, 0],
            56 / 110,
            "56/110: what the log does",
            ours=True,
        ),
        equal(f"{name}/P(repeat-after-reward)/do", do[0][0, 1, 0], 11 / 35, "11/35: equation 3", ours=True),
        equal(
            f"{name}/largest-difference/lesson-and-see",
            as_see,
            [0, 0],
            "another trajectory does not circumvent the problem",
        ),
        holds(
            f"{name}/largest-difference/lesson-and-do",
            off,
            "the problem persists: far from the right answer",
            min(off) > 0.05,
        ),
        equal(f"{name}/P(O_1=1)/as-read-and-done", read, [0.55, 0.35], ".55 from the log, .35 if done", ours=True),
        equal(
            f"{name}/P(same-theta)-after-switching",
            _same_theta(model),
            0.15,
            "tau' might not have the same theta: .15",
            ours=True,
        ),
        equal(
            f"{name}/largest-difference/lesson-with-the-same-theta-and-do",
            np.abs(same - do[0]).max(),
            0,
            "theta is what is missing",
            ours=True,
        ),
        holds(
            f"{name}/sequences-of-two-rounds-in-the-log",
            sequences,
            "not data sparsity: 100 of 100",
            everything,
            ours=True,
        ),
        *_simulated_items(lived, logged, answers, size),
    ]
    text = [
        "An agent is to be taught from a log of the bandit's expert. It is taught the expert's action, draws its own, "
        "and where the two differ, the log's trajectory no longer fits. The repair that suggests itself is to go on "
        "with another trajectory that begins as the agent did. Enumerating every case, what this teaches is exactly "
        "the distribution of the log given its past: the deluded answer. The other trajectory has the same theta with "
        "probability .15 only, less often than one drawn blindly. Could it be chosen to have the same theta, the "
        "lessons would be right.",
        f"Then the same with {size:,} simulated demonstrations. Lessons of the second round are compared with both "
        "answers, as a total variation; those of the third by how much likelier they "
        "are under the deluded answer, in nats.",
        "More data do not help. The log holds every sequence of two rounds, and in the figure the distance from the "
        "deluded answer goes to zero as the log grows, and that from the right one does not.",
    ]
    figure = _sizes_figure(log, logged, answers, settings.seed)
    caption = "Lessons of the second round from logs of growing size: distance from either answer."
    title = "Section 4.2: why logged demonstrations do not suffice"
    return Block(name, title, text, items, [(figure, caption)])


def _done(model: ud.CausalModel, num_rounds: int) -> np.ndarray:
    """`P(A_t+1 | do(a_1:t), o_1:t)` after each history, `[a_1, o_1, ..., a_t+1]`."""
    actions, observations = ([f"{x}_{t + 1}" for t in range(num_rounds)] for x in "AO")
    answer = np.empty([5, 2] * num_rounds + [5])
    for history in itertools.product(*[range(5), range(2)] * num_rounds):
        do, see = (dict(zip(names, history[i::2], strict=True)) for i, names in enumerate((actions, observations)))
        answer[history] = model.query(f"A_{num_rounds + 1}", do=do, see=see)
    return answer


def _same_theta(model: ud.CausalModel) -> float:
    """The probability that a trajectory switched to after the first action has the theta of the one left."""
    joint = np.asarray(model.query(("Theta", "A_1")), float)
    given = joint / joint.sum(0)  # P(theta' | a)
    # The agent's own action is uniform, and another than the expert's.
    switched = joint[:, :, None] * (1 - np.eye(5)) / 5  # theta, a_bar, a
    return float((switched * given[:, None, :]).sum() / switched.sum())


def _simulated_items(lived: Lived, logged: np.ndarray, answers: dict[str, list[np.ndarray]], size: int) -> list[Item]:
    (a, o, taught), see, do = lived, answers["see"], answers["do"]
    items = []
    for name, answer in answers.items():
        tv, se = _pooled_tv(lived, logged, answer[0], size)
        exact = float(_rewards(logged) @ np.abs(see[0][0, :, 0] - answer[0][0, :, 0]))
        said = "within noise of the deluded answer" if name == "see" else f"{exact:.4f} from the right one"
        agrees = abs(tv - exact) < 4 * se
        items.append(Item(f"section-4-2/simulated/total-variation-from-{name}", round(tv, 6), said, agrees, True, se))
    history, ratio = (a[:, 0], o[:, 0], a[:, 1], o[:, 1]), np.log(see[1] / do[1])
    x = ratio[(*history, taught[:, 2])]
    expected = float((see[1] * ratio).sum(-1)[history].mean())
    said = f"{expected:.4f}, as from the deluded answer; below 0 from the right one"
    # Lessons share trajectories: the log's own error is as large as that of the lessons.
    error = float(x.std(ddof=1)) / np.sqrt(size)
    return [
        *items,
        sampled("section-4-2/simulated/log-likelihood-ratio-of-see", x, expected, said, error=error, ours=True),
    ]


def _pooled_tv(lived: Lived, logged: np.ndarray, answer: np.ndarray, size: int) -> tuple[float, float]:
    """Mean total variation of the second lesson from an answer, and its standard error.

    All arms are alike but the one that was pulled, so lessons are pooled into those that repeat it and those that do
    not, after a loss and after a reward. The error of the lessons and that of the log that they are drawn from add up.
    """
    a, o, taught = (x[:, i] for x, i in zip(lived, (0, 0, 1), strict=True))
    counts = np.bincount(o, minlength=2)
    p, weight = np.bincount(o, weights=taught == a, minlength=2) / counts, _rewards(logged)
    se = np.sqrt(p * (1 - p) * (1 / counts + 1 / (size * weight)))
    return float(weight @ np.abs(p - answer[0, :, 0])), float(np.sqrt(weight**2 @ se**2))


def _rewards(logged: np.ndarray) -> np.ndarray:
    """`P(O_1 | A_1)` in the log: what is read after an own action, once trajectories are switched."""
    return logged[0].sum((1, 2, 3)) / logged[0].sum()


def _sizes_figure(
    log: tuple[np.ndarray, np.ndarray], logged: np.ndarray, answers: dict[str, list[np.ndarray]], seed: int
) -> Svg:
    most = len(log[0])
    sizes = [int(most * share) for share in SHARES]
    rng, tv = np.random.default_rng(seed), {name: [] for name in answers}
    for size in sizes:
        lived = simulate_switching(rng, log[0][:size], log[1][:size], most)
        for name, answer in answers.items():
            tv[name].append(_pooled_tv(lived, logged, answer[0], size)[0])
    looks = {"do": ("from the right answer", DO, "o-"), "see": ("from the deluded answer", SEE, "s--")}
    with matplotlib.rc_context(STYLE):
        canvas = Figure(figsize=(WIDTH, 2.3), layout="constrained")
        axes = canvas.subplots()
        for name, (label, colour, line) in looks.items():
            axes.semilogx(sizes, tv[name], line, color=colour, label=label, lw=1.6, ms=4, mew=0)
        axes.set(xlabel="logged demonstrations", title="total variation of the lessons", ylim=(0, None))
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.set_xticks([], minor=True)
        axes.legend(frameon=False, loc="center right")
        ends = ", ".join(f"{label} {tv[name][-1]:.3f}" for name, (label, *_) in looks.items())
        return to_figure(canvas, "switching", f"Lessons from up to {most:,} demonstrations; with all of them: {ends}.")
