import importlib.util

if importlib.util.find_spec("marimo") is None:
    raise SystemExit("This notebook needs marimo: pip install marimo, then marimo edit examples/notebooks/causal.py")

import marimo

app = marimo.App(app_title="Seeing, doing, imagining")


@app.cell
def _():
    import jax
    import marimo as mo
    import numpy as np
    import pandas as pd

    import undelude as ud

    return jax, mo, np, pd, ud


@app.cell
def _(mo):
    mo.md(r"""
    # Seeing, doing, imagining

    The chapter of `docs/causal.md` as a notebook: for a class of two hours. Each section asks a question. Predict the
    answer before you run the cell below it. Exercises and their answers are in the chapter.

    ## 1. The frog: seeing and doing

    One of two boxes holds a prize, the other a frog. An expert knows where the prize is, $\Theta$, and opens that box,
    $A$. You see the content, $O$. Box 1 is open. What is in it, if the expert opened it, and if you did?
    """)
    return


@app.cell
def _(ud):
    frog = ud.CausalModel(
        [
            ud.Variable("Theta", (1, 2), table=[0.5, 0.5]),
            ud.Variable("A", (1, 2), parents="Theta", table=[[1, 0], [0, 1]]),
            ud.Variable("O", (-1, 1), parents=("Theta", "A"), table=[[[0, 1], [1, 0]], [[1, 0], [0, 1]]]),
        ]
    )
    frog
    return (frog,)


@app.cell
def _(frog, mo):
    seen, done = frog.query("O", see={"A": 1}), frog.query("O", do={"A": 1})
    mo.vstack([mo.md("You watch the expert open box 1:"), seen, mo.md("You open box 1:"), done])
    return done, seen


@app.cell
def _(mo):
    mo.md(r"""
    The expert's choice depends on $\Theta$, so that it is evidence about $\Theta$. Your own choice does not depend on
    it: *doing* replaces the mechanism of $A$ by a constant, and cuts the arrow into $A$. Information flows along the
    open paths.
    """)
    return


@app.cell
def _(frog, mo):
    mo.vstack(
        [
            mo.md("If $A$ is seen:"),
            frog.graph.paths("A", "O"),
            mo.md("If $A$ is done:"),
            frog.graph.paths("A", "O", do="A"),
        ]
    )
    return


@app.cell
def _(frog, ud):
    ud.plot.graph(frog, do="A")
    return


@app.cell
def _(mo):
    mo.md(r"""
    ## 2. Kidney stones: the same table, two answers

    A hospital removed kidney stones by open surgery or by a puncture (Charig et al., BMJ 1986). The puncture cures more
    of all 700 patients, and fewer of those with small stones *and* of those with large ones. Which comparison do you
    trust?
    """)
    return


@app.cell
def _(pd):
    _counts = {  # cured, not cured
        ("small", "open"): (81, 6),
        ("small", "puncture"): (234, 36),
        ("large", "open"): (192, 71),
        ("large", "puncture"): (55, 25),
    }
    _cases = [(*kind, cured) for kind, (yes, no) in _counts.items() for cured in [1] * yes + [0] * no]
    rows = pd.DataFrame(_cases, columns=["Stone", "Treatment", "Cured"])
    rows.groupby(["Stone", "Treatment"])["Cured"].mean().unstack().assign(all=rows.groupby("Stone")["Cured"].mean())
    return (rows,)


@app.cell
def _(mo, rows, ud):
    kidney = ud.Graph({"Stone": (), "Treatment": "Stone", "Cured": ("Treatment", "Stone")})
    hospital = ud.causal.fit(kidney, rows)
    surgery = hospital.ate({"Treatment": "open"}, "Cured")
    surgery_se = ud.causal.standard_error(lambda model: model.ate({"Treatment": "open"}, "Cured").value, hospital, rows)
    mo.vstack([kidney, surgery.estimand, mo.md(f"Effect of open surgery: {float(surgery):.3f} ± {surgery_se:.3f}")])
    return kidney, surgery, surgery_se


@app.cell
def _(kidney, mo, rows, ud):
    _pressure = ud.Graph({"Treatment": (), "Stone": "Treatment", "Cured": ("Treatment", "Stone")})
    reversed_surgery = ud.causal.fit(_pressure, rows).ate({"Treatment": "open"}, "Cured")
    mo.md(f"""
    Doctors gave the large stones, which are hard to cure, to open surgery, so that the comparison of all patients is
    unfair. Had the treatment changed the variable, as a drug changes blood pressure, the same rows would say
    {float(reversed_surgery):.3f}. No data can tell the two graphs apart: `equivalent` returns
    {kidney.equivalent(_pressure)}.
    """)
    return (reversed_surgery,)


@app.cell
def _(mo):
    mo.md(r"""
    ## 3. The front door

    Smoking $A$ puts tar $M$ into the lungs, and tar causes cancer $O$. A gene that nobody has measured may cause both
    smoking and cancer, a bidirected edge. Do data on $A$, $M$ and $O$ alone tell the effect of smoking?
    """)
    return


@app.cell
def _(ud):
    smoking = ud.Graph({"A": (), "M": "A", "O": "M"}, bidirected=[("A", "O")])
    smoking
    return (smoking,)


@app.cell
def _(mo, smoking):
    front_door = smoking.identify("O", do="A")
    mo.vstack([mo.md(f"Sets to adjust for: {smoking.adjustment_sets('A', 'O')}. The estimand:"), front_door])
    return (front_door,)


@app.cell
def _(front_door):
    front_door.derivation
    return


@app.cell
def _(mo, np, front_door, ud):
    _world = ud.CausalModel(
        [
            ud.Variable("Gene", (0, 1), table=[0.7, 0.3]),
            ud.Variable("A", (0, 1), "Gene", table=[[0.8, 0.2], [0.2, 0.8]]),
            ud.Variable("M", (0, 1), "A", table=[[0.9, 0.1], [0.2, 0.8]]),
            ud.Variable("O", (0, 1), ("M", "Gene"), table=[[[0.95, 0.05], [0.7, 0.3]], [[0.85, 0.15], [0.4, 0.6]]]),
        ]
    )
    by_front_door = front_door.evaluate(_world.query(("A", "M", "O")))[1]
    by_surgery = np.array([_world.query("O", do={"A": a})[1] for a in (0, 1)])
    _naive = [float(_world.query("O", see={"A": a})[1]) for a in (0, 1)]
    mo.md(f"""
    A world with such a gene. The estimand reads the table of $A$, $M$ and $O$; surgery knows the gene.

    | | $A = 0$ | $A = 1$ |
    |---|---|---|
    | $P(O = 1 \\mid A)$ | {_naive[0]:.3f} | {_naive[1]:.3f} |
    | front door | {by_front_door[0]:.3f} | {by_front_door[1]:.3f} |
    | surgery | {by_surgery[0]:.3f} | {by_surgery[1]:.3f} |
    """)
    return by_front_door, by_surgery


@app.cell
def _(mo):
    mo.md(r"""
    ## 4. An instrument

    In a trial of cholestyramine a lottery $Z$ assigned the drug. Some did not take it, $A$. Did those who took it get a
    lower cholesterol, $O$, because of it? They may be the careful ones.
    """)
    return


@app.cell
def _(mo, ud):
    trial = ud.Graph({"Z": (), "A": "Z", "O": "A"}, bidirected=[("A", "O")])
    try:
        trial.identify("O", do="A")
    except ud.NotIdentifiable as _error:
        refusal, hedge = str(_error), _error.hedge
    mo.vstack([trial, mo.md(refusal)])
    return hedge, trial


@app.cell
def _(mo, np, trial, ud):
    _table = np.array([[[0.919, 0.081], [0, 0]], [[0.315, 0.073], [0.139, 0.473]]])  # Z, A, O (Balke & Pearl 1997)
    _found = [ud.causal.bounds(trial, "O", do={"A": a}, joint=_table, names=("Z", "A", "O")) for a in (0, 1)]
    _effect = ud.causal.ate_bounds(trial, {"A": 1}, "O", joint=_table, names=("Z", "A", "O"))
    effect_bounds = float(_effect.low), float(_effect.high)
    mo.md(f"""
    Two worlds with the same data can differ in the effect. But all of them lie within sharp bounds, by linear programs:

    | | at least | at most |
    |---|---|---|
    | $P(O = 1 \\mid do(A = 0))$ | {_found[0].low[1]:.3f} | {_found[0].high[1]:.3f} |
    | $P(O = 1 \\mid do(A = 1))$ | {_found[1].low[1]:.3f} | {_found[1].high[1]:.3f} |
    | effect of the drug | {effect_bounds[0]:.3f} | {effect_bounds[1]:.3f} |
    """)
    return (effect_bounds,)


@app.cell
def _(mo, trial, ud):
    remedies = ud.causal.remedies(trial, "O", do="A")
    _rows = [
        *(("observe", names, estimand) for names, estimand in remedies.observe.items()),
        *(("set", names, estimand) for names, estimand in remedies.experiment.items()),
    ]
    _lines = "\n".join(f"| {how} {', '.join(names)} | ${estimand.latex()}$ |" for how, names, estimand in _rows)
    mo.md(f"""
    The smallest changes that would determine the effect. Another draw of the lottery is not one of them.

    | change | estimand |
    |---|---|
    {_lines}
    """)
    return (remedies,)


@app.cell
def _(mo):
    mo.md(r"""
    ## 5. The napkin

    Hidden causes join $W$ with $A$, and $W$ with $O$. Adjustment for $W$ or $Z$ closes the back door
    $A \leftarrow Z \leftarrow W \leftrightarrow O$, and opens $A \leftrightarrow W \leftrightarrow O$. Is the effect of
    $A$ on $O$ identifiable?
    """)
    return


@app.cell
def _(mo, ud):
    napkin = ud.Graph({"W": (), "Z": "W", "A": "Z", "O": "A"}, bidirected=[("W", "A"), ("W", "O")])
    ratio = napkin.identify("O", do="A")
    mo.vstack([napkin, mo.md(f"Sets to adjust for: {napkin.adjustment_sets('A', 'O')}. The estimand:"), ratio])
    return napkin, ratio


@app.cell
def _(mo, np, ratio, ud):
    _world = ud.CausalModel(
        [
            ud.Variable("U", (0, 1), table=[0.6, 0.4]),
            ud.Variable("V", (0, 1), table=[0.3, 0.7]),
            ud.Variable("W", (0, 1), ("U", "V"), table=[[[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]]]),
            ud.Variable("Z", (0, 1), "W", table=[[0.9, 0.1], [0.1, 0.9]]),
            ud.Variable("A", (0, 1), ("Z", "U"), table=[[[0.9, 0.1], [0.7, 0.3]], [[0.3, 0.7], [0.1, 0.9]]]),
            ud.Variable("O", (0, 1), ("A", "V"), table=[[[0.8, 0.2], [0.3, 0.7]], [[0.6, 0.4], [0.1, 0.9]]]),
        ]
    )
    by_ratio = ratio.evaluate(_world.query(("W", "Z", "A", "O")))[1]
    by_napkin_surgery = np.array([_world.query("O", do={"A": a})[1] for a in (0, 1)])
    mo.md(f"In a world with this graph: {by_ratio.round(3)} by the estimand, {by_napkin_surgery.round(3)} by surgery.")
    return by_napkin_surgery, by_ratio


@app.cell
def _(mo):
    mo.md(r"""
    ## 6. What would have been

    The expert opened box 1 and found the prize. What would have been in box 2? A counterfactual keeps the hidden state
    of this case; $do$ asks about a new one.
    """)
    return


@app.cell
def _(frog, mo):
    imagined, new_case = frog.counterfactual("O", do={"A": 2}, given={"A": 1, "O": 1}), frog.query("O", do={"A": 2})
    mo.vstack([mo.md("Box 2 in this case:"), imagined, mo.md("Box 2 in a new case:"), new_case])
    return imagined, new_case


@app.cell
def _(frog, mo, ud):
    _expert = ud.Variable("A", (1, 2), "Theta", table=[[0.9, 0.1], [0.1, 0.9]])
    human = frog.replace(_expert)
    expression = ud.causal.identify_counterfactual(human.graph, {"O": 1}, do={"A": 2}, given={"A": 1}, experiments=[()])
    from_data = expression.evaluate(human.query(("Theta", "A", "O")))
    from_twins = human.counterfactual("O", do={"A": 2}, given={"A": 1})[1]
    mo.vstack(
        [
            mo.md("An expert who is right nine times in ten opened box 1. The prize in box 2, from observation alone:"),
            expression,
            mo.md(f"{from_data:.2f} by the expression, {from_twins:.2f} by the twin network."),
        ]
    )
    return from_data, from_twins


@app.cell
def _(mo, ud):
    career = ud.CausalModel(
        [
            ud.Variable("Training", (0, 1), table=[0.5, 0.5]),
            ud.Variable("Skill", (0, 1), "Training", table=[[0.7, 0.3], [0.2, 0.8]]),
            ud.Variable(
                "Job", (0, 1), ("Training", "Skill"), table=[[[0.8, 0.2], [0.5, 0.5]], [[0.7, 0.3], [0.2, 0.8]]]
            ),
        ]
    )
    total = float(career.ate({"Training": 1}, "Job"))
    direct = float(career.direct_effect({"Training": 1}, "Job"))
    reverse = float(career.indirect_effect({"Training": 0}, "Job"))
    mo.md(f"""
    Training helps to get a job, through skill and by its certificate. The total effect is the direct one minus the
    indirect one of the opposite change: {total:.2f} = {direct:.2f} - ({reverse:.2f}).
    """)
    return direct, reverse, total


@app.cell
def _(mo):
    mo.md(r"""
    ## 7. A network from a file

    pyAgrum reads and writes BIF and other files. The grass is wet. Does it make rain less probable that the sprinkler
    is on?
    """)
    return


@app.cell
def _(ud):
    import tempfile
    from pathlib import Path

    import pyagrum

    with tempfile.TemporaryDirectory() as _folder:
        _file = Path(_folder) / "garden.bif"
        _file.write_text("""
        network garden {}
        variable Season    { type discrete [ 2 ] { dry, wet }; }
        variable Sprinkler { type discrete [ 2 ] { off, on }; }
        variable Rain      { type discrete [ 2 ] { no, yes }; }
        variable Grass     { type discrete [ 2 ] { dry, wet }; }
        probability ( Season ) { table 0.6, 0.4; }
        probability ( Sprinkler | Season ) { (dry) 0.25, 0.75; (wet) 0.9, 0.1; }
        probability ( Rain | Season ) { (dry) 0.9, 0.1; (wet) 0.3, 0.7; }
        probability ( Grass | Sprinkler, Rain ) {
          (off, no) 1.0, 0.0; (on, no) 0.1, 0.9; (off, yes) 0.2, 0.8; (on, yes) 0.01, 0.99;
        }
        """)
        garden = ud.causal.from_pyagrum(pyagrum.loadBN(str(_file)))
    garden
    return (garden,)


@app.cell
def _(garden, mo):
    wet, explained = (garden.query("Rain", see={"Grass": "wet"} | more) for more in ({}, {"Sprinkler": "on"}))
    mo.vstack([mo.md("The grass is wet:"), wet, mo.md("and the sprinkler is on:"), explained])
    return explained, wet


@app.cell
def _(garden, jax, mo, np, pd, ud):
    lost = pd.DataFrame(ud.causal.sample(garden, jax.random.key(0), 2000))
    lost.loc[(lost["Grass"] == "wet") & (np.random.default_rng(0).random(2000) < 0.5), "Rain"] = None
    rain_true, rain_dropped, rain_em = (
        float(model.query("Rain")[1])
        for model in (
            garden,
            ud.causal.fit(garden.graph, lost.dropna()),
            ud.causal.fit(garden.graph, lost, missing="em"),
        )
    )
    mo.md(f"""
    Of 2,000 samples, half of the rain on days with wet grass is missing. The probability of rain is {rain_true:.3f};
    complete rows alone give {rain_dropped:.3f}, expectation maximisation {rain_em:.3f}.
    """)
    return rain_dropped, rain_em, rain_true


@app.cell
def _(garden, mo):
    mo.accordion({"Graphviz": mo.plain_text(garden.graph.to_dot()), "TikZ": mo.plain_text(garden.graph.to_tikz())})
    return


@app.cell
def _(mo):
    mo.md(r"""
    ## Try it

    - Give the instrument a defiant population: change the table of section 4 until `bounds` refuses it. Which
      assumption has the table refuted?
    - Add a bidirected edge between $A$ and $M$ to the front door. Which variables does the hedge name?
    - In the garden, which set to adjust for gives the least variance of the sprinkler's effect
      (`efficient_adjustment`)?
    """)
    return


if __name__ == "__main__":
    app.run()
