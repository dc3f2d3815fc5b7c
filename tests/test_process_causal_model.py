"""A process written out as a causal model: its tables are the distributions, its graph the paper's."""

import numpy as np
import pytest

import processes
import undelude as ud
from machines import KINDS, process_of
from oracle import enumerate_joint, random_machine


@pytest.mark.parametrize("kind", KINDS)
def test_the_joint_is_that_of_the_process(kind: str):
    """Every trajectory, the factors of its actions in or out as they were seen or done, against enumeration."""
    rng = np.random.default_rng(len(kind))
    machine = random_machine(rng, K=2, O=2, W=3, **KINDS[kind])
    process = process_of(machine, num_rounds=2, theta_free="theta_free" in KINDS[kind])
    model, joint = process.causal_model(), enumerate_joint(machine, 2)
    history = (["O_0"] if machine.opening else []) + ["A_1", "O_1", "A_2", "O_2"]
    symbols = dict(zip(["A_1", "A_2", "O_1", "O_2"], [*joint.actions.T, *joint.observations.T], strict=True))
    if machine.opening:
        symbols["O_0"] = joint.opening
    for done in ([], ["A_1"], ["A_1", "A_2"]):
        do = np.isin(["A_1", "A_2"], done)
        for a in np.ndindex(2, 2):
            table = np.zeros([2] * len(history))
            np.add.at(table, tuple(symbols[name] for name in history), joint.mutilated(np.array(a), do))
            actions = dict(zip(["A_1", "A_2"], map(int, a), strict=True))
            asked = [name for name in history if name not in done]
            at = tuple(actions[name] if name in done else slice(None) for name in history)
            answer = model.query(asked, do={name: actions[name] for name in done})
            np.testing.assert_allclose(answer, table[at], atol=1e-6)


def test_posterior_is_a_query():
    """Mixed marks in one history: the recursion and the contraction say the same of Theta and of the next action."""
    rng = np.random.default_rng(0)
    process = process_of(random_machine(rng, K=3, O=2), num_rounds=3, theta_free=False)
    model = process.causal_model()
    for _ in range(8):
        a, o, done = rng.integers(2, size=3).tolist(), rng.integers(2, size=3).tolist(), rng.random(3) < 0.5
        history = ud.Episodes.of(process, actions=a, observations=o, intervened=done)
        see = {f"O_{t + 1}": o[t] for t in range(3)} | {f"A_{t + 1}": a[t] for t in range(3) if not done[t]}
        do = {f"A_{t + 1}": a[t] for t in range(3) if done[t]}
        np.testing.assert_allclose(
            np.exp(ud.posterior(process, history)[-1]), model.query("Theta", see=see, do=do), atol=1e-5
        )


def test_the_graph_is_the_papers():
    """Only what makes a difference: no arrow from A_1 to A_2 on the bandit; with memory, some."""
    assert ud.tasks.bandit().causal_model(num_rounds=2).graph == {
        "Theta": (),
        "A_1": ("Theta",),
        "O_1": ("Theta", "A_1"),
        "A_2": ("Theta",),
        "O_2": ("Theta", "A_2"),
    }
    rng = np.random.default_rng(1)
    machine = random_machine(rng, K=2, O=2, W=16, E=16, transition=True, theta_free=True)
    graph = process_of(machine, num_rounds=2, theta_free=True).causal_model().graph
    assert tuple(graph) == ("Theta_1", "A_1", "O_1", "Theta_2", "A_2", "O_2")
    assert {"Theta_2", "A_2"} <= set(graph["O_2"]) <= {"Theta_2", "A_1", "O_1", "A_2"}
    assert "Theta_2" in graph["A_2"]
    assert "Theta_1" in graph["Theta_2"]


def test_histories_that_leave_the_same_memory_are_one_state():
    """Twenty rounds of the bandit, 10^20 histories: a star, whose answers are those of the recursion."""
    bandit = ud.tasks.bandit()
    model = bandit.causal_model()
    assert model.graph["A_20"] == ("Theta",)
    assert model.graph["O_20"] == ("Theta", "A_20")
    rng = np.random.default_rng(2)
    a, o, done = rng.integers(5, size=20).tolist(), rng.integers(2, size=20).tolist(), rng.random(20) < 0.5
    history = ud.Episodes.of(bandit, actions=a, observations=o, intervened=done)
    see = {f"O_{t + 1}": o[t] for t in range(20)} | {f"A_{t + 1}": a[t] for t in range(20) if not done[t]}
    do = {f"A_{t + 1}": a[t] for t in range(20) if done[t]}
    np.testing.assert_allclose(
        np.exp(ud.posterior(bandit, history)[-1]), model.query("Theta", see=see, do=do), atol=1e-5
    )


def test_what_is_rare_is_not_what_cannot_be():
    """An observation of 5e-7 under one theta and of 0 under the other tells theta, and the arrow stays."""
    process = ud.tasks.from_tables(
        prior=[0.5, 0.5], expert=[[1.0], [1.0]], task=[[[1 - 5e-7, 5e-7]], [[1.0, 0.0]]], num_rounds=1
    )
    np.testing.assert_allclose(process.causal_model().query("Theta", see={"O_1": 1}), [1, 0])


def test_what_has_no_causal_model_is_refused():
    machine = random_machine(np.random.default_rng(3), K=2, A=4, O=8, W=4096, E=4096)
    process = process_of(machine, num_rounds=5, theta_free=False)
    with pytest.raises(ValueError, match=r"machine: the causal model would have .*Give a smaller num_rounds"):
        process.causal_model()
    with pytest.raises(TypeError, match="actions are numbers"):
        processes.arm().causal_model(num_rounds=1)
    with pytest.raises(ValueError, match="num_rounds must be a whole number of at least 1"):
        ud.tasks.bandit().causal_model(num_rounds=0)
