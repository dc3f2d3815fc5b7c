"""What notebooks and papers show: `ud.plot`, and the HTML of certificates, episodes and causal models."""

import re

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
