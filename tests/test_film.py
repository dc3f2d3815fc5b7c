"""What a film shows is what happened: places by the observations, beliefs by the exact posterior, files by Pillow."""

import io

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageColor
from rich.console import Console

import undelude as ud
from undelude._cli.measure import make_film, write_film
from undelude._drawing.film import ALARM, DO, HEADER, INK, SEE
from undelude._process.task import AbstractTask
from undelude._runs.config import Config
from undelude._runs.directory import RunDirectory
from undelude.tasks.merge import MergeTask
from undelude.tasks.tables import TableTask

KEY = jax.random.key(2)


class Undrawn(TableTask):
    """Tables without their drawing."""

    draw = AbstractTask.draw


def colour_at(picture, x, y):
    """Of a 200-pixel square under its header."""
    return tuple(picture[round(HEADER * 200) + round(y * 200), round(x * 200)].tolist())


def test_the_walker_is_where_the_observations_say():
    """Frame by frame; cells are told apart by the ink in their middle."""
    grid = ud.tasks.grid(size=5, num_rounds=10)
    episodes = ud.rollout(grid, ud.ExactAgent(grid), key=KEY, num_episodes=2)
    film = ud.film(grid, episodes, episode=1, size=200)
    assert film.shape == (11, 222, 200, 3)
    assert film.dtype == np.uint8
    row, column = np.asarray(episodes.observations["cell"][1]).reshape(10, 2, 5).argmax(-1).T
    for t in range(10):
        x, y = (0.02 + 0.96 / 5 * (i + 0.5) for i in (column[t], row[t]))
        assert colour_at(film[t + 1], x, y) == ImageColor.getrgb(INK)


@pytest.mark.parametrize(("mark", "accent"), [("do", DO), ("see", SEE)])
def test_bars_are_as_high_as_the_exact_belief(mark, accent):
    """Pixels of the accent's colour in the column of each arm; above it a disc, filled where the arm was pulled."""
    bandit = ud.tasks.bandit(num_rounds=6)
    episodes = ud.rollout(bandit, ud.ExactAgent(bandit, mark), key=KEY, num_episodes=1)
    film = ud.film(bandit, episodes, size=200)
    belief = np.exp(np.asarray(ud.posterior(bandit, episodes)[0]))
    columns = [round(200 * (0.05 + 0.9 * (k + 0.425) / 5)) for k in range(5)]
    filled = (np.abs(film[:, :, columns].astype(int) - ImageColor.getrgb(accent)).sum(-1) < 30).sum(1)
    np.testing.assert_allclose(filled, belief * 0.67 * 200, atol=3)
    discs = [
        [k for k in range(5) if colour_at(picture, 0.05 + 0.9 * (k + 0.425) / 5, 0.12) == ImageColor.getrgb(INK)]
        for picture in film
    ]
    assert discs == [[], *([a] for a in episodes.actions[0].tolist())]


def test_the_door_that_was_opened_is_framed_and_stays_open():
    """By the colour of the edges, whoever acts: the first door that an agent opens ends it."""
    doors = ud.tasks.doors(look=0.9, num_rounds=4)
    episodes = ud.rollout(doors, ud.ExactAgent(doors), key=KEY, num_episodes=6)
    for episode, actions in enumerate(episodes.actions.tolist()):
        film = ud.film(doors, episodes, episode=episode, size=200)
        opened = next((t for t, a in enumerate(actions) if a < 4), 4)
        for t, picture in enumerate(film[1:]):
            framed = [colour_at(picture, 0.05 + 0.225 * door, 0.3) == ImageColor.getrgb(INK) for door in range(4)]
            assert framed == [t >= opened and door == actions[opened] for door in range(4)]


@pytest.mark.parametrize("task", ["arm", "leduc"])
def test_tasks_draw_the_same_world_for_whoever_acts(task):
    """The first frame is before anybody acted; theta and the opening are the key's."""
    process = getattr(ud.tasks, task)()
    episodes = [
        ud.rollout(process, agent, key=KEY, num_episodes=1, num_rounds=3)
        for agent in (ud.ExactAgent(process), ud.ThompsonAgent(process))
    ]
    one, other = (ud.film(process, x) for x in episodes)
    np.testing.assert_array_equal(one[0], other[0])
    assert (one[0] != one[1]).any()
    assert ud.side_by_side([one, other]).shape == (4, *one.shape[1:2], 2 * one.shape[2] + 6, 3)


@pytest.mark.parametrize("task", ["bandit", "grid", "merge"])
def test_the_header_says_what_was_observed(task):
    """Right of the number of the round: the same after the same observation, and another after another."""
    process = getattr(ud.tasks, task)(num_rounds=8)
    episodes = ud.rollout(process, ud.ExactAgent(process), key=KEY, num_episodes=1)
    part = {"bandit": lambda o: o, "grid": lambda o: o["bit"], "merge": lambda o: o["sign"]}[task]
    seen = part(episodes.observations)[0]
    headers = [picture[:20, 100:].tobytes() for picture in ud.film(process, episodes, size=200)[1:]]
    assert len(set(seen.tolist())) > 1
    for x, header in zip(seen.tolist(), headers, strict=True):
        assert [y == x for y in seen.tolist()] == [other == header for other in headers]


def test_a_target_may_be_anywhere():
    arm = ud.tasks.arm(num_targets=None, num_rounds=3)
    episodes = ud.rollout(arm, None, key=KEY, num_episodes=1, executor="expert")
    assert ud.film(arm, episodes).shape[0] == 4


def test_a_gif_holds_every_frame(tmp_path):
    """Read back by Pillow; the pictures within what a palette of 64 loses."""
    merge = ud.tasks.merge()
    film = ud.film(merge, ud.rollout(merge, ud.ExactAgent(merge), key=KEY, num_episodes=1))
    with Image.open(ud.write_gif(tmp_path / "merge.gif", film, fps=5)) as gif:
        shown = []
        for t in range(gif.n_frames):
            gif.seek(t)
            shown.append((np.asarray(gif.convert("RGB")), gif.info["duration"]))
    # Equal frames are stored as one that stands longer.
    assert sum(duration for _, duration in shown) == 200 * (len(film) - 1) + 1000
    for (picture, _), frame in zip((shown[0], shown[-1]), (film[0], film[-1]), strict=True):
        assert np.abs(picture.astype(int) - frame).mean() < 3
        assert np.abs(picture.astype(int) - frame).max() < 32
        assert (picture[(frame == 255).all(-1)] == 255).all()
    with pytest.raises(ValueError, match="fps must be greater than 0, not 0"):
        ud.write_gif(tmp_path / "still.gif", film, fps=0)


def test_a_gif_keeps_colours_that_are_gone_in_the_end(tmp_path):
    """Sixteen blues in the first frame, and a white last one."""
    film = np.full((2, 64, 64, 3), 255, np.uint8)
    film[0, ..., 0] = np.repeat(np.arange(16) * 16, 4)[:, None]
    with Image.open(ud.write_gif(tmp_path / "blues.gif", film)) as gif:
        first = np.asarray(gif.convert("RGB"))
    assert np.abs(first.astype(int) - film[0]).max() <= 8


def test_films_that_do_not_fit_are_not_put_side_by_side():
    for films in ([], [np.zeros((2, 8, 8, 3), np.uint8), np.zeros((3, 8, 8, 3), np.uint8)]):
        with pytest.raises(ValueError, match="equally many frames"):
            ud.side_by_side(films)


def test_what_cannot_be_drawn_is_said():
    bandit = ud.tasks.bandit(num_rounds=2)
    history = ud.Episodes.of(bandit, actions=[0, 1], observations=[1, 1])
    with pytest.raises(ValueError, match="no theta"):
        ud.film(bandit, history)
    episodes = ud.rollout(bandit, ud.ExactAgent(bandit), key=KEY, num_episodes=2)
    with pytest.raises(ValueError, match="no episode 2; they are 0 to 1"):
        ud.film(bandit, episodes, episode=2)
    prior = ud.Categorical(probs=jnp.full(5, 0.2))
    task = Undrawn(bandit.task.log_probs, bandit.task.rewards)
    endless = ud.InteractionProcess(prior, None, task, bandit.expert, 2)
    episodes = ud.rollout(endless, None, key=KEY, num_episodes=1, executor="expert")
    with pytest.raises(TypeError, match=r"Undrawn has no drawing; give it draw\(frame"):
        ud.film(endless, episodes)


def test_a_run_s_film_has_four_panels_from_one_beginning():
    """Expert, agent, and both exact agents; of a task that draws nothing of its own there is none."""
    merge = ud.tasks.merge(num_rounds=3)
    film = make_film(ud.LSTMAgent(merge, 4, key=KEY), merge, Config("merge"))
    assert film is not None
    assert film.shape == (4, 222, 4 * 200 + 3 * 6, 3)
    # The road and the ramp, above the bars of belief.
    panels = [film[0, 40:160, i * 206 : i * 206 + 200] for i in range(4)]
    assert all(np.array_equal(panels[0], panel) for panel in panels[1:])
    bandit = ud.tasks.bandit(num_rounds=3)
    undrawn = eqx.tree_at(lambda p: p.task, bandit, Undrawn(bandit.task.log_probs, bandit.task.rewards))
    assert make_film(ud.LSTMAgent(bandit, 4, key=KEY), undrawn, Config("bandit")) is None


def test_of_many_beginnings_the_film_shows_the_one_at_which_delusion_costs_most():
    """On a short ramp with a car that asserts itself: the deluded driver crashes, expert and sober answer do not."""
    merge = ud.tasks.merge(num_rounds=6, steps=3)
    film = make_film(ud.LSTMAgent(merge, 4, key=KEY), merge, Config("merge"))
    assert film is not None
    alarm = (film[-1] == ImageColor.getrgb(ALARM)).all(-1)
    crashed = [bool(alarm[:, i * 206 : i * 206 + 200].any()) for i in (0, 2, 3)]
    assert crashed == [False, False, True]


def test_a_drawing_that_fails_stops_nothing(tmp_path):
    """It is said, and no file is left."""

    class Torn(MergeTask):
        def draw(self, frame, theta, w, belief):
            raise RuntimeError("out of ink")

    merge = ud.tasks.merge(num_rounds=2)
    torn = eqx.tree_at(lambda p: p.task, merge, Torn(cue=0.8, steps=7, passes=20))
    run, console = RunDirectory.create(tmp_path / "run", Config("merge")), Console(file=io.StringIO())
    write_film(run, ud.LSTMAgent(merge, 4, key=KEY), torn, console)
    assert "No film of merge: RuntimeError: out of ink" in console.file.getvalue()
    assert not run.film_file.exists()
    write_film(run, ud.LSTMAgent(merge, 4, key=KEY), merge, console)
    assert run.film_file.exists()
