import importlib.util

if not all(map(importlib.util.find_spec, ("marimo", "pandas"))):
    raise SystemExit(
        "This notebook needs marimo and pandas: pip install marimo pandas, "
        "then marimo edit examples/notebooks/analyst.py"
    )

import marimo

app = marimo.App(app_title="Logs of people who knew more, for analysts")


@app.cell
def _():
    import jax
    import marimo as mo
    import numpy as np
    import pandas as pd

    import undelude as ud
    from undelude import offline

    return jax, mo, np, offline, pd, ud


@app.cell
def _(mo):
    mo.md(r"""
    # Logs of people who knew more

    For analysts with logs of decisions, and nobody to ask: sellers who saw the customer, doctors who saw the
    patient. The log says what was done and what came of it. It does not say what they saw. You will fit a model
    with a hidden cause, ask whether the logs determine how to act, and act.

    ## The logs

    A seller meets a customer, who likes one of three goods, and offers one in each of ten rounds. The seller sees
    what the customer likes and offers it more often. These logs are made here, so that the truth is known: an offer
    of the liked good is bought in .75 of rounds, another in .25.
    """)
    return


@app.cell
def _(np, pd):
    goods = np.array(["coffee", "juice", "tea"])

    def write(num_sessions=400, num_rounds=10, seed=0):
        """Return a data frame with one row for each round: session, choice, outcome."""
        rng = np.random.default_rng(seed)
        likes = rng.integers(3, size=num_sessions).repeat(num_rounds)
        offered = np.where(rng.random(likes.shape) < 0.5, likes, rng.integers(3, size=likes.shape))
        bought = rng.random(likes.shape) < np.where(offered == likes, 0.75, 0.25)
        session = np.arange(num_sessions).repeat(num_rounds)
        return pd.DataFrame({"session": session, "choice": goods[offered], "outcome": bought.astype(int)})

    logs = write()
    logs.head(4)
    return goods, logs


@app.cell
def _(logs, mo):
    bought = logs.groupby("choice").outcome.mean()
    mo.md(f"""
    In the logs an offer is bought in {bought.min():.2f} to {bought.max():.2f} of rounds. If you offered one good to
    everybody, it would be bought in (.75 + .25 + .25) / 3 = .42. The logs are better because the sellers knew whom they
    had before them. A sequence model of the logs expects the better number of its own offers, and takes these for signs
    of what the customer likes.

    ## The model

    The declaration is the argument: the seller decides by the hidden cause alone, and the outcome depends on the
    hidden cause and the offer of its round. The data cannot replace it.
    """)
    return (bought,)


@app.cell
def _(jax, logs, mo, offline):
    demos = offline.Demos.from_frame(logs, episode="session", action="choice", observation="outcome")
    spec = offline.LatentSpec(
        offline.Episode(K=range(1, 5)),
        expert=offline.Table(),
        task=offline.Table("outcome", given=["action"]),
        reward="outcome",
    )
    fit = offline.fit(demos, spec, key=jax.random.key(0), starts=4)
    mo.plain_text(str(fit))
    return demos, fit


@app.cell
def _(mo):
    mo.md(r"""
    Held-out sessions choose the number of hidden causes. Below is the model that was found, as a graph over two
    rounds: the hidden cause is dashed.
    """)
    return


@app.cell
def _(fit):
    fit.process.causal_model(num_rounds=2).marginal(("A_1", "O_1", "A_2", "O_2"))
    return


@app.cell
def _(mo):
    mo.md(r"""
    ## Do the logs determine how to act?

    The verdict is *identified*, *weak*, *not identified* or *refuted*. Two of the tests take minutes and are left
    out here; without them nothing can refute the declaration. Run them on your own logs: leave out `passive=` and
    `structure=`.
    """)
    return


@app.cell
def _(demos, fit, jax, mo, offline):
    diagnosis = offline.diagnose(fit, demos, passive=False, structure=False, key=jax.random.key(1))
    mo.plain_text(str(diagnosis))
    return (diagnosis,)


@app.cell
def _(mo):
    mo.md(r"""
    ## Act

    `offline.agent` is exact inference in the fitted model, with own offers as interventions. The strip is its belief
    about the hidden cause with one new customer, round by round; the values of the cause have no names.
    """)
    return


@app.cell
def _(diagnosis, fit, goods, np, offline, ud):
    levels = fit.columns.action.levels
    agents = {"sober": offline.agent(fit, diagnosis), "clone": ud.ExactAgent(fit.process, own_actions="see")}

    def serve(agent, num_customers=1000, num_rounds=10, seed=0):
        """Serve many customers side by side. Returns beliefs [T + 1, B, K], tastes [B] and sales [T, B]."""
        policy, rng = ud.Policy(agent, num_envs=num_customers), np.random.default_rng(seed)
        likes = rng.integers(3, size=num_customers)
        offers, beliefs, sales = policy.reset(seed=seed), [], []
        for _ in range(num_rounds):
            beliefs.append(policy.belief)
            chance = np.where(np.array(levels)[offers] == goods[likes], 0.75, 0.25)
            sales.append((rng.random(num_customers) < chance).astype(np.int32))
            offers = policy.step(sales[-1])
        return np.array([*beliefs, policy.belief]), likes, np.array(sales)

    served = {name: serve(agent) for name, agent in agents.items()}
    return (served,)


@app.cell
def _(served, ud):
    _beliefs, _likes, _ = served["sober"]
    ud.plot.belief(_beliefs[:, 0])
    return


@app.cell
def _(mo, np, served):
    sales = {name: x.mean(0) for name, (_, _, x) in served.items()}
    _rows = "\n".join(
        f"    | {name} | {np.mean(x):.3f} ± {np.std(x) / np.sqrt(len(x)):.3f} |" for name, x in sales.items()
    )
    mo.md(f"""
    | agent | rounds in which the customer bought, 1,000 new customers |
    |---|---|
{_rows}

    ± is the standard error over customers. The clone is the ideal one, the conditional of the fitted model: what a
    sequence model of the logs converges to.

    ## Your own logs

    `offline.Demos.from_parquet` and `from_csv` read files, `undelude offline fit` needs no Python, and docs/offline.md
    says when to trust the result.
    """)
    return (sales,)


if __name__ == "__main__":
    app.run()
