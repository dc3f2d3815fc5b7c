"""Films of episodes, compared with the observations, the exact posterior, and the files as Pillow reads them."""

import io

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageColor
from rich.console import Console

import undelude as ud
from undelude._cli.interrupts import Interrupts
from undelude._cli.measurements import keys, write_film
from undelude._drawing.film import Film
from undelude._drawing.frame import ALARM, DO, HEADER, INK, MUTED, SEE, Frame
from undelude._process.replay import replay
from undelude._process.task import AbstractTask
from undelude._report.actors import BEGINNINGS, film_of_actors
from undelude._runs.config import Config
from undelude._runs.directory import RunDirectory
from undelude.tasks.merge import MergeTask
from undelude.tasks.tables import TableTask

KEY = jax.random.key(2)


class Undrawn(TableTask):
    """Tables without their drawing."""

    draw = AbstractTask.draw


def colour_at(picture, x, y):
    """Return the colour at a point of a 200-pixel square below its header."""
    return tuple(picture[round(HEADER * 200) + round(y * 200), round(x * 200)].tolist())


def test_walker_stands_in_the_observed_cell():
    """In every frame, the middle of the cell has the colour of ink."""
    grid = ud.tasks.grid(size=5, num_rounds=10)
    episodes = ud.rollout(grid, ud.ExactAgent(grid), key=KEY, num_episodes=2)
    film = ud.film(grid, episodes, episode=1, size=200).frames
    assert film.shape == (11, 222, 200, 3)
    assert film.dtype == np.uint8
    row, column = np.asarray(episodes.observations["cell"][1]).reshape(10, 2, 5).argmax(-1).T
    for t in range(10):
        x, y = (0.02 + 0.96 / 5 * (i + 0.5) for i in (column[t], row[t]))
        assert colour_at(film[t + 1], x, y) == ImageColor.getrgb(INK)


@pytest.mark.parametrize(("mark", "accent"), [("do", DO), ("see", SEE)])
def test_bars_show_exact_belief(mark, accent):
    """Each bar has the accent's colour; the disc above it is filled if the arm was pulled."""
    bandit = ud.tasks.bandit(num_rounds=6)
    episodes = ud.rollout(bandit, ud.ExactAgent(bandit, mark), key=KEY, num_episodes=1)
    film = ud.film(bandit, episodes, size=200).frames
    belief = np.exp(np.asarray(ud.posterior(bandit, episodes)[0]))
    columns = [round(200 * (0.05 + 0.9 * (k + 0.425) / 5)) for k in range(5)]
    filled = (np.abs(film[:, :, columns].astype(int) - ImageColor.getrgb(accent)).sum(-1) < 30).sum(1)
    np.testing.assert_allclose(filled, belief * 0.67 * 200, atol=3)
    discs = [
        [k for k in range(5) if colour_at(picture, 0.05 + 0.9 * (k + 0.425) / 5, 0.12) == ImageColor.getrgb(INK)]
        for picture in film
    ]
    assert discs == [[], *([a] for a in episodes.actions[0].tolist())]


def test_first_opened_door_stays_framed():
    """The colour of the edges tells which door is framed."""
    doors = ud.tasks.doors(look=0.9, num_rounds=4)
    episodes = ud.rollout(doors, ud.ExactAgent(doors), key=KEY, num_episodes=6)
    for episode, actions in enumerate(episodes.actions.tolist()):
        film = ud.film(doors, episodes, episode=episode, size=200).frames
        opened = next((t for t, a in enumerate(actions) if a < 4), 4)
        for t, picture in enumerate(film[1:]):
            framed = [colour_at(picture, 0.05 + 0.225 * door, 0.3) == ImageColor.getrgb(INK) for door in range(4)]
            assert framed == [t >= opened and door == actions[opened] for door in range(4)]


@pytest.mark.parametrize("task", ["kuhn", *(pytest.param(x, marks=pytest.mark.slow) for x in ("arm", "leduc"))])
def test_first_frame_does_not_depend_on_the_agent(task):
    """It is before the first action; theta and the opening depend only on the key."""
    process = getattr(ud.tasks, task)()
    episodes = [
        ud.rollout(process, agent, key=KEY, num_episodes=1, num_rounds=3)
        for agent in (ud.ExactAgent(process), ud.ThompsonAgent(process))
    ]
    one, other = (ud.film(process, x) for x in episodes)
    np.testing.assert_array_equal(one.frames[0], other.frames[0])
    assert (one.frames[0] != one.frames[1]).any()
    _, height, width, _ = one.frames.shape
    assert ud.side_by_side([one, other]).frames.shape == (4, height, 2 * width + 6, 3)


@pytest.mark.parametrize("task", ["bandit", *(pytest.param(x, marks=pytest.mark.slow) for x in ("grid", "merge"))])
def test_header_shows_the_observation(task):
    """The part right of the number of the round is equal for equal observations and differs for different ones."""
    process = getattr(ud.tasks, task)(num_rounds=8)
    episodes = ud.rollout(process, ud.ExactAgent(process), key=KEY, num_episodes=1)
    part = {"bandit": lambda o: o, "grid": lambda o: o["bit"], "merge": lambda o: o["sign"]}[task]
    observed = part(episodes.observations)[0].tolist()
    headers = [picture[:20, 100:].tobytes() for picture in ud.film(process, episodes, size=200).frames[1:]]
    assert len(set(observed)) > 1
    for x, header in zip(observed, headers, strict=True):
        assert [y == x for y in observed] == [other == header for other in headers]


def cut(episodes, lengths):
    """Return the episodes with a mask that ends episode `i` after `lengths[i]` rounds."""
    mask = jnp.asarray(np.arange(episodes.num_rounds) < np.array(lengths)[:, None])
    return eqx.tree_at(lambda e: e.mask, episodes, mask)


def test_film_stops_after_the_last_round():
    """Its frames are the first frames of the whole episode's film, and rounds after the end do not matter."""
    bandit = ud.tasks.bandit(num_rounds=6)
    episodes = ud.rollout(bandit, ud.ExactAgent(bandit), key=KEY, num_episodes=2)
    whole = ud.film(bandit, episodes, episode=1, size=64).frames
    short = cut(episodes, [6, 4])
    padded = eqx.tree_at(
        lambda e: (e.intervened, e.actions), short, (short.mask, jnp.where(short.mask, short.actions, 0))
    )
    for one in (short, padded):
        film = ud.film(bandit, one, episode=1, size=64).frames
        assert len(film) == 5
        np.testing.assert_array_equal(film, whole[:5])
    assert len(ud.film(bandit, short, episode=0, size=64)) == 7


def test_replay_repeats_the_memories_of_the_rollout():
    """A walker's memory after each action is its cell, which it also observes; after the end it stays."""
    grid = ud.tasks.grid(size=5, num_rounds=6)
    episodes = ud.rollout(grid, ud.ExactAgent(grid), key=KEY, num_episodes=1)
    episode = jax.tree.map(lambda x: x[0], cut(episodes, [4]))
    states = replay(grid, episode)
    cells = np.asarray(episode.observations["cell"]).reshape(6, 2, 5).argmax(-1)
    np.testing.assert_array_equal(np.asarray(states.acted_w.cell)[:4], cells[:4])
    for after in jax.tree.leaves(states.w):
        assert after.shape[0] == 7
        np.testing.assert_array_equal(after[4], after[6])


def test_continuous_theta_drawn():
    arm = ud.tasks.arm(num_targets=None, num_rounds=3)
    episodes = ud.rollout(arm, None, key=KEY, num_episodes=1, executor="expert")
    film = ud.film(arm, episodes)
    assert len(film) == 4
    assert [mark.label for mark in film.legend] == ["hidden target", "hand"]


def test_gif_holds_every_frame(tmp_path):
    """Pillow reads the pictures back, with the legend, up to the loss by a palette of 256 colours."""
    merge = ud.tasks.merge()
    film = ud.film(merge, ud.rollout(merge, ud.ExactAgent(merge), key=KEY, num_episodes=1))
    with Image.open(ud.write_gif(tmp_path / "merge.gif", film, fps=5)) as gif:
        shown = []
        for t in range(gif.n_frames):
            gif.seek(t)
            shown.append((np.asarray(gif.convert("RGB")), gif.info["duration"]))
    # Pillow stores equal frames as one with a longer duration.
    assert sum(duration for _, duration in shown) == 200 * (len(film) - 1) + 1000
    whole = film.array()
    assert whole.shape[1] > film.frames.shape[1]
    for (picture, _), frame in zip((shown[0], shown[-1]), (whole[0], whole[-1]), strict=True):
        assert np.abs(picture.astype(int) - frame).mean() < 3
        assert np.abs(picture.astype(int) - frame).max() < 32
        assert (picture[(frame == 255).all(-1)] == 255).all()
    for fps in (0, -1, 50.1, 0.0015, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"fps must be from 0.001526 to 50, not {fps}"):
            ud.write_gif(tmp_path / "still.gif", film, fps=fps)
    none = Film(film.frames[:0])
    with pytest.raises(ValueError, match="no frames"):
        ud.write_gif(tmp_path / "still.gif", none)
    with pytest.raises(ValueError, match=r"films\[1\] has none"):
        ud.side_by_side([film, none])


def test_palette_covers_every_frame(tmp_path):
    """The first frame has sixteen blues, and the last one is white."""
    film = np.full((2, 64, 64, 3), 255, np.uint8)
    film[0, ..., 0] = np.repeat(np.arange(16) * 16, 4)[:, None]
    with Image.open(ud.write_gif(tmp_path / "blues.gif", Film(film))) as gif:
        first = np.asarray(gif.convert("RGB"))
    assert np.abs(first.astype(int) - film[0]).max() <= 8


def test_side_by_side_keeps_the_last_frame_of_a_short_film():
    long, short = (np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1) * np.ones((8, 8, 3), np.uint8) for n in (4, 2))
    joined = ud.side_by_side([Film(long), Film(short)]).frames
    assert joined[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert joined[:, 0, -1, 0].tolist() == [0, 1, 1, 1]


def test_side_by_side_refuses_unequal_films():
    for films in ([], [Film(np.zeros((2, 8, 8, 3), np.uint8)), Film(np.zeros((2, 9, 8, 3), np.uint8))]):
        with pytest.raises(ValueError, match="of equal heights"):
            ud.side_by_side(films)


def test_legend_names_each_colour_of_belief_once():
    """It lists what each panel shows, the beliefs first, and what is not in any panel is not listed."""
    bandit = ud.tasks.bandit(num_rounds=2)
    films = [
        ud.film(bandit, ud.rollout(bandit, ud.ExactAgent(bandit, mark), key=KEY, num_episodes=1), size=64)
        for mark in ("do", "see", "do")
    ]
    legend = ud.side_by_side(films).legend
    assert [(mark.fill, mark.label.rpartition(" ")[2]) for mark in legend] == [
        (DO, "interventions"), (SEE, "evidence"), (INK, "action"), (None, "theta")
    ]  # fmt: skip
    frame = Frame(64, accent=MUTED, belief="belief")
    frame.disc((0.5, 0.5), 0.1, fill=INK)
    assert frame.legend == {}


def test_legend_and_title_do_not_change_the_frames():
    """They stand below and above, each mark in the colour that the frames have."""
    bandit = ud.tasks.bandit(num_rounds=1)
    film = ud.film(bandit, ud.rollout(bandit, ud.ExactAgent(bandit), key=KEY, num_episodes=1), size=200)
    whole = ud.side_by_side([film], title="one arm").array()
    (top,) = [y for y in range(60) if np.array_equal(whole[:, y : y + 222], film.frames)]
    assert (whole[0, :top] < 100).any()
    assert (whole[0, top + 222 :] == ImageColor.getrgb(DO)).all(-1).any()


def test_motion_between_rounds_is_even():
    """With three frames a round, every third frame is that of the round, and the hand moves on a way between two."""
    arm = ud.tasks.arm(num_rounds=2)
    episodes = ud.rollout(arm, ud.ExactAgent(arm), key=KEY, num_episodes=1)
    smooth = ud.film(arm, episodes, size=100, frames_per_round=3).frames
    np.testing.assert_array_equal(smooth[::3], ud.film(arm, episodes, size=100).frames)
    hands = [np.argwhere((x[30:] == ImageColor.getrgb(INK)).all(-1)).mean(0) for x in smooth[:4]]
    steps = np.linalg.norm(np.diff(hands, axis=0), axis=1)
    assert 0 < steps.max() < 2 * steps.min() + 1


def test_film_refuses_what_it_cannot_draw():
    bandit = ud.tasks.bandit(num_rounds=2)
    history = ud.Episodes.of(bandit, actions=[0, 1], observations=[1, 1])
    with pytest.raises(ValueError, match="no theta"):
        ud.film(bandit, history)
    episodes = ud.rollout(bandit, ud.ExactAgent(bandit), key=KEY, num_episodes=2)
    with pytest.raises(ValueError, match=r"from 0 to 1, .* not 2"):
        ud.film(bandit, episodes, episode=2)
    with pytest.raises(TypeError, match=r"process must be an ud.InteractionProcess"):
        ud.film(episodes, bandit)
    with pytest.raises(TypeError, match=r"episodes must be ud.Episodes, the result of ud.rollout"):
        ud.film(bandit, bandit)
    with pytest.raises(ValueError, match=r"size must be at least 16 pixels, .* not 15"):
        ud.film(bandit, episodes, size=15)
    assert ud.film(bandit, episodes, size=16).array().shape[2] == 16
    prior = ud.Categorical(probs=jnp.full(5, 0.2))
    task = Undrawn(bandit.task.log_probs, bandit.task.rewards)
    endless = ud.InteractionProcess(prior, None, task, bandit.expert, 2)
    episodes = ud.rollout(endless, None, key=KEY, num_episodes=1, executor="expert")
    with pytest.raises(TypeError, match=r"Undrawn has no drawing; give it draw\(frame"):
        ud.film(endless, episodes)


@pytest.fixture(scope="module")
def merge():
    """Return a task in which a deluded driver crashes: a short ramp, and a car that insists on its right of way."""
    return ud.tasks.merge(num_rounds=6, steps=3)


@pytest.fixture(scope="module")
def driver(merge):
    """Return an untrained agent of that task."""
    return ud.LSTMAgent(merge, 4, key=KEY)


@pytest.fixture(scope="module")
def run_film(merge, driver):
    """Draw the film of a run: expert, agent, sober and deluded exact agent."""
    film = film_of_actors(merge, driver, key=keys(Config("merge"))["certificate"])
    assert film is not None
    return film


def test_run_film_has_four_panels(run_film):
    """They have the same beginning: the road and the ramp, above the bars of belief."""
    assert run_film.frames.shape == (7, 222, 4 * 200 + 3 * 6, 3)
    panels = [run_film.frames[0, 40:160, i * 206 : i * 206 + 200] for i in range(4)]
    assert all(np.array_equal(panels[0], panel) for panel in panels[1:])


def test_run_film_shows_where_delusion_costs_most(run_film):
    """The deluded driver crashes; the expert and the sober agent do not."""
    alarm = (run_film.frames[-1] == ImageColor.getrgb(ALARM)).all(-1)
    crashed = [bool(alarm[:, i * 206 : i * 206 + 200].any()) for i in (0, 2, 3)]
    assert crashed == [False, False, True]


def test_run_film_needs_a_drawing():
    bandit = ud.tasks.bandit(num_rounds=3)
    undrawn = eqx.tree_at(lambda p: p.task, bandit, Undrawn(bandit.task.log_probs, bandit.task.rewards))
    assert film_of_actors(undrawn, ud.LSTMAgent(bandit, 4, key=KEY), key=KEY) is None


def test_run_film_prolongs_short_episodes(merge, driver, run_film, monkeypatch):
    """An episode that ends early keeps its last frame until the longest one ends."""

    def cut_agents(program, process, agent, **options):
        episodes = ud.rollout(process, agent, **options)
        return cut(episodes, [6 if agent is None else 4] * BEGINNINGS)

    monkeypatch.setattr("undelude._report.actors.run", cut_agents)
    film = film_of_actors(merge, driver, key=keys(Config("merge"))["certificate"])
    assert film is not None
    short, whole = film.frames, run_film.frames
    assert short.shape == whole.shape
    np.testing.assert_array_equal(short[:, :, :200], whole[:, :, :200])
    np.testing.assert_array_equal(short[4, :, 206:406], short[6, :, 206:406])


def test_failing_drawing_is_reported_and_skipped(merge, driver, run_film, tmp_path, monkeypatch):
    def tear(self, frame, theta, w, belief):
        raise RuntimeError("out of ink")

    run, console = RunDirectory.create(tmp_path / "run", Config("merge")), Console(file=io.StringIO())
    with monkeypatch.context() as patch:
        patch.setattr(MergeTask, "draw", tear)
        write_film(run, driver, merge, console, Interrupts())
    assert "No film of merge: RuntimeError: out of ink" in console.file.getvalue()
    assert not run.film_file.exists()
    write_film(run, driver, merge, console, Interrupts())
    assert run.film_file.exists()
