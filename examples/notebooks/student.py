import importlib.util

if importlib.util.find_spec("marimo") is None:
    raise SystemExit("This notebook needs marimo: pip install marimo, then marimo edit examples/notebooks/student.py")

import marimo

app = marimo.App(app_title="Seeing and doing, for readers of the paper")


@app.cell
def _():
    import jax
    import jax.numpy as jnp
    import marimo as mo
    import numpy as np

    import undelude as ud

    return jax, jnp, mo, np, ud


@app.cell
def _(mo):
    mo.md(r"""
    # Seeing and doing

    For readers of *Shaking the foundations* ([Ortega et al., 2021](https://arxiv.org/abs/2110.10819)), Sections 2
    and 3. You will compute what an agent believes if it sees an action, and if it does the action itself. Then you
    will watch an agent confuse the two.

    ## Prize or frog

    One of two boxes has the prize, the other a frog. An expert who knows the box, $\Theta$, opens it, $A$, and finds
    $O = +1$, the prize. The model has three variables.
    """)
    return


@app.cell
def _(ud):
    frog = ud.CausalModel(
        [
            ud.Variable("Theta", (1, 2), table=[0.5, 0.5]),
            ud.Variable("A", (1, 2), parents=("Theta",), table=[[1.0, 0.0], [0.0, 1.0]]),
            ud.Variable(
                "O", (-1, 1), parents=("Theta", "A"), table=[[[0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]]
            ),
        ]
    )
    frog
    return (frog,)


@app.cell
def _(mo):
    mo.md(r"""
    Somebody opens box 1. If it was the expert, the prize is there: the expert knew. If it was you, who know
    nothing, the boxes are as likely as before. In the first case you *condition* on the action, in the second you
    *intervene*, which deletes the arrow from $\Theta$ to $A$.
    """)
    return


@app.cell
def _(frog, mo, np):
    seen = np.asarray(frog.query("O", see={"A": 1}))
    done = np.asarray(frog.query("O", do={"A": 1}))
    mo.md(f"""
    | box 1 is | P(frog) | P(prize) |
    |---|---|---|
    | seen to be opened, $P(O \\mid A = 1)$ | {seen[0]:.2f} | {seen[1]:.2f} |
    | opened by you, $P(O \\mid do(A = 1))$ | {done[0]:.2f} | {done[1]:.2f} |
    """)
    return done, seen


@app.cell
def _(mo):
    mo.md(r"""
    ## A bandit of twenty rounds

    In Remark 11 one of five arms pays in .75 of rounds, the others in .25. The expert pulls the best arm, $\Theta$,
    in .6 of rounds and each other arm in .1. An agent that knows this model, and not $\Theta$, samples its next
    action from its prediction of the expert's.

    Take the agent that pulls arm 3 first and gets nothing. By the recursion of Remark 10 a belief is the prior
    times the likelihood of what is evidence:

    - arm 3 was *done*: $P(\theta \mid do(a), o) \propto P(\theta)\, P(o \mid \theta, a)$,
    - arm 3 was *seen*: $P(\theta \mid a, o) \propto P(\theta)\, P(a \mid \theta)\, P(o \mid \theta, a)$.
    """)
    return


@app.cell
def _(jnp, mo, np, ud):
    bandit = ud.tasks.bandit(num_rounds=20)
    arm, reward, thetas = 2, 0, np.arange(5)
    prior = np.full(5, 1 / 5)
    likelihood_o = np.where(arm == thetas, 0.25, 0.75)  # P(o = 0 | theta, a)
    likelihood_a = np.where(arm == thetas, 0.6, 0.1)  # P(a | theta)
    by_hand = {"do": prior * likelihood_o, "see": prior * likelihood_a * likelihood_o}
    by_hand = {mark: p / p.sum() for mark, p in by_hand.items()}

    history = ud.Episodes.of(bandit, actions=[arm], observations=[reward])
    computed = {mark: np.exp(ud.posterior(bandit, history, own_actions=mark)[-1]) for mark in by_hand}
    _rows = "\n".join(
        f"| {mark} | {by_hand[mark][arm]:.4f} | {float(jnp.asarray(computed[mark])[arm]):.4f} |" for mark in by_hand
    )
    mo.md(f"""
    | its own pull of arm 3 is read as | belief in arm 3, by hand | by `ud.posterior` |
    |---|---|---|
    {_rows}
    """)
    return arm, bandit, by_hand, computed


@app.cell
def _(arm, by_hand, mo):
    mo.md(f"""
    The arm failed. The agent that reads its own pull as evidence believes in it *more* than before,
    {by_hand["see"][arm]:.2f} after .20, and the other one less, {by_hand["do"][arm]:.2f}. The first will soon pull the
    arm again, and take that for evidence again.

    ## Twenty rounds
    """)
    return


@app.cell
def _(bandit, jax, jnp, np, ud):
    beliefs = {}  # [B, T + 1, K] of both agents, in 16 episodes in which arm 1 is the best
    for _mark in ("see", "do"):
        _agent = ud.ExactAgent(bandit, own_actions=_mark)
        _episodes = ud.rollout(bandit, _agent, key=jax.random.key(1), num_episodes=16, theta=0)
        beliefs[_mark] = np.asarray(jnp.exp(ud.posterior(bandit, _episodes)))
    wrong = {mark: int((probs[:, -1].argmax(-1) != 0).sum()) for mark, probs in beliefs.items()}
    return beliefs, wrong


@app.cell
def _(mo, wrong):
    mo.md(f"""
    Each strip is a belief, round by round: a row for each arm, as dark as the arm is probable, and a frame around the
    best. Both agents have the same random numbers. In the end the agent that sees its actions believes most in a wrong
    arm in {wrong["see"]} of 16 episodes, the other in {wrong["do"]}. The strips are of one in which they differ.
    """)
    return


@app.cell
def _(beliefs, ud):
    episode = 7
    _axes = ud.plot.belief(beliefs["see"][episode], theta=0, names=range(1, 6), own_actions="see")
    _axes.set_title("own actions are evidence", loc="left")
    _axes
    return (episode,)


@app.cell
def _(beliefs, episode, ud):
    _axes = ud.plot.belief(beliefs["do"][episode], theta=0, names=range(1, 6), own_actions="do")
    _axes.set_title("own actions are interventions", loc="left")
    _axes
    return


@app.cell
def _(mo):
    mo.md(r"""
    ## How much it costs

    One episode proves little. A certificate plays many and compares the agent, on its own histories, with both exact
    answers: $P(A \mid do(a), o)$ and $P(A \mid a, o)$.
    """)
    return


@app.cell
def _(bandit, jax, ud):
    gap = ud.delusion_gap(bandit, key=jax.random.key(2), num_episodes=1000)
    gap
    return (gap,)


@app.cell
def _(gap, mo):
    mo.md(f"""
    The deluded agent is sure of a wrong arm at the end of {gap.deluded_fraction:.0%} of episodes. It earns
    {gap.reward:.2f} a round, the agent that intervenes {gap.reward_exact_do:.2f}, and the expert
    {gap.reward_expert:.2f}.

    ## Try it

    - Let `reward` be 1 above, and compute both beliefs by hand before you look.
    - Let `episode` be another number. Does the other agent ever end with a wrong arm?
    - Make the expert ignorant: `ud.tasks.bandit(expert_accuracy=0.2)`. The two agents then agree. Why? Which factor of
      Remark 10 no longer depends on $\\theta$?
    """)
    return


if __name__ == "__main__":
    app.run()
