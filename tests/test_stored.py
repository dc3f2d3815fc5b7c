"""Teaching from stored episodes: the limits are those of the teachings, and the data must support them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud

KEY = jax.random.key(0)
SIZE = {"key": KEY, "batch_size": 32}


@pytest.fixture(scope="module")
def process():
    return ud.tasks.bandit(num_arms=3, num_rounds=6)


@pytest.fixture(scope="module")
def agent(process):
    return ud.GRUAgent(process, 16, key=KEY)


@pytest.fixture(scope="module")
def demos(process):
    return ud.rollout(process, None, executor="expert", key=KEY, num_episodes=1024)


@pytest.fixture(scope="module")
def labelled(process, agent):
    """Episodes of another agent, with the answers of the expert."""
    return ud.rollout(process, ud.GRUAgent(process, 4, key=jax.random.key(1)), key=KEY, num_episodes=1024)


def edited(episodes, **fields):
    return eqx.tree_at(
        lambda e: [getattr(e, name) for name in fields], episodes, [*fields.values()], is_leaf=lambda x: x is None
    )


def test_batches_are_the_data(process, agent, demos):
    """A batch of all episodes has their mean loss, whatever the order."""
    few = jax.tree.map(lambda x: x[:32], demos)
    run = ud.teach(process, agent, ud.Factual(), steps=1, data=few, **SIZE)
    losses = jax.jit(jax.vmap(lambda e: ud.log_losses(agent, e)))(few)
    got = [run.metrics[0][name] for name in ("action_loss", "observation_loss")]
    np.testing.assert_allclose(got, [x.mean() for x in losses], rtol=1e-5)


@pytest.mark.slow
def test_limits_are_those_of_the_teachings(process, agent, demos, labelled):
    cloned = ud.teach(process, agent, ud.Cloning(), steps=150, data=demos, **SIZE).agent
    sober = ud.teach(process, agent, ud.Counterfactual(), steps=150, data=labelled, **SIZE).agent
    deluded, right = (ud.certify(process, x, key=KEY, num_episodes=512, baselines=False) for x in (cloned, sober))
    assert deluded.action_kl_see < deluded.action_kl_do / 4
    assert right.action_kl_do < deluded.action_kl_do / 4
    assert (cloned.own_actions, sober.own_actions) == ("see", "do")


@pytest.mark.parametrize("reuse", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_continued_run_is_the_uninterrupted_one(process, agent, demos, reuse):
    states = []
    options = SIZE | {"steps": 8, "data": demos, "log_every": 2, "reuse": reuse}
    whole = ud.teach(process, agent, ud.Cloning(), on_log=lambda state, row: states.append(state), **options)
    rest = ud.teach(process, agent, ud.Cloning(), state=states[1], **options)
    for x, y in zip(*(jax.tree.leaves(eqx.filter(run.agent, eqx.is_array)) for run in (whole, rest)), strict=True):
        np.testing.assert_array_equal(x, y)


def test_rounds_that_do_not_exist_are_not_read(process, agent, demos):
    """Arrays of episodes of different lengths, of fewer rounds than the process has."""
    few = jax.tree.map(lambda x: x[:32, :5] if x.ndim > 1 else x[:32], demos)
    lengths = np.arange(32) % 5 + 1
    mask = np.arange(5) < lengths[:, None]
    symbols = {"actions": few.actions, "observations": few.observations}
    junk = {name: jnp.where(mask, x, 7) for name, x in symbols.items()}
    runs = [
        ud.teach(
            process,
            agent,
            ud.Cloning(),
            steps=1,
            data=ud.Episodes.of(process, **arrays, intervened=False, mask=mask),
            **SIZE,
        )
        for arrays in (symbols, junk)
    ]
    for x, y in zip(*(jax.tree.leaves(eqx.filter(run.agent, eqx.is_array)) for run in runs), strict=True):
        np.testing.assert_array_equal(x, y)
    # A mean over the symbols that exist.
    episodes = edited(few, mask=jnp.asarray(mask), expert=None)
    action, _ = jax.jit(jax.vmap(lambda e: ud.log_losses(agent, e)))(episodes)
    assert runs[0].metrics[0]["action_loss"] == pytest.approx(float(action.sum() / mask.sum()), rel=1e-5)


def test_labels_from_arrays(process, agent, labelled):
    """A label in place of its distribution: the same expected gradient."""
    arrays = {name: getattr(labelled, name) for name in ("actions", "observations", "expert_actions")}
    run = ud.teach(
        process,
        agent,
        ud.Counterfactual(),
        steps=1,
        data=ud.Episodes.of(process, **arrays),
        **SIZE | {"batch_size": 1024},
    )
    action, _ = jax.jit(jax.vmap(lambda e: ud.log_losses(agent, e, target="sample")))(labelled)
    assert run.metrics[0]["action_loss"] == pytest.approx(float(action.mean()), rel=1e-5)


REFUSED = {
    "the expert's own actions": (
        lambda demos, labelled: (ud.Counterfactual(), demos),
        "all actions are the expert's own.*ud.Cloning.*undelude.offline",
    ),
    "the expert's own actions, marked do": (
        lambda demos, labelled: (
            ud.Counterfactual(),
            edited(demos, executor=0 * demos.executor, expert=None),
        ),
        "the expert's label is the executed action itself",
    ),
    "actions of others": (lambda demos, labelled: (ud.Cloning(), labelled), "the agent executed 100%"),
    "without labels": (
        lambda demos, labelled: (ud.Counterfactual(), edited(labelled, expert=None, expert_actions=None)),
        "label at each action of the agent.*undelude.offline",
    ),
    "a label that is not the action": (
        lambda demos, labelled: (ud.Cloning(), edited(demos, expert_actions=(demos.actions + 1) % 3)),
        "the expert executed the action of round 0 of episode 0, but its label",
    ),
    "a share that matters": (
        lambda demos, labelled: (ud.DAgger(0.5), labelled),
        r"depends on the expert's share, which is 0.00 in data and not 0.5",
    ),
    "too few": (lambda demos, labelled: (ud.Cloning(), jax.tree.map(lambda x: x[:9], demos)), "9 episodes, fewer"),
    "one episode": (lambda demos, labelled: (ud.Cloning(), jax.tree.map(lambda x: x[0], demos)), "is one episode"),
    "not a number": (
        lambda demos, labelled: (
            ud.Cloning(),
            edited(demos, expert=ud.Categorical(log_probs=demos.expert.log_probs.at[3, 2, 1].set(jnp.nan))),
        ),
        "expert must be finite numbers, but those of episode 3, round 2",
    ),
    "other symbols": (
        lambda demos, labelled: (ud.Cloning(), edited(demos, actions=demos.actions + 1)),
        "actions must be integers from 0 to 2",
    ),
    "no distribution for reverse": (
        lambda demos, labelled: (ud.Cloning("reverse"), edited(demos, expert=None)),
        'target="reverse" needs',
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_data_that_do_not_support_a_teaching_are_refused(process, agent, demos, labelled, case):
    make, message = REFUSED[case]
    teaching, data = make(demos, labelled)
    with pytest.raises(ValueError, match=message):
        ud.teach(process, agent, teaching, steps=1, data=data, **SIZE)


def test_both_executors_support_a_mixture_alone(process, agent):
    """Of the marks, the executors decide; a mixture that is not marked has the share of the data."""
    from undelude._teaching.updates import collect

    keys = jax.random.split(KEY, 256)
    mixed = jax.jit(jax.vmap(lambda key: collect(process, agent, ud.DAgger(0.25), key)))(keys)
    for teaching in (ud.Mixed(), ud.DAgger(0.25)):
        assert ud.teach(process, agent, teaching, steps=1, data=mixed, **SIZE).agent.marks == teaching.marks
    with pytest.raises(ValueError, match='per="step"'):
        ud.teach(process, agent, ud.DAgger(0.25, per="episode"), steps=1, data=mixed, **SIZE)
    with pytest.raises(ValueError, match=r"2[0-9]% of the actions are the expert's own"):
        ud.teach(process, agent, ud.Counterfactual(), steps=1, data=mixed, **SIZE)
    with pytest.raises(TypeError, match=r"data must be ud.Episodes"):
        ud.teach(process, agent, ud.Cloning(), steps=1, data=[1], **SIZE)


def test_truncated_memory_is_warned(process, labelled):
    with pytest.warns(UserWarning, match="in stored episodes it does not execute"):
        ud.teach(
            process,
            ud.MarkovAgent(process, order=1, hidden_size=4, key=KEY),
            ud.Counterfactual(),
            steps=1,
            data=labelled,
            **SIZE,
        )
