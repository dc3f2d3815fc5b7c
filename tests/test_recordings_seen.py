"""The inspector on simulators whose observations are images, and on those whose expert is a person."""

import base64
import io
import json

import jax
import numpy as np
import pytest
from PIL import Image

import environments
import undelude as ud
import undelude.gym as ug
from undelude._inspector import view
from undelude._inspector.host_inspection import HostInspection
from undelude._inspector.images import HEAD, pixels_of, png_of
from undelude._inspector.service import Service
from undelude._inspector.start import begin_with


def screen(shape=(36, 48, 3), **options):
    given = {"expert": ug.KeyboardExpert({"a": 0, "d": 1}, input=io.StringIO()), "num_envs": 1} | options
    return ug.HostWorld(
        lambda: environments.Screen(shape), num_rounds=4, contexts=["to the left", "to the right"],
        reward_observed=False, at_end="end", **given,
    )  # fmt: skip


@pytest.fixture(scope="module")
def in_screen():
    world = screen()
    return HostInspection(world, [ud.GRUAgent(world, 4, key=jax.random.key(0))])


@pytest.fixture(scope="module")
def recording(in_screen):
    return in_screen.play(in_screen.begin(seed=1), rounds=3, actor="agent")


def test_images_are_those_of_the_simulator(in_screen, recording):
    """Each PNG of a saved episode holds the pixels that the environment shows after the recorded actions."""
    env = environments.Screen((36, 48, 3))
    seed = int(environments.Screen.seeds[-1])
    shown = [env.reset(seed=seed)[0].copy(), *(env.step(int(r.action))[0].copy() for r in recording.rounds)]
    stored = json.loads(json.dumps(in_screen.to_json(recording)))
    pngs = [stored["opening"], *(r["observation"] for r in stored["rounds"])]
    for png, pixels in zip(pngs, shown, strict=True):
        with Image.open(io.BytesIO(base64.b64decode(png.removeprefix(HEAD)))) as image:
            np.testing.assert_array_equal(np.asarray(image), pixels)
    again = in_screen.from_json(stored)
    np.testing.assert_array_equal(again.rounds[-1].observation, recording.rounds[-1].observation)
    assert again.opening.dtype == np.float32
    about = Service(in_screen, recording, actor="agent").answer("describe", {})
    assert about["images"] == [""]
    assert about["state"]["seen"] == [""] * 4


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("data:image/png;base64,AAAA", "must be a PNG in a data URL"),
        ("iVBORw0KGgo=", "must be a PNG in a data URL: it begins with"),
        (png_of(np.zeros((36, 47, 3))), r"must be an image of shape \[36, 48, 3\], not \[36, 47, 3\]"),
        (png_of(np.zeros((36, 48))), r"must be an image of shape \[36, 48, 3\]"),
        (3, "must be numbers of shape"),
        ([[300.0] * 48] * 36, "must be numbers of shape"),
    ],
)
def test_damaged_image_is_refused(in_screen, recording, wrong, named):
    with pytest.raises(ValueError, match=f"opening {named}"):
        in_screen.from_json(in_screen.to_json(recording) | {"opening": wrong})


def test_only_bytes_of_a_picture_are_an_image():
    """Channels and stacked frames are. Many frames, two rows and real numbers are not, and many numbers are refused."""
    for shape in ((36, 48), (36, 48, 1), (4, 36, 48), (2, 36, 48, 3), (4, 84, 84)):
        world = screen(shape)
        inspection = HostInspection(world, [ud.GRUAgent(world, 4, key=jax.random.key(0))])
        history = inspection.begin(seed=0)
        again = inspection.from_json(inspection.to_json(history))
        np.testing.assert_array_equal(again.opening, history.opening)
    for shape in ((17, 36, 48), (2, 600)):
        world = screen(shape)
        with pytest.raises(TypeError, match="at most: the page holds the whole episode"):
            HostInspection(world, [ud.GRUAgent(world, 4, key=jax.random.key(0))])
    with pytest.raises(ValueError, match="not whole, from 0 to 255"):
        png_of(np.full((9, 9), 0.5))


def test_frames_of_a_stack_stand_side_by_side():
    for shape in ((4, 9, 12), (2, 9, 12, 3)):
        frames = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
        png = png_of(frames)
        with Image.open(io.BytesIO(base64.b64decode(png.removeprefix(HEAD)))) as image:
            np.testing.assert_array_equal(np.asarray(image), np.concatenate(frames, axis=1))
        np.testing.assert_array_equal(pixels_of(png, shape, "it"), frames)


def test_more_rounds_than_a_lifetime_has_are_refused(in_screen):
    with pytest.raises(ValueError, match=r"num_rounds=9, but a lifetime of .* has 4 rounds"):
        HostInspection(in_screen.world, [in_screen.agents["agent"]], num_rounds=9)


def test_person_is_asked_by_the_page_and_never_by_the_terminal(in_screen):
    """The page begins with no round; an answer is a label, whose loss is -log of the agent's own probability."""
    person, agent = in_screen.world.expert, in_screen.agents["agent"]
    history, _ = begin_with(in_screen, seed=1)
    assert len(history) == 0
    service = Service(in_screen, history, actor="agent")
    about = service.answer("describe", {})
    assert about["asks_person"]
    assert [name for name, _ in about["actors"]] == ["agent"]
    assert about["thetas"] == ["to the left", "to the right"]
    assert [x["text"] for x in about["actions"]] == ["0 (a)", "1 (d)"]
    episode = about["state"]["episode"]
    for label in (0, 1):
        episode = service.answer("play", {"episode": episode, "rounds": 1, "actor": "agent"})["episode"]
        episode["rounds"][-1]["expert_action"] = label
    state = service.answer("read", {"episode": episode})
    assert [label for _, _, label in state["rounds"]] == [0, 1]
    m = agent.g_O(in_screen.from_json(episode).opening, agent.init(num_rounds=4))
    assert state["parties"]["agent"]["loss"][0] == pytest.approx(float(-agent.f_A(m).log_probs[0]), abs=1e-5)
    for request in ({"label": True}, {"actor": "told"}):
        with pytest.raises(ValueError, match=r"is a person|no party .told."):
            service.answer("play", {"episode": episode, "rounds": 1, "actor": "agent"} | request)
    assert view.compare(in_screen, in_screen.from_json(episode)).keys() == {"", "agent"}
    assert person.num_asked == 0
