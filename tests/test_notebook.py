"""What notebooks and papers show: `ud.plot`, and the HTML of certificates, episodes and causal models."""

import re

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
from undelude.causal import graph

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
        (lambda b, e, r: ud.plot.learning([{"update": 1}]), "no row has action_kl_do"),
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
        ("learning", "takes the run that ud.teach returns, or its metrics"),
    ],
)
def test_figures_name_what_they_take(episodes, name, takes, no_type_checks):
    for wrong in (episodes, "runs/bandit"):
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
