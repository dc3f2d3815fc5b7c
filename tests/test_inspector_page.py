"""The inspector in a real browser: flips, seats, files and links, by keyboard alone, on a phone and in the dark."""

import dataclasses
import functools
import http.server
import io
import json
import re
import shutil
import threading
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import environments
import undelude as ud
import undelude.gym as ug
from processes import dial
from undelude._inspector.history import History, Round
from undelude._inspector.host_inspection import HostInspection
from undelude._inspector.inspection import MARKED, SEE, Inspection
from undelude._inspector.server import Server
from undelude._inspector.service import Service
from undelude._inspector.start import first_history
from undelude._inspector.view import view

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
# The page of the docs; test_inspector_server.py checks that it is current.
STATIC = (Path(__file__).parents[1] / "docs" / "inspector-live.html").as_uri()
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def serve(process, agents=(), *, seed=None, **rest):
    inspection = Inspection(process, agents, **rest)
    return Server(Service(inspection, first_history(inspection, SEE, seed=seed), task=process.name, actor=SEE))


@pytest.fixture(scope="module")
def bandit_server(bandit):
    server = serve(
        bandit, {"lstm": ud.LSTMAgent(bandit, hidden_size=64, key=jax.random.key(0))}, num_rounds=200, seed=0
    )
    yield server
    server.stop()


@pytest.fixture(scope="module")
def frog_server(frog):
    server = serve(frog)
    yield server
    server.stop()


@pytest.fixture
def visit(browser):
    """Open a page as a new person; afterwards, nothing was logged and nothing was asked of another host."""
    problems, contexts = [], []

    def open_page(url, *, silent=True, **look):
        look.setdefault("viewport", WIDE)
        context = browser.new_context(**look)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        if silent:
            page.on("console", lambda message: problems.append(message.text))
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on(
                "request",
                lambda r: (
                    r.url.startswith((url.split("#")[0].split("?")[0], "data:", "blob:")) or problems.append(r.url)
                ),
            )
        page.goto(url)
        page.wait_for_selector("#main:not([hidden])")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not problems


def headline(page):
    return page.inner_text("#headline span")


def cell(page, row, party):
    """The number of a party in a row of the tables at the cursor."""
    heads = page.locator("#tables table").last.locator("thead th").all_inner_texts()
    return (
        page.locator("#tables table")
        .last.locator("tr", has_text=re.compile(rf"^{row}"))
        .locator("td")
        .nth(heads.index(party))
        .inner_text()
    )


def settled(page, text):
    expect(page.locator("#headline span")).to_have_text(text)


def test_arrows_work_before_anything_is_chosen(visit, bandit_server):
    page = visit(bandit_server.url)
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement === document.body"), "this one scrolls"
    for key in ("ArrowLeft", "ArrowRight"):
        page.keyboard.press(key)
    assert page.evaluate("document.activeElement.closest('#score') !== null")


def test_tab_reaches_the_round_of_the_cursor(visit, bandit_server):
    """The last one at first, then where the cursor was put; of all cells, Tab reaches one."""
    page = visit(bandit_server.url)

    def reached():
        page.focus("#all-do")
        page.keyboard.press("Tab")
        assert page.locator("#score [data-cell][tabindex='0']").count() == 1
        return page.evaluate("[document.activeElement.dataset.cell, Number(document.activeElement.dataset.t)]")

    assert reached() == ["mark", 199]
    page.keyboard.press("ArrowLeft")
    assert reached() == ["mark", 198], "the keys moved the cursor too"
    for _ in range(3):
        page.click("#back")
    assert reached() == ["mark", 196]
    page.click("[data-cell=mark][data-t='3']")
    page.wait_for_selector("[data-cell=mark][data-t='3'].do")
    assert reached() == ["mark", 3], "a flip moves no cursor, but the focus stays where it is"
    page.click("#back")
    assert reached() == ["mark", 196]


def test_section_2_by_keyboard_alone(visit, frog_server):
    """Box 1 is open. The switch undoes the delusion: 1 and .5, in the belief and in the prediction of the prize."""
    page = visit(frog_server.url)
    assert headline(page) == "Deluded."
    assert cell(page, "prize", "exact, as marked") == "1.000"
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('role')") == "switch":
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert "read as see" in page.evaluate("document.activeElement.ariaLabel")
    page.keyboard.press("Space")
    settled(page, "Sober.")
    assert cell(page, "prize", "exact, as marked") == "0.500"
    assert "read as do" in page.evaluate("document.activeElement.ariaLabel"), "the focus stays"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("u")
    settled(page, "Deluded.")
    page.keyboard.press(".")
    page.wait_for_selector("#tables .alarm")
    assert "Impossible for exact see: the outcome of round 1" in page.inner_text("#tables")


def test_numbers_after_200_rounds_are_those_of_the_library(visit, bandit_server):
    page = visit(bandit_server.url)
    assert page.locator("[data-cell=mark]").count() == 200
    for t in range(0, 180, 20):
        page.click(f"[data-cell=mark][data-t='{t}']")
        expect(page.locator(f"[data-cell=mark][data-t='{t}']")).to_have_text("do")
    history = bandit_server._http.service.first
    for t in range(0, 180, 20):
        history = history.flip(t)
    page.locator("[data-cell=observation][data-t='199']").click()
    accounts = bandit_server._http.service.inspection.read(history).accounts
    for party, name in ((MARKED, "exact, as marked"), ("do", "exact do"), ("lstm", "lstm")):
        assert cell(page, "3", name) == f"{accounts[party].actions[-1][2]:.3f}"


def test_three_seats(visit, bandit_server):
    """A person is Nature, then the expert whose answers are labels, then the agent."""
    page = visit(bandit_server.url)
    page.evaluate("document.activeElement.blur()")
    assert page.locator("#new-theta option:checked").inner_text() == "drawn from the prior"
    with page.expect_request("**/begin") as drawn:
        page.click("#again")
    assert drawn.value.post_data_json["theta"] is None
    page.select_option("#new-theta", label="arm 2")
    page.click("#again")
    expect(page.locator("#lead")).to_contain_text("The best arm is 2.")
    expect(page.locator("[data-cell=action]")).to_have_count(0)
    page.select_option("#nature", "me")
    page.click("#step")
    page.wait_for_selector("#ask:not([hidden])")
    assert "You are Nature, in round 1" in page.inner_text("#ask-text")
    page.click("#ask-buttons >> text=It pays.")
    page.wait_for_selector("[data-cell=action][data-t='1']")
    assert page.locator("[data-cell=observation]").all_inner_texts() == ["1", "?"]
    page.click("#ask-buttons >> text=It does not pay.")
    page.wait_for_selector("[data-cell=action][data-t='2']")
    page.select_option("#nature", "")
    page.click("#step")
    expect(page.locator("[data-cell=observation][data-t='2']")).not_to_have_text("?")
    page.select_option("#expert", "me")
    page.click("#ask-buttons >> text='4'")
    page.wait_for_selector("[data-cell=label][data-t='3']")
    assert page.locator("[data-cell=label]").all_inner_texts() == ["", "", "", "4"]
    assert "Counterfactual labels: 1." in page.inner_text("#tables")
    page.select_option("#expert", "")
    page.select_option("#actor", "me")
    page.click("#ask-buttons >> text='5'")
    page.wait_for_selector("[data-cell=action][data-t='4']")
    assert page.locator("[data-cell=mark]").all_inner_texts()[-1] == "do"
    assert page.locator("[data-cell=action]").all_inner_texts()[-1] == "5"


def test_edit_rewind_and_theta(visit, bandit_server):
    page = visit(bandit_server.url)
    page.click("[data-cell=observation][data-t='3']")
    assert page.inner_text("#now-heading") == "After round 4"
    page.click("#rewind")
    expect(page.locator("[data-cell=action]")).to_have_count(4)
    page.locator("#strips canvas").first.click(position={"x": 1, "y": 5})
    assert page.inner_text("#now-heading") == "Before the first action"
    width = page.evaluate("parseFloat(document.getElementById('scroll').style.getPropertyValue('--col'))")
    page.locator("#strips canvas").first.click(position={"x": 0.9 * width, "y": 5})
    assert page.inner_text("#now-heading") == "After action 1, before its outcome", "the right half of a column"
    assert "whole episode as if theta were this one" in page.inner_text("#truth-note")
    page.click("[data-cell=observation][data-t='3']")
    page.select_option("#edit-action", label="2")
    expect(page.locator("[data-cell=action][data-t='3']")).to_have_text("2")
    page.select_option("#edit-observation", label="It pays.")
    expect(page.locator("[data-cell=observation][data-t='3']")).to_have_text("1")
    page.select_option("#theta", label="arm 1")
    expect(page.locator("#lead")).to_contain_text("The best arm is 1.")
    page.click("#all-do")
    settled(page, "Sober.")
    page.click("#back")
    assert page.inner_text("#now-heading") == "After action 4, before its outcome"


def test_headline_counts_an_experts_action_that_is_marked_do(visit):
    """An expert's action marked do is what exact do reads otherwise, and the page names who acted."""
    page = visit(f"{STATIC}?task=bandit")
    page.click("#again")
    page.select_option("#actor", "told")
    page.click("#step")
    page.click("[data-cell=mark][data-t='0']")
    settled(page, "Deluded.")
    expect(page.locator("#lead")).to_contain_text(
        re.compile("The agent has not acted. It reads 1 of the expert.s 1 action")
    )
    expect(page.locator("#lead")).to_contain_text("Read as evidence, it would")


def test_opening_is_shown_and_its_impossibility_named(visit):
    inspection = Inspection(ud.tasks.kuhn())
    history = History((2,), (Round(0, "do", observation=2),), 2)
    server = Server(Service(inspection, history, task="kuhn"))
    try:
        page = visit(server.url)
        assert page.inner_text(".opening") == "2"
        assert "Impossible for expert: the opening" in page.inner_text("#tables")
        page.click(".opening")
        assert page.inner_text("#now-heading") == "Before the first action"
        page.select_option("#edit-opening", "1")
        expect(page.locator(".opening")).to_have_text("1")
        expect(page.locator("#tables")).not_to_contain_text("the opening")
        edited = inspection.read(dataclasses.replace(history, opening=1)).accounts["do"]
        row = page.locator("#tables table").first.locator("tbody tr").first.locator("td").nth(1)
        assert row.inner_text() == f"{edited.belief[0, 0]:.3f}"
    finally:
        server.stop()


def test_recording_of_a_simulator_flips_and_plays_on(visit):
    """Numbers are those of the inspection; what a simulator cannot do is disabled, and the page says why."""
    world = ug.HostWorld(
        environments.Lamp,
        num_rounds=4,
        num_envs=1,
        contexts=[0.1, 0.5, 0.9],
        hide=[1],
        cue=ug.WarmerColder(lambda o, wanted: abs(o[0] - wanted), right=0.8),
        expert=lambda o, wanted: (np.clip(wanted - o[:1], -0.1, 0.1), 0.05),
        reward_observed=False,
        at_end="end",
    )
    inspection = HostInspection(world)
    history = inspection.play(inspection.begin(seed=3), rounds=3, actor=SEE)
    server = Server(Service(inspection, history, actor="do"))
    try:
        page = visit(server.url)
        for name in ("nature", "theta", "edit-action"):
            assert page.is_disabled(f"#{name}")
        assert "cannot choose what its state becomes" in page.inner_text("#truth-note")
        assert page.inner_text("#seen").startswith("Last seen: state")
        page.click("[data-cell=mark][data-t='1']")
        expect(page.locator("[data-cell=mark][data-t='1']")).to_have_text("do")
        belief = inspection.read(history.flip(1)).accounts[MARKED].belief[-1]
        rows = page.locator("#tables table").first.locator("tbody tr").all()
        found = [float(row.locator("td").first.inner_text()) for row in rows]
        np.testing.assert_allclose(found, belief, atol=6e-4)
        expect(page.locator("#densities canvas")).to_have_count(1)
        expect(page.locator("#picture")).to_be_visible()
        page.select_option("#actor", "me")
        page.fill("#ask input", "0.05")
        page.keyboard.press("Enter")
        expect(page.locator("[data-cell=action]")).to_have_count(4)
        assert page.inner_text("[data-cell=action][data-t='3']") == "0.05"
        assert page.is_disabled("#play")
        page.close()
    finally:
        server.stop()


def test_real_numbers_are_edited_and_given_in_fields(visit):
    """Flipped, edited, and given by a person as agent and as Nature; the numbers are those of the inspection."""
    inspection = Inspection(dial(), {"lstm": ud.LSTMAgent(dial(), 4, key=jax.random.key(0))})
    history = inspection.play(inspection.begin(seed=1), rounds=2, actor=SEE)
    view(inspection, inspection.read(history), task=None)  # Compile now.
    server = Server(Service(inspection, history, actor=SEE))
    try:
        page = visit(server.url)
        page.click("[data-cell=mark][data-t='0']")
        expect(page.locator("[data-cell=mark][data-t='0']")).to_have_text("do")
        expect(page.locator("#densities canvas")).to_have_count(1)
        page.click("[data-cell=action][data-t='1']")
        page.fill("#edit-action-numbers input", "1.25")
        page.keyboard.press("Enter")
        expect(page.locator("[data-cell=action][data-t='1']")).to_have_text("1.25")
        edited = history.flip(0).edit(1, action=np.float32(1.25))
        account = inspection.read(edited).accounts[MARKED]
        mean, deviation = (float(x[1, 0]) for x in (account.observations.mean, account.observations.deviation))
        assert cell(page, "mean", "exact, as marked") == f"{mean:.3f} ± {deviation:.3f}"
        kl = inspection.read(edited).divergence("do", "lstm").observations[1]
        assert cell(page, r"KL\(do", "lstm") == f"{kl:.3f}"
        expect(page.locator("#densities figcaption")).to_contain_text(
            "Density of the outcome; the line is what happened"
        )
        page.fill("#edit-observation-numbers input", "")
        page.keyboard.press("Enter")
        assert page.input_value("#edit-observation-numbers input") != "", "what is not a number is not taken"
        page.select_option("#actor", "me")
        page.select_option("#nature", "me")
        page.keyboard.press("Escape")
        page.click("[data-cell=observation][data-t='1']")
        for number in ("-0.5", "2.5"):
            page.fill("#ask input", number)
            page.keyboard.press("Enter")
            expect(page.locator(f"[data-cell]:text-is('{number}')")).to_have_count(1)
        assert page.locator("[data-cell=mark]").all_inner_texts() == ["do", "see", "do"]
    finally:
        server.stop()


def test_person_teaches_a_simulator_that_shows_images(visit):
    """Each round has its image and the label that the person gave; the page tells the context."""
    world = ug.HostWorld(
        lambda: environments.Screen((36, 48, 3)), num_rounds=3, contexts=["to the left", "to the right"],
        reward_observed=False, at_end="end", num_envs=1, expert=ug.KeyboardExpert({"a": 0, "d": 1}),
    )  # fmt: skip
    inspection = HostInspection(world, [ud.GRUAgent(world, 4, key=jax.random.key(0))])
    server = Server(Service(inspection, inspection.begin(seed=1, theta=1), actor="agent"))
    try:
        page = visit(server.url)
        assert "You are the expert, in round 1, and know theta. The context is to the right." in page.inner_text(
            "#ask-text"
        )
        for t, answer in enumerate(("1 (d)", "0 (a)")):
            page.click(f"#ask-buttons >> text='{answer}'")
            expect(page.locator(f"[data-cell=label][data-t='{t}']")).to_have_text(answer[0])
        assert page.locator("[data-cell=seen] img").count() == 2
        sizes = page.eval_on_selector_all("#images img, [data-cell=seen] img", "x => x.map((y) => y.naturalWidth)")
        assert sizes == [48] * 3
        assert "Counterfactual labels: 2." in page.inner_text("#tables")
    finally:
        server.stop()


def test_row_shows_the_last_of_stacked_frames(visit):
    world = ug.HostWorld(
        lambda: environments.Screen((4, 36, 48)), num_rounds=2, contexts=["left", "right"], reward_observed=False,
        at_end="end", num_envs=1, expert=lambda observation, context: 1,
    )  # fmt: skip
    inspection = HostInspection(world, [ud.GRUAgent(world, 4, key=jax.random.key(0))])
    history = inspection.play(inspection.begin(seed=1), rounds=2, actor="agent")
    server = Server(Service(inspection, history, actor="agent"))
    try:
        page = visit(server.url)
        assert page.locator("#images img").evaluate("x => [x.naturalWidth, x.naturalHeight]") == [4 * 48, 36]
        seen = page.locator("[data-cell=seen] img").first
        assert seen.evaluate("x => { const s = getComputedStyle(x); return [s.objectFit, s.objectPosition]; }") == [
            "cover",
            "100% 50%",
        ]
    finally:
        server.stop()


def test_undo_waits_for_the_flip_before_it(visit, frog_server):
    page = visit(frog_server.url)
    page.evaluate(
        """async () => {
          const { attempt } = await import(new URL("app.js", location));
          document.querySelector("[data-cell=mark]").click();
          document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "u", bubbles: true }));
          await attempt(() => {});
        }"""
    )
    assert headline(page) == "Deluded."
    assert page.is_disabled("#undo")


def test_unknown_kl_is_a_gap_in_the_chart(visit, frog_server):
    """It is not drawn as 0."""
    page = visit(frog_server.url)
    drawn = page.evaluate(
        """async () => {
          const { paintChart } = await import(new URL("score.js", location));
          const { page } = await import(new URL("state.js", location)), calls = [];
          const get = (_, name) => (...x) => calls.push(name);
          const context = new Proxy({}, { get, set: () => true });
          const kl = { do: { actions: [0.5, null], observations: [null] } };
          const parties = Object.fromEntries(page.about.parties.map(({ key }) => [key, { kl }]));
          const state = { ...page.state, parties };
          paintChart(context, { about: page.about, state, column: 9, colours: {}, height: 9 });
          return calls;
        }"""
    )
    assert drawn.count("moveTo") == 2
    assert "lineTo" not in drawn


def test_person_may_end_an_utterance_by_token(visit):
    """The second word of a dish and the end are offered where the grammar allows them."""
    menu = ud.tasks.menu(granularity="token")
    server = Server(Service(Inspection(menu), History((1,)), task="menu"))
    try:
        page = visit(server.url)
        page.select_option("#actor", "me")
        page.click("#ask-buttons >> text=fish")
        expect(page.locator("[data-cell=action]")).to_have_count(1)
        expect(page.locator("#ask-buttons button")).to_have_text(["tacos", "soup"])
    finally:
        server.stop()


def test_long_alphabet_shows_the_symbol_that_happened(visit):
    """Each number of a row is the library's; none is filled in."""
    inspection = Inspection(ud.tasks.menu(num_turns=2))
    history = History((0,), (Round(35, "do", observation=0),))
    server = Server(Service(inspection, history, task="menu"))
    try:
        page = visit(server.url)
        page.click("[data-cell=round][data-t='0']")
        row = page.locator("#tables table").last.locator("tr.marked")
        assert row.locator("td").all_inner_texts() == ["0.000"] * 4
        assert row.locator("th").inner_text().endswith("taken")
    finally:
        server.stop()


def test_others_play_and_examples_open(visit, frog_server):
    page = visit(frog_server.url)
    page.click("#step")
    expect(page.locator("[data-cell=observation][data-t='0']")).to_have_text("frog")
    page.click("#compare")
    expect(page.locator("#others tbody tr")).to_have_count(4)
    assert "reward in all" in page.inner_text("#others thead").lower()
    page.click("#others summary")
    assert "frog" in page.inner_text("#others .chats").lower()
    assert "may have had other luck" in page.inner_text("#main")
    page.click("text=Section 2: box 1 is open")
    expect(page.locator("#others tbody tr")).to_have_count(0)
    expect(page.locator("[data-cell=observation][data-t='0']")).to_have_text("?")


def test_episode_is_shared_as_file_link_and_picture(visit, frog_server, tmp_path):
    page = visit(frog_server.url)
    page.click("[data-cell=mark]")
    settled(page, "Sober.")
    with page.expect_download() as saved:
        page.click("#save")
    file = tmp_path / "episode.json"
    saved.value.save_as(file)
    assert json.loads(file.read_text())["rounds"][0]["mark"] == "do"
    with page.expect_download() as drawn:
        page.click("#png")
    drawn.value.save_as(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    page.click("#link")
    page.wait_for_url(re.compile("#."))
    linked = visit(page.url)
    settled(linked, "Sober.")
    other = visit(frog_server.url)
    assert headline(other) == "Deluded.", "another person begins anew"
    other.set_input_files("#file", file)
    settled(other, "Sober.")
    assert headline(page) == "Sober."
    file.write_text('{"format": "undelude-episode-1", "task": "bandit"}')
    other.set_input_files("#file", file)
    other.wait_for_selector("#error:not([hidden])")
    assert "is an episode of bandit" in other.inner_text("#error")
    damaged = visit(f"{frog_server.url}#nonsense")
    damaged.wait_for_selector("#error:not([hidden])")
    assert "damaged" in damaged.inner_text("#error")


# Notes where each text of a canvas is, in its pixels: [text, left, top, right, bottom].
NOTES = """() => {
  globalThis.texts = [];
  const draw = CanvasRenderingContext2D.prototype.fillText;
  CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
    const { width, actualBoundingBoxAscent: up, actualBoundingBoxDescent: down } = this.measureText(text);
    const from = x - width * { left: 0, center: 0.5, right: 1 }[this.textAlign], t = this.getTransform();
    const [a, b] = [[from, y - up], [from + width, y + down]].map(([u, v]) => t.transformPoint(new DOMPoint(u, v)));
    texts.push([text, Math.min(a.x, b.x), Math.min(a.y, b.y), Math.max(a.x, b.x), Math.max(a.y, b.y)]);
    draw.call(this, text, x, y);
  };
}"""


@pytest.mark.parametrize(
    ("label", "task"),
    [
        ("arm {}", "bandit"),
        ("<i>cell 0{}", "a_package_with_a_long_name.and_modules:" + "factory_of_a_process" * 9),
        (
            "the {} of all the cells in a table that has more rows and columns than one can count in a day",
            "bandit " * 40,
        ),
    ],
)
def test_texts_of_the_picture_are_distinct_and_apart(visit, bandit_server, tmp_path, label, task):
    """The rounds have their numbers, actions and outcomes; nothing is printed over something else, or beside it."""
    page = visit(bandit_server.url)
    page.click("[data-cell=observation][data-t='19']")
    page.click("#rewind")
    expect(page.locator("[data-cell=action]")).to_have_count(20)
    labels = [label.format(k) for k in range(5)]
    change = "import(new URL('state.js', location)).then(({ page }) => Object.assign(page.about, { thetas, task }))"
    page.evaluate(f"({{ thetas, task }}) => {change}", {"thetas": labels, "task": task})
    page.evaluate(NOTES)
    with page.expect_download() as drawn:
        page.click("#png")
    drawn.value.save_as(tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        pixels = np.asarray(picture.convert("RGB"), int)
    texts = page.evaluate("texts")
    for i, (text, left, top, right, bottom) in enumerate(texts):
        assert left >= 0, text
        assert top >= 0, text
        assert right <= pixels.shape[1], text
        assert bottom <= pixels.shape[0], text
        for other, x0, y0, x1, y1 in texts[:i]:
            assert not (left < x1 and x0 < right and top < y1 and y0 < bottom), f"{text} is over {other}"
    words = [text for text, *_ in texts]
    first = words.index("exact, as marked") + 1
    assert len({*words[first : first + 5]}) == 5
    if len(label) < 20:
        assert words[first : first + 5] == labels
    shown = {row: page.locator(f"[data-cell={row}]").all_inner_texts() for row in ("round", "action", "observation")}
    for name, row in (("round", "round"), ("action", "action"), ("outcome", "observation")):
        at = words.index(name) + 1
        assert words[at : at + 20] == shown[row]
    # Right of the strips, 20 pixels at a scale of 2 are empty.
    below = int(texts[words.index("exact, as marked")][2])
    assert (pixels[below:, -40:] == pixels[0, 0]).all()
    assert (pixels[below:, -41] != pixels[0, 0]).any()


@pytest.mark.parametrize("served", [True, False])
def test_link_pasted_into_the_open_page_is_opened(visit, frog_server, served):
    """Only the hash changes. A link that is damaged is called so, and one that the page writes loads nothing."""
    page = visit(frog_server.url if served else f"{STATIC}?task=frog")
    page.click("[data-cell=mark]")
    settled(page, "Sober.")
    page.click("#link")
    page.wait_for_url(re.compile("#."))
    link = page.url
    page.click("[data-cell=mark]")
    settled(page, "Deluded.")
    assert "#" not in page.url, "the link is of another episode"
    page.evaluate("link => { location.href = link; }", link)
    settled(page, "Sober.")
    page.click("#undo")
    settled(page, "Deluded.")
    page.evaluate("location.hash = 'abc'")
    expect(page.locator("#error")).to_have_text("The link is damaged: copy it again, in full.")
    settled(page, "Deluded.")
    before = page.evaluate("import(new URL('state.js', location)).then((x) => x.page.past.length)") if served else 0
    page.click("#link")
    expect(page.locator("#shared")).to_contain_text("It holds the whole episode")
    page.wait_for_timeout(200)
    assert not served or before == page.evaluate(
        "import(new URL('state.js', location)).then((x) => x.page.past.length)"
    )


@pytest.mark.parametrize("num_bytes", [50_000, 500_000])
def test_link_of_a_large_episode(visit, frog_server, num_bytes):
    """It opens, or the page says that a file is better."""
    page = visit(frog_server.url)
    page.click("[data-cell=mark]")
    settled(page, "Sober.")
    page.evaluate(
        """async (n) => {
          const { page } = await import(new URL("state.js", location)), random = new Uint8Array(n);
          for (let i = 0; i < n; i += 50000) crypto.getRandomValues(random.subarray(i, i + 50000));
          page.state.episode.other = Array.from(random, (x) => x.toString(16)).join("");
        }""",
        num_bytes,
    )
    page.click("#link")
    if num_bytes > 100_000:
        expect(page.locator("#shared")).to_contain_text("save the episode as a file instead")
        assert "#" not in page.url
    else:
        page.wait_for_url(re.compile("#."))
        assert len(page.url) > num_bytes
        read = "import(new URL('sharing.js', location)).then((x) => x.fromLink()).then((x) => x.other.length)"
        assert page.evaluate(read) > num_bytes


def test_link_without_the_token_is_explained_in_words(browser, frog_server):
    """A reload and a shared episode keep the token of the link."""
    context = browser.new_context(viewport=PHONE)
    try:
        page = context.new_page()
        assert page.goto(frog_server.url.split("?")[0]).status == 403
        expect(page.locator("h1")).to_have_text("This link does not have the token of the inspector.")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.goto(frog_server.link_for_once())
        page.wait_for_selector("#main:not([hidden])")
        assert page.url == frog_server.url
        page.click("[data-cell=mark]")
        settled(page, "Sober.")
        page.click("#link")
        page.wait_for_url(re.compile("#."))
        page.reload()
        settled(page, "Sober.")
    finally:
        context.close()


def test_frame_of_a_notebook_shows_the_page(browser, frog, tmp_path):
    """From a page of another origin and scheme, as in an editor."""
    with ud.inspect(frog) as inspector:
        (tmp_path / "notebook.html").write_text(f"<!DOCTYPE html><title>x</title>{inspector._repr_html_()}")
        context = browser.new_context()
        try:
            page = context.new_page()
            page.goto((tmp_path / "notebook.html").as_uri())
            frame = page.frame_locator("iframe")
            expect(frame.locator("#headline span")).to_have_text("Deluded.")
            frame.locator("[data-cell=mark]").click()
            expect(frame.locator("#headline span")).to_have_text("Sober.")
        finally:
            context.close()


@pytest.mark.parametrize(
    "look", [{"viewport": PHONE}, {"color_scheme": "dark"}, {"viewport": PHONE, "color_scheme": "dark"}]
)
def test_page_fits_and_can_be_read(visit, bandit_server, look):
    """Nothing is wider than the screen, and every text has a contrast of at least 4.5."""
    page = visit(bandit_server.url, **look)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    low = page.evaluate(
        """() => {
          const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
          const light = ([r, g, b]) => [r, g, b].map((x) => x / 255)
            .map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4))
            .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
          const behind = (element) => {
            for (; element; element = element.parentElement) {
              const colour = rgb(getComputedStyle(element).backgroundColor);
              if (colour.length === 3 || colour[3] === 1) return colour;
            }
            return [255, 255, 255];
          };
          return [...document.querySelectorAll("body *")].filter((x) => !x.disabled && !x.closest("[hidden]") &&
            [...x.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())).filter((x) => {
              const [a, b] = [light(rgb(getComputedStyle(x).color)), light(behind(x))].sort((x, y) => y - x);
              return (a + 0.05) / (b + 0.05) < 4.5;
            }).map((x) => x.outerHTML.slice(0, 80));
        }"""
    )
    assert not low


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_table_that_goes_on_has_a_shadow_at_that_edge(visit, bandit_server, scheme):
    page = visit(bandit_server.url, viewport=PHONE, color_scheme=scheme)
    box = page.locator("#tables > .scroll").first
    box.evaluate("x => { x.querySelector('table').style.visibility = 'hidden'; }")
    assert box.evaluate("x => x.scrollWidth > x.clientWidth + 20")

    def edges():
        with Image.open(io.BytesIO(box.screenshot())) as picture:
            pixels = np.asarray(picture.convert("L"), int)[10]
        differs = abs(pixels - pixels[len(pixels) // 2]) > 10
        return [bool(differs[:4].any()), bool(differs[-4:].any())]

    assert edges() == [False, True]
    box.evaluate("x => { x.scrollLeft = 10000; }")
    assert edges() == [True, False]
    page.set_viewport_size(WIDE)
    for part in range(5):
        box.evaluate("(x, part) => { x.style.width = `${600 + part / 5}px`; }", part)
        assert edges() == [False, False], "all of it is in sight"


@pytest.mark.parametrize("name", ["frog", "bandit"])
def test_page_without_a_server_computes_what_the_library_does(visit, name):
    """Beliefs, predictions, KL, losses and rewards of random histories, impossible ones included."""
    process = ud.tasks.prize_or_frog(num_rounds=2) if name == "frog" else ud.tasks.bandit()
    inspection, rng = Inspection(process), np.random.default_rng(0)
    A, O = len(inspection.actions), len(inspection.observations)
    page = visit(f"{STATIC}?task={name}")
    for i in range(20):
        n = int(rng.integers(process.num_rounds + 1))
        rounds = [
            Round(int(rng.integers(A)), str(rng.choice(["do", "see"])), str(rng.choice(["agent", "expert"])),
                  None if t == n - 1 and i % 2 else int(rng.integers(O)), int(rng.integers(A)))
            for t in range(n)
        ]  # fmt: skip
        history = History((int(rng.integers(process.num_thetas)),), tuple(rounds), seed=i)
        expected = view(inspection, inspection.read(history), task=name)
        found = page.evaluate("episode => undelude.read({ episode })", expected["episode"])
        assert_close(found, expected)


def assert_close(found, expected, where="state"):
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for name in expected:
            assert_close(found[name], expected[name], f"{where}.{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for i, (x, y) in enumerate(zip(found, expected, strict=True)):
            assert_close(x, y, f"{where}[{i}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=3e-6), where
    else:
        assert found == expected, where


def test_page_without_a_server_drops_no_field(visit):
    page = visit(f"{STATIC}?task=bandit")
    good = page.evaluate("undelude.describe().first")
    read = """(episode) => { try { undelude.read({ episode }); return ""; } catch (error) { return error.message; } }"""
    assert page.evaluate(read, good) == ""
    row = good["rounds"][0]
    for change, named in (
        ({"seed": None}, "its seed"),
        ({"opening": 1}, "its opening"),
        ({"more": 1}, "more is not a field"),
        (
            {"rounds": [row] * 40},
            "has 40 rounds, and this page takes 20 at most: run undelude inspect bandit --num-rounds",
        ),
        ({"rounds": [row | {"reward": 77}]}, "rounds[0].reward is not a field of an episode of this page"),
        ({"rounds": [{x: y for x, y in row.items() if x != "by"}]}, "rounds[0].by is missing"),
    ):
        assert named in page.evaluate(read, good | change)
    for name in good:
        assert page.evaluate(read, {x: y for x, y in good.items() if x != name})


def test_page_without_a_server_plays(visit):
    """The same luck returns after a rewind, and the link opens the same episode."""
    page = visit(f"{STATIC}?task=bandit")
    page.click("#again")
    expect(page.locator("[data-cell=action]")).to_have_count(0)
    page.click("#play")
    expect(page.locator("[data-cell=action]")).to_have_count(20)
    whole = page.locator("#score").inner_text()
    page.click("[data-cell=observation][data-t='4']")
    page.click("#rewind")
    expect(page.locator("[data-cell=action]")).to_have_count(5)
    page.click("#play")
    expect(page.locator("[data-cell=action]")).to_have_count(20)
    assert page.locator("#score").inner_text() == whole
    page.click("#link")
    page.wait_for_url("**/*#*")
    other = visit(page.url)
    expect(other.locator("#headline")).to_have_text(page.inner_text("#headline").replace("\n", " "))
    assert other.locator("#score").inner_text() == whole


def test_command_for_a_saved_episode_names_a_function_of_the_user(visit, frog, frog_server):
    """A task of the library is in the file; a function is called only if it is named."""
    inspection = Inspection(frog)
    own = Server(Service(inspection, first_history(inspection, SEE), task="plumber:leak", actor=SEE))
    try:
        for server, command in ((frog_server, "json"), (own, "json --task plumber:leak")):
            page = visit(server.url)
            page.click("#link")
            expect(page.locator("#shared")).to_have_text(re.compile(rf"-episode\.{command}\.$"))
    finally:
        own.stop()


def test_strangers_page_reaches_nothing(browser, frog_server, tmp_path):
    """A page of another origin gets no answer, whether it asks for permission or not."""
    (tmp_path / "index.html").write_text("<!DOCTYPE html><title>x</title>")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.log_message = lambda *args: None
    stranger = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=stranger.serve_forever, daemon=True).start()
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{stranger.server_address[1]}/")
        for headers in ("{}", "{'X-Undelude-Token': ''}"):
            answer = page.evaluate(
                f"""url => fetch(new URL("api/describe", url), {{method: "POST", body: "{{}}", headers: {headers}}})
                .then((x) => x.text(), () => "refused")""",
                frog_server.url,
            )
            assert answer == "refused"
        assert page.evaluate(
            """url => new Promise((resolve) => {
              const frame = document.createElement("iframe");
              frame.src = url;
              frame.onload = () => { try { resolve(frame.contentDocument.title); } catch { resolve("closed"); } };
              document.body.append(frame);
            })""",
            frog_server.url,
        ) in ("closed", "")
    finally:
        context.close()
        stranger.shutdown()
        stranger.server_close()
