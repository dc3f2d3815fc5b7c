import importlib.util

if importlib.util.find_spec("marimo") is None:
    raise SystemExit("This notebook needs marimo: pip install marimo, then marimo edit examples/notebooks/engineer.py")

import marimo

app = marimo.App(app_title="A teacher who knows more than the robot, for engineers")


@app.cell
def _():
    import jax
    import marimo as mo
    import numpy as np

    import undelude as ud

    return jax, mo, np, ud


@app.cell
def _(mo):
    mo.md(r"""
    # A teacher who knows more than the robot

    For engineers who distil a policy from a privileged teacher: one who sees a friction, a target or a wiring that
    the robot will not see. You will write such a process, teach two networks, look at their certificates, and let
    both act in a loop that is not `undelude`'s.

    ## The process

    A robot drives in four directions, by a cable that somebody may have plugged in turned by 0, 90, 180 or 270
    degrees. That is theta. The teacher knows it and nearly always presses the key that drives the robot to the
    dock. The robot does not know it. After each key a sensor says whether the dock came nearer, and is right in
    three rounds of four.
    """)
    return


@app.cell
def _(mo, np, ud):
    turns = 4
    right = np.eye(turns)  # [K, A]: under a cable turned by k, key k drives to the dock
    cable = ud.tasks.from_tables(
        prior=np.full(turns, 1 / turns),
        expert=np.where(right == 1, 0.91, 0.03),  # [K, A]
        task=np.stack([np.where(right == 1, 0.25, 0.75), np.where(right == 1, 0.75, 0.25)], axis=-1),  # [K, A, O]
        num_rounds=12,
        name="cable",
    )
    mo.plain_text(str(ud.check_task(cable)))
    return turns, cable


@app.cell
def _(mo):
    mo.md(r"""
    The line *delusion gap* says that it matters here: an agent with exact inference that reads its own keys as the
    teacher's is far from the right answer.

    ## Two ways to learn from the teacher

    - **Cloning.** The teacher drives, the network imitates. `ud.Cloning()`
    - **Counterfactual teaching.** The network drives, and the teacher says at each step what it would have done.
      `ud.Counterfactual()`
    """)
    return


@app.cell
def _(cable, jax, ud):
    def learn(teaching):
        agent = ud.GRUAgent(cable, 24, key=jax.random.key(0))
        run = ud.teach(cable, agent, teaching, key=jax.random.key(1), steps=200, batch_size=64)
        return run, ud.certify(cable, run.agent, key=jax.random.key(2), num_episodes=300)

    cloned, cloned_report = learn(ud.Cloning())
    taught, taught_report = learn(ud.Counterfactual())
    return cloned, cloned_report, taught, taught_report


@app.cell
def _(mo):
    mo.md(r"""
    ## The certificates

    A certificate measures, on the network's own histories, how far it is from two answers that are known exactly:
    what the teacher would do given that the keys were the robot's own (blue), and given that they were the
    teacher's (orange).
    """)
    return


@app.cell
def _(cloned_report, mo, taught_report, ud):
    _axes = ud.plot.certificate(cloned_report, measure="tv")
    _axes.set_title("cloned: total variation", loc="left")
    _below = ud.plot.certificate(taught_report, measure="tv")
    _below.set_title("taught: total variation", loc="left")
    mo.vstack([_axes, _below])
    return


@app.cell
def _(cloned_report, mo, taught_report):
    mo.md(f"""
    The cloned network is **{cloned_report.verdict}**, the taught one **{taught_report.verdict}**. More
    demonstrations would not help the first: the deluded answer is what cloning converges to.
    """)
    return


@app.cell
def _(taught_report):
    taught_report
    return


@app.cell
def _(mo):
    mo.md(r"""
    ## In a loop of your own

    `ud.Policy` has a memory of its own: one observation in, one action out, both NumPy. `Robot` below stands for
    your driver of the hardware. `undelude` knows nothing about it.
    """)
    return


@app.cell
def _(turns, np):
    class Robot:
        """A robot with a cable that is turned by a number of quarters, and a sensor that is right in .75 of rounds."""

        def __init__(self, seed):
            self.rng = np.random.default_rng(seed)
            self.turned = self.rng.integers(turns)

        def press(self, key):
            nearer = key == self.turned
            return nearer, int(nearer if self.rng.random() < 0.75 else not nearer)

    def drive(policy, seed, num_rounds=12):
        """Return the share of the last four keys that brought the robot nearer to the dock."""
        robot, key, came_nearer = Robot(seed), policy.reset(seed=seed), []
        for _ in range(num_rounds):
            nearer, sensor = robot.press(int(key))
            came_nearer.append(nearer)
            key = policy.step(np.int32(sensor))
        return np.mean(came_nearer[-4:])

    return (drive,)


@app.cell
def _(cloned, drive, mo, np, taught, ud):
    shares = {
        name: [drive(ud.Policy(run.agent), seed) for seed in range(100)]
        for name, run in {"cloned": cloned, "taught": taught}.items()
    }
    _rows = "\n".join(
        f"    | {name} | {np.mean(x):.0%} ± {np.std(x) / np.sqrt(len(x)):.0%} |" for name, x in shares.items()
    )
    mo.md(f"""
    | network | last four keys that were right, 100 drives |
    |---|---|
{_rows}

    ± is the standard error over drives. A robot that ignores its sensor is right in 25%.

    ## With your own simulator

    Three tables made the exact answers possible. For a Gymnasium environment take `undelude.gym.HostWorld`: it
    hides what you name, asks your teacher, and certifies what can be known. docs/gym.md has the whole of it,
    `ud.save` and `undelude export` keep an agent.
    """)
    return (shares,)


if __name__ == "__main__":
    app.run()
