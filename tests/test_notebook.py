"""What notebooks and papers show: `ud.plot`, and the HTML of certificates, episodes and causal models."""

import re
from html import unescape

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import undelude as ud
from undelude._drawing.colours import ON_WHITE, VARIABLES
from undelude.causal._graphs import graph

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def episodes(bandit):
    return ud.rollout(bandit, ud.ExactAgent(bandit, "see"), key=jax.random.key(0), num_episodes=6)


@pytest.fixture(scope="module")
def report(bandit):
    return ud.certify(bandit, ud.ExactAgent(bandit, "see"), key=jax.random.key(0), num_episodes=64, baselines=False)


def axes_of(**size):
    return Figure(**size).subplots()


def colours(axes):
    """Return all single colours on axes."""
    found = set()
    for artist in axes.findobj():
        for name in ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor"):
            get = getattr(artist, f"get_{name}", None)
            try:
                found.add(to_hex(get() if get else None))
            except (TypeError, ValueError):
                continue
    return found


def test_belief_is_shaded_by_probability(bandit, episodes):
    """The rectangle over round t in row k is as opaque as theta k is probable."""
    probs = np.exp(np.asarray(ud.posterior(bandit, episodes))[2])
    axes = ud.plot.belief(probs, theta=episodes.theta[2], own_actions="see", axes=axes_of())
    shaded = np.zeros_like(probs)
    frames = []
    for box in axes.patches:
        assert isinstance(box, Rectangle)
        if not box.get_fill():
            frames.append(round(box.get_y() + 0.5))
            continue
        assert to_hex(box.get_facecolor()) == ON_WHITE["see"]
        start, stop = round(box.get_x()), round(box.get_x() + box.get_width())
        shaded[start:stop, round(box.get_y() + 0.5)] = box.get_alpha()
    np.testing.assert_allclose(shaded, probs, atol=0.0051)
    assert frames == [int(episodes.theta[2])]


def history(bandit):
    """Return an episode in which the agent and the expert act, and each is read as do and as see."""
    mixed = ud.Episodes.of(
        bandit, actions=[0, 2, 3, 2], observations=[0, 1, 0, 1], intervened=[True, True, False, False]
    )
    return eqx.tree_at(lambda x: x.executor, mixed, jnp.array([0, 1, 0, 1]))


def test_episode_shows_marks_and_executors(bandit):
    """A mark stands over its round in the row of its action; do and see differ in colour and shape."""
    axes = ud.plot.episode(history(bandit), axes=axes_of())
    shown = {}
    for line in axes.lines[:-1]:  # The last one is the rule above the observations.
        filled = to_hex(line.get_markerfacecolor()) if line.get_markerfacecolor() != "none" else None
        x, y = np.asarray(line.get_xydata())[0]
        shown[x, y] = line.get_label(), line.get_marker(), to_hex(line.get_markeredgecolor()), filled
    do, see = ON_WHITE["do"], ON_WHITE["see"]
    assert shown == {
        (0.5, 0): ("do, by the agent", "o", do, do),
        (1.5, 2): ("do, by the expert", "o", do, None),
        (2.5, 3): ("see, by the agent", "s", see, see),
        (3.5, 2): ("see, by the expert", "s", see, None),
    }
    assert [(text.get_position(), text.get_text()) for text in axes.texts] == [
        ((t + 0.5, 4), str(o)) for t, o in enumerate([0, 1, 0, 1])
    ]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a=0", "a=1", "a=2", "a=3", "o"]
    assert not colours(axes) & {*VARIABLES}


def test_episode_with_a_belief_below(bandit, episodes):
    """The belief has a row for each theta below the observations, and a frame around the true one."""
    one = jax.tree.map(lambda x: x[2], episodes)
    probs = np.exp(np.asarray(ud.posterior(bandit, episodes))[2])
    axes = ud.plot.episode(one, belief=probs, actions="ABCDE", axes=axes_of())
    top = 5 + 1
    shaded, frames = np.zeros_like(probs), []
    for box in axes.patches:
        start, stop, row = round(box.get_x()), round(box.get_x() + box.get_width()), round(box.get_y() + 0.5) - top
        if box.get_fill():
            shaded[start:stop, row] = box.get_alpha()
        else:
            frames.append((start, stop, row))
    np.testing.assert_allclose(shaded, probs, atol=0.006)
    assert frames == [(0, len(probs), int(one.theta))]
    assert "a=E" in [label.get_text() for label in axes.get_yticklabels()]
    first, marks = one.intervened.at[0].set(True), (one.intervened, ~one.intervened)
    for intervened, colour in zip((*marks, first), ("see", "do", "muted"), strict=True):  # The agent sees its actions.
        read = eqx.tree_at(lambda x: x.intervened, one, intervened)
        axes = ud.plot.episode(read, belief=probs, axes=axes_of())
        assert to_hex(axes.patches[0].get_facecolor()) == ON_WHITE[colour]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda b, e: ud.plot.episode(e), r"episodes of shape \[6, 20\] are not one episode: pass jax.tree.map"),
        (lambda b, e: ud.plot.episode(history(b), belief=np.eye(4)), "belief has 4 rows, and 4 rounds need 5"),
        (lambda b, e: ud.plot.episode(history(b), belief=-np.eye(5)), "the rows of belief must be probabilities"),
        (lambda b, e: ud.plot.episode(history(b), actions="ABC"), "3 names, and action 3 was executed"),
        (
            lambda b, e: ud.plot.episode(eqx.tree_at(lambda x: x.actions, history(b), jnp.zeros((4, 2)))),
            "the actions are not symbols, one a round: ud.film draws",
        ),
        (
            lambda b, e: ud.plot.episode(eqx.tree_at(lambda x: x.mask, history(b), jnp.zeros(4, bool))),
            "the episode has no round",
        ),
    ],
)
def test_episodes_that_cannot_be_drawn_are_named(bandit, episodes, call, message, no_type_checks):
    with pytest.raises(ValueError, match=message):
        call(bandit, episodes)


def test_certificate_is_drawn_where_its_numbers_are(report):
    for measure in ("kl", "tv"):
        axes = ud.plot.certificate(report, measure=measure, axes=axes_of())
        points = [np.asarray(line.get_xydata()) for line in axes.lines]
        drawn = {(round(float(xy[0, 0]), 6), xy[0, 1]) for xy in points if len(xy) == 1}
        far = (round(getattr(report, f"action_{measure}_do"), 6), 0)
        assert far in drawn
        assert axes.get_xscale() == ("log" if measure == "kl" else "linear")


def test_learning_shows_distances_or_else_losses():
    rows = [{"update": t, "action_kl_do": 0.3 / t, "action_kl_see": 0.1, "action_loss": 1.5} for t in (1, 2, 3)]
    lines = ud.plot.learning(rows, axes=axes_of()).lines
    np.testing.assert_allclose(lines[0].get_xydata(), [[1, 0.3], [2, 0.15], [3, 0.1]])
    losses = [{k: v for k, v in row.items() if "kl" not in k} for row in rows]
    assert ud.plot.learning(losses, axes=axes_of()).lines[0].get_ydata().tolist() == [1.5] * 3


@pytest.mark.parametrize(("value", "label", "marker"), [(np.inf, "∞", "^"), (0.0, "0", "v")])
def test_learning_shows_what_is_outside_the_scale(value, label, marker):
    """The label at the end is the last value that was measured, and an arrow is where it was."""
    rows = [{"update": 1, "action_kl_do": 0.5}, {"update": 2, "action_kl_do": value}, {"update": 3}]
    axes = ud.plot.learning(rows, axes=axes_of())
    assert [text.get_text() for text in axes.texts] == [f"interventional\n{label}"]
    arrows = [line for line in axes.lines if line.get_marker() == marker]
    assert [x for line in arrows for x in np.asarray(line.get_xdata()).tolist()] == [2]
    only = ud.plot.learning([{"update": 1, "action_kl_do": value, "action_loss": 1.0}], axes=axes_of())
    assert "KL" in only.get_title(loc="left")


def test_learning_marks_infinite_losses():
    losses = [{"update": t, "action_loss": loss} for t, loss in ((1, np.inf), (2, 1.5), (3, np.inf))]
    arrows = [
        x
        for line in ud.plot.learning(losses, axes=axes_of()).lines
        if line.get_marker() == "^"
        for x in np.asarray(line.get_xdata()).tolist()
    ]
    assert arrows == [1, 3]
    all_infinite = ud.plot.learning([{"update": 1, "action_loss": np.inf}], axes=axes_of())
    assert any(line.get_marker() == "^" and len(np.asarray(line.get_xdata())) for line in all_infinite.lines)


def test_no_placeholder_of_a_page_is_left(bandit, episodes, report):
    """Figures of pages are drawn in placeholders, nearly black, that the page replaces."""
    rows = [{"update": t, "action_kl_do": 0.3 / t, "action_kl_see": 0.1} for t in (1, 2)]
    drawn = [
        ud.plot.belief(jnp.exp(ud.posterior(bandit, episodes)[0]), theta=0, axes=axes_of()),
        ud.plot.certificate(report, axes=axes_of()),
        ud.plot.learning(rows, axes=axes_of()),
    ]
    for axes in drawn:
        assert not colours(axes) & {*VARIABLES}
        assert colours(axes) & {ON_WHITE["do"], ON_WHITE["see"]}


def test_new_axes_by_default(report):
    from matplotlib import pyplot

    axes = ud.plot.certificate(report)
    assert axes.figure is pyplot.gcf()
    pyplot.close("all")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda b, e, r: ud.plot.belief(ud.posterior(b, e)[0]), r"pass jnp.exp\(ud.posterior"),
        (lambda b, e, r: ud.plot.belief(jnp.exp(ud.posterior(b, e))), r"of one episode, not of shape \(6, 21, 5\)"),
        (lambda b, e, r: ud.plot.belief(np.eye(3), names="ab"), "2 names, and theta has 3 values"),
        (lambda b, e, r: ud.plot.certificate(r, measure="nats"), "'kl' or 'tv', not 'nats'"),
        (lambda b, e, r: ud.plot.belief(np.eye(3), theta=3), "an index from 0 to 2, or one for each of 3 rows"),
        (lambda b, e, r: ud.plot.belief(np.eye(3), theta=1.5), "an index from 0 to 2"),
        (lambda b, e, r: ud.plot.belief(np.eye(3), theta=[0, 1]), "one for each of 3 rows"),
        (lambda b, e, r: ud.plot.belief(np.eye(3), own_actions="Do"), "'do' or 'see', not 'Do'"),
        (lambda b, e, r: ud.plot.belief(np.zeros((0, 3))), r"not of shape \(0, 3\)"),
        (lambda b, e, r: ud.plot.learning([{"update": 1}]), "no row has a number under action_kl_do"),
        (lambda b, e, r: ud.plot.learning([{"action_loss": 1.0}]), "the number of its update"),
    ],
)
def test_what_cannot_be_drawn_is_named(bandit, episodes, report, call, message):
    with pytest.raises(ValueError, match=message):
        call(bandit, episodes, report)


def text_of(html):
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", html, flags=re.DOTALL))


def test_certificate_in_a_notebook(report):
    """Every quantity that was measured has a row; the page needs nothing from elsewhere."""
    html = report._repr_html_()
    assert text_of(html).startswith(" Deluded.")
    for name, quantity in report.quantities.items():
        assert (f">{name}</th>" in html) == (quantity.value is not None), name
    assert not re.search(r"https?:|src=|url\((?!#)", html)
    assert "prefers-color-scheme: dark" in html


def test_episodes_in_a_notebook(bandit, episodes):
    html = episodes._repr_html_()
    assert "6 episodes of 20 rounds" in html
    rows = re.findall(r'<th scope="row">action</th>(.*?)</tr>', html)
    assert len(rows) == 4
    assert "2 more episodes" in html
    shown = [int(x) for x in re.findall(r'<span class="see">(\d+)</span>', rows[1])]
    assert shown == episodes.actions[1].tolist()
    by_expert = ud.rollout(bandit, None, executor="expert", key=jax.random.key(0), num_episodes=1)
    assert by_expert._repr_html_().count('class="see expert"') == 20
    one = jax.tree.map(lambda x: x[1], episodes)
    assert re.findall(r'<th scope="row">action</th>(.*?)</tr>', one._repr_html_()) == rows[1:2]
    history = ud.Episodes.of(bandit, actions=[0, 1], observations=[1, 0])
    assert "reward" not in history._repr_html_()
    arm = ud.rollout(ud.tasks.arm(num_rounds=2), None, executor="expert", key=jax.random.key(0), num_episodes=1)
    assert "actions: (1, 2, 2)" in text_of(arm._repr_html_())


def test_legend_of_episodes_names_colours_and_the_line(episodes):
    """Each colour and the line under a number is in the legend, in the class that draws it, with its meaning."""
    legend = episodes._repr_html_().split('<p class="aside">Actions: ')[-1]
    assert '<span class="do">blue</span> is marked do, an intervention' in legend
    assert '<span class="see">orange</span> is marked see, evidence about theta' in legend
    assert '<span class="expert">underlined</span> was executed by the expert' in legend


@pytest.mark.parametrize(
    ("name", "takes"),
    [
        ("belief", r"takes probabilities, \[T \+ 1, K\]"),
        ("certificate", "takes the certificate that ud.certify returns"),
        ("episode", "takes one episode of ud.Episodes"),
        ("learning", "takes the run that ud.teach returns, or its metrics"),
    ],
)
def test_figures_name_what_they_take(episodes, name, takes, no_type_checks):
    for wrong in ("runs/bandit", *[episodes] * (name != "episode")):
        kind = type(wrong).__name__
        with pytest.raises(TypeError, match=rf"plot.{name} {takes}.*, not an object of type {kind}"):
            getattr(ud.plot, name)(wrong)
    with pytest.raises(TypeError, match=rf"plot.{name} takes axes of matplotlib as axes=.*, not .* type Figure"):
        getattr(ud.plot, name)(episodes, axes=Figure())


def test_episodes_that_are_no_batch_have_no_table(bandit, episodes):
    assert jax.eval_shape(lambda: episodes)._repr_html_() is None
    assert jax.tree.map(lambda x: x[None], episodes)._repr_html_() is None

    def traced(episodes):
        assert episodes._repr_html_() is None
        return episodes.reward

    jax.jit(traced)(episodes)
    one = ud.rollout(ud.tasks.kuhn(), None, executor="expert", key=jax.random.key(0), num_episodes=1)
    assert f"opening {one.opening[0]}" in one._repr_html_()
    moving = ud.tasks.switching_bandit(num_rounds=3)
    path = ud.rollout(moving, None, executor="expert", key=jax.random.key(0), num_episodes=1)
    cells = "".join(f"<td>{k}</td>" for k in path.theta[0, :3])
    assert f'<th scope="row">theta</th>{cells}' in path._repr_html_()


def test_paths_in_a_notebook():
    """What blocks a path is crossed out; showing the paths takes none of them."""
    arrows = {"<T>": (), "A": ("<T>",), "C": ("A", "O"), "O": ("<T>", "A")}
    paths = graph.paths(arrows, "A", "O", see="<T>")
    html = paths._repr_html_()
    assert 'class="path">A &rarr; O</span></th><td>open' in html
    assert "A &larr; <s>&lt;T&gt;</s> &rarr; O" in html
    assert "A &rarr; <s>C</s> &larr; O" in html
    assert "blocked by &lt;T&gt;" in html
    found = list(paths)
    assert [path.is_open for path in found] == [False, False, True]
    assert found[2]._repr_html_().count("<tr>") == 1
    many = {f"Z{i}": () for i in range(14)} | {"A": tuple(f"Z{i}" for i in range(14))}
    assert "Not shown" in graph.paths(many | {"O": many["A"]}, "A", "O")._repr_html_()


def test_causal_model_in_a_notebook():
    """Names and values are text, not markup; a hidden variable is drawn as latent."""
    model = ud.CausalModel(
        [
            ud.Variable("Theta", ("<b>", "b"), table=[0.5, 0.5]),
            ud.Variable("A", (0, 1), parents=("Theta",), table=[[0.9, 0.1], [0.2, 0.8]]),
        ]
    )
    html = model._repr_html_()
    assert "&lt;b&gt;, b" in html
    assert "<svg" in html
    assert "latent" not in html
    assert "latent" in model.marginal(["A"])._repr_html_()


TRIAL = ud.Graph({"Z": (), "A": "Z", "O": "A"}, bidirected=[("A", "O")])


def cells(html):
    """Return the rows of the tables of a page, as texts."""
    rows = re.findall(r"<tr>(.*?)</tr>", html, flags=re.DOTALL)
    return [[unescape(x) for x in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows]


def refused(call, *args, **kwargs):
    with pytest.raises(ud.NotIdentifiable) as caught:
        call(*args, **kwargs)
    return caught.value


def test_paths_print_without_being_taken():
    paths = TRIAL.paths("A", "O", see="Z")
    assert str(paths) == repr(paths) == "A -> O: open\nA <-> O: open"
    assert len(list(paths)) == 2
    assert str(TRIAL.paths("Z", "O", see="A")) == "Z -> A -> O: blocked by A\nZ -> A <-> O: open"
    assert "Z &rarr; A &harr; O" in TRIAL.paths("Z", "O", see="A")._repr_html_()
    assert str(ud.Graph({"A": (), "O": ()}).paths("A", "O")) == "No path."
    many = {f"Z{i}": () for i in range(14)}
    text = str(graph.paths({**many, "A": tuple(many), "O": tuple(many)}, "A", "O"))
    assert text.count("open") == 12
    assert text.endswith("\nMore than 12 paths.")


def test_effect_says_what_computed_it():
    model = ud.CausalModel(
        [
            ud.Variable("A", ("<b>", "b"), table=[0.5, 0.5]),
            ud.Variable("O", (0, 1), parents="A", table=[[0.9, 0.1], [0.2, 0.8]]),
        ]
    )
    effect = model.ate({"A": "b"}, "O")
    first, second = str(effect).split("\n")
    assert first == "E[O | do(A=b)] - E[O | do(A=<b>)] = 0.7, from the model's mechanisms"
    assert second == "Estimand from observations: P(O | do(A)) = P(O | A)"
    html = effect._repr_html_()
    assert "<b>" not in html
    assert cells(html) == [
        ["E[O | do(A=b)] - E[O | do(A=<b>)]", "0.7, from the model's mechanisms"],
        ["estimand from observations", "P(O | do(A)) = P(O | A)"],
    ]
    assert cells(model.direct_effect({"A": "b"}, "O")._repr_html_())[0][1] == "0.7"
    assert "= 0.7, from the observed distribution\n" in str(model.marginal(("A", "O")).ate({"A": "b"}, "O"))


def test_fitted_effect_is_of_the_mechanisms_and_not_of_the_frequencies():
    """A graph without the arrow from Z to O: in the data Z is correlated with O given A."""
    rng = np.random.default_rng(0)
    Z = rng.random(200) < 0.5
    A = rng.random(200) < np.where(Z, 0.8, 0.2)
    O = rng.random(200) < 0.2 + 0.4 * A + 0.2 * Z
    rows = {"Z": Z.astype(int), "A": A.astype(int), "O": O.astype(int)}
    model = ud.causal.fit({"Z": (), "A": "Z", "M": "A", "O": "M"}, {**rows, "M": rows["A"] ^ (rng.random(200) < 0.1)})
    effect = model.ate({"A": 1}, "O")
    counts = np.zeros((2, 2))
    np.add.at(counts, (rows["A"], rows["O"]), 1)
    by_estimand = effect.estimand.evaluate(counts, ("A", "O"))
    assert abs(float(effect) - (by_estimand[1, 1] - by_estimand[1, 0])) > 0.02
    in_model = effect.estimand.evaluate(model.query(("A", "O")))
    assert float(effect) == pytest.approx(float(in_model[1, 1] - in_model[1, 0]), abs=1e-6)
    assert "from the model's mechanisms" in str(effect)


def test_causation_in_a_notebook():
    frog = ud.tasks.prize_or_frog().causal_model(num_rounds=1)
    rows = cells(frog.causation({"A_1": 1}, {"O_1": 1})._repr_html_())
    assert [row[:2] for row in rows] == [["PN, necessity", "1"], ["PS, sufficiency", "nan"], ["PNS, both", "0.5"]]


def test_remedies_are_shown_with_their_estimands():
    found = ud.causal.remedies(TRIAL, "O", do="A")
    assert repr(found) == str(found)
    assert str(found).endswith("\nset A: P(O | do(A))")
    assert cells(found._repr_html_())[1:] == [[*row] for row in found.table()]
    assert found.table()[1] == ("set", "A", "P(O | do(A))")
    limited = ud.causal.remedies(TRIAL, "O", do="A", limit=1)
    assert "a larger limit" in limited._repr_html_()
    assert "Nothing helps" not in limited._repr_html_()


def test_essential_graph_in_a_notebook():
    """Arrows have heads, and edges of either direction have none."""

    def heads(html):
        return len(re.findall(r"<path[^>]*fill: var\(--ink\)", html))

    essential = ud.Graph({"Z": (), "A": "Z", "B": (), "O": ("A", "B")}).cpdag()
    assert repr(essential) == "EssentialGraph(A -> O, B -> O, Z - A)"
    html = essential._repr_html_()
    assert "Arrows: from A to O; from B to O. Edges of either direction: Z - A." in unescape(html)
    assert heads(html) == 2
    assert "arrow of either direction" in html
    backwards = ud.Graph({"O": ("A", "B"), "A": "Z", "B": (), "Z": ()}).cpdag()
    assert heads(backwards._repr_html_()) == 2
    whole = ud.Graph({"X": ("Y", "Z"), "Y": "Z", "Z": ()}).cpdag()
    assert heads(whole._repr_html_()) == 0


def test_hedge_is_shown_by_its_parts():
    hidden = ud.Graph({"U": (), "A": "U", "O": ("A", "U")}, latent="U")
    hedge = refused(hidden.identify, "O", do="A").hedge
    assert str(hedge) == repr(hedge)
    assert str(hedge).split("\n") == [
        "Hedge: P(O | do(A)) is not identifiable.",
        "F: A, O",
        "F': O",
        "roots: O",
        "directed edges: A -> O",
        "hidden causes: A <-> O (U)",
    ]
    html = hedge._repr_html_()
    assert cells(html) == [[*row] for row in hedge.table()]
    assert "Arrows: from A to O. Latent common causes: A ↔ O." in html
    assert refused(TRIAL.identify, "O", do="A").hedge.table()[-1] == ("hidden causes", "A <-> O")


def test_thicket_is_shown_by_its_experiments():
    thicket = refused(TRIAL.identify, "O", do="A", experiments=["Z", (), "O"]).thicket
    assert str(thicket) == repr(thicket)
    assert str(thicket).split("\n") == [
        "Thicket: no experiment determines P(O | do(all others)).",
        "do(Z): hedge F = {A, O}, F' = {O}",
        "observation: hedge F = {A, O}, F' = {O}",
        "do(O): sets O",
    ]
    assert cells(thicket._repr_html_()) == [[*row] for row in thicket.table()]


def test_refusal_in_a_notebook():
    """The message, the witness, and the steps up to the failure."""
    error = refused(TRIAL.identify, "O", do="A")
    html = error._repr_html_()
    assert str(error) in unescape(html)
    assert error.hedge.title in html
    assert [row[1] for row in cells(html) if row[1].startswith("ID, ")] == [x.rule for x in error.derivation.steps]
    several = refused(TRIAL.identify, "O", do="A", experiments=["Z", ()])
    assert several.thicket.title in several._repr_html_()
    worlds = [({"O": 1}, {"A": 1}), ({"O": 0}, {"A": 0})]
    counterfactual = refused(ud.causal.identify_counterfactual, {"A": (), "O": "A"}, worlds)
    assert str(counterfactual.conflict) in counterfactual._repr_html_()
    assert repr(counterfactual.conflict).startswith("Conflict: hidden causes or a shared noise join O=1 under do(A=1)")
    assert ud.NotIdentifiable("no", None)._repr_html_().endswith("<p>no</p></div>")


@pytest.mark.parametrize("make", [lambda: refused(TRIAL.identify, "O", do="A"), lambda: TRIAL.paths("A", "O")])
def test_causal_pages_are_light_and_dark_and_scroll(make):
    html = make()._repr_html_()
    assert "prefers-color-scheme: dark" in html
    assert '<div class="wide"><table' in html
    assert ".undelude .wide { overflow-x: auto; }" in html
    assert not re.search(r"#[0-9a-f]{6}", html.split("</style>", 1)[1])
