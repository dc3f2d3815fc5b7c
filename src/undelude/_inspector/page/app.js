// The inspector: state of the page, requests, controls and keys. The history lives here; the server only answers.
import { clearDensities, drawDensities } from "./densities.js";
import { editNumbers, numbersForm } from "./numbers.js";
import { draw } from "./score.js";
import { showHeadline, showLogs, showOthers, showTables, showWho } from "./tables.js";
import { connectSharing, fromLink } from "./sharing.js";
import { $, adopt, length, offeredAt, page, request } from "./state.js";

// Do one thing at a time; show an error on the page.
let queue = Promise.resolve();
export function attempt(action) {
  queue = queue.then(action).then(() => ($("error").hidden = true), (error) => {
    $("error").textContent = error.message;
    $("error").hidden = false;
  });
  return queue;
}

// Ask the server about a history, and show the answer. `point` is the cursor afterwards, by default as it was.
export async function change(name, body, point = null) {
  const state = await request(name, body);
  if (page.state) page.past.push([page.state, page.point]);
  show(state, point);
}

// Change marks alone: what the parties that read no marks say, and all that happened, stays as it is.
async function mark(change) {
  const { state, point } = page, { episode } = edited(change), { parties } = await request("marks", { episode });
  page.past.push([state, point]);
  show({ ...state, episode, parties: { ...state.parties, ...parties } });
}

export function show(state, point = null) {
  adopt(state);
  page.point = Math.min(point ?? page.point, length());
  history.replaceState(null, "", `${location.pathname}${location.search}`);
  $("others").replaceChildren();
  refresh();
}

export function refresh() {
  draw(page, { flip, move });
  showHeadline(page);
  showTables(page);
  showControls();
  // Drawings wait until the person does: the server answers one request after the other.
  clearTimeout(drawing);
  drawing = setTimeout(() => {
    if (page.about.drawing) showPicture();
    if (page.about.numbers || page.about.outcome_numbers) showDensities();
  }, PAUSE);
}

// Milliseconds.
const PAUSE = 120;
let drawing = null;

// Draw the densities of the next action at the cursor; of several requests, the last counts.
let asked = 0;
async function showDensities() {
  const mine = ++asked, { state, point } = page;
  const outcome = point % 2 === 1, round = Math.floor(point / 2), about = outcome ? page.about.outcome_numbers : page.about.numbers;
  const found = about ? await request("densities", { episode: state.episode, round, outcome }).catch(() => null) : null;
  if (mine !== asked) return;
  if (found) drawDensities(page, found, round, outcome);
  else clearDensities();
}

// Draw the world at the cursor; of several requests, the last counts.
let pictures = 0;
async function showPicture() {
  const mine = ++pictures, episode = structuredClone(page.state.episode);
  truncated(episode);
  const found = await request("picture", { episode }).catch(({ message }) => ({ picture: null, message }));
  if (mine !== pictures) return;
  $("picture").hidden = !found.picture;
  if (found.picture) $("picture").src = found.picture;
  $("no-picture").hidden = !found.message;
  $("no-picture").textContent = found.message ? `No picture: ${found.message}` : "";
  $("picture").alt = `The world as the task draws it, ${$("now-heading").textContent.toLowerCase()}, with the belief as marked.`;
}

function edited(change) {
  const episode = structuredClone(page.state.episode);
  change(episode);
  return { episode };
}

export const flip = (t) =>
  attempt(() => mark(({ rounds }) => { rounds[t].mark = rounds[t].mark === "do" ? "see" : "do"; }));

export function move(point) {
  page.point = Math.max(0, Math.min(point, length()));
  refresh();
}

const markAll = (all) => attempt(() => mark(({ rounds }) => rounds.forEach((round) => { round.mark = all; })));

function edit(name, value) {
  const t = editedRound(), { symbol } = page.about;
  attempt(() => change("read", edited(({ rounds }) => {
    // Of a recorded observation, the symbol alone may be edited.
    if (name === "observation" && symbol) rounds[t].observation[symbol] = value;
    else rounds[t][name] = value;
  })));
}

const editOpening = (value) => attempt(() => change("read", edited((episode) => { episode.opening = value; })));

// The round whose symbols the selects show: that of the last symbol before the cursor.
const editedRound = () => Math.ceil(page.point / 2) - 1;

// Forget all symbols after the cursor.
function truncated(episode) {
  const acted = page.point % 2;
  episode.rounds = episode.rounds.slice(0, Math.ceil(page.point / 2));
  if (acted) {
    const open = episode.rounds.at(-1);
    open.observation = null;
    // Of a recording.
    delete open.reward;
    delete open.ended;
  }
  if (page.about.theta_changes) episode.theta = episode.theta.slice(0, Math.floor(page.point / 2) + 1);
}

const rewind = () => attempt(() => change("read", edited(truncated)));

// A seat of the person, or of a party.
const seats = () => ({ actor: $("actor").value, nature: $("nature").value, expert: $("expert").value });
const isOpen = () => length() % 2 === 1;

// Go on by one symbol, or to the end. What a person decides is asked by showAsk instead.
async function step() {
  if (page.point < length()) return move(page.point + 1);
  if (page.state.ended) return;
  const { actor, nature, expert } = seats();
  if (isOpen() ? nature === "me" : actor === "me" || expert === "me") return $("ask-buttons").querySelector("input, button")?.focus();
  await attempt(() => change("play", {
    episode: page.state.episode, rounds: isOpen() ? 0 : 1, actor: isOpen() ? "marked" : actor, observe: false,
    label: expert === "label",
  }, length() + 1));
}

async function playOn() {
  const { actor, nature, expert } = seats();
  if (actor === "me" || nature === "me" || expert === "me") return step();
  await attempt(() => change("play", {
    episode: page.state.episode, rounds: page.about.rounds, actor, label: expert === "label",
  }, Infinity));
}

const back = () => move(page.point - 1);

const newEpisode = () => attempt(() => change("begin", {
  seed: Math.floor(Math.random() * 2 ** 31), theta: $("new-theta").value === "" ? null : Number($("new-theta").value),
}, 0));

const compare = () => attempt(async () => showOthers(page, await request("compare", { episode: page.state.episode })));

const undo = () => attempt(() => {
  const last = page.past.pop();
  if (last) show(...last);
});

// Ask the person, if it is their turn at the end of the history.
function showAsk() {
  const { actor, nature, expert } = seats();
  const { about, state, point } = page;
  const n = state.rounds.length, buttons = [];
  let text = "", asks = null;
  if (!state.ended && point === length()) {
    if (isOpen() && nature === "me") {
      text = `You are ${about.words.role}, in round ${n}. The agent ${about.words.acts} ${about.actions[state.rounds[n - 1][0]].text}. ${about.question}`;
      if (about.outcome_numbers) asks = [about.outcome_numbers, give];
      else about.observations.forEach(({ text, value }) => buttons.push([text, () => give(value)]));
    } else if (!isOpen() && expert === "me") {
      const truth = about.words.theta_is.replace("{}", about.thetas[state.theta.at(-1)]);
      text = `You are the expert, in round ${n + 1}, and know theta. ${truth} What would you do? The agent acts by itself; your answer is a counterfactual label.`;
      if (about.numbers) asks = [about.numbers, teach];
      else offeredAt(point).forEach((i) => buttons.push([about.actions[i].text, () => teach(about.actions[i].value)]));
    } else if (!isOpen() && actor === "me") {
      text = `You are the agent, in round ${n + 1}. What do you do?`;
      if (about.numbers) asks = [about.numbers, act];
      else offeredAt(point).forEach((i) => buttons.push([about.actions[i].text, () => act(about.actions[i].value)]));
    }
  }
  const had = $("ask").contains(document.activeElement);
  $("ask").hidden = text === "";
  $("ask-text").textContent = text;
  $("ask-buttons").replaceChildren(...buttons.map(([label, action]) => {
    const button = document.createElement("button");
    button.textContent = label;
    button.addEventListener("click", action);
    return button;
  }));
  if (asks) $("ask-buttons").append(numbersForm(...asks));
  if (had) ($("ask-buttons").querySelector("input, button") ?? $("step")).focus();
}

// The person is Nature; if nobody else must be asked, the agent then acts.
const give = (value) => attempt(async () => {
  await change("read", edited((episode) => {
    episode.rounds.at(-1).observation = value;
    if (page.about.theta_changes) episode.theta.push(episode.theta.at(-1));
  }), length() + 1);
  const { actor, expert } = seats(), { episode, ended } = page.state;
  if (ended || actor === "me" || expert === "me") return;
  await change("play", { episode, rounds: 1, actor, observe: false, label: expert === "label" }, length() + 1);
});

// The person is the agent, whose actions are interventions.
const act = (action) => attempt(() => {
  const episode = structuredClone(page.state.episode);
  episode.rounds.push({ action, mark: "do", by: "agent", observation: null, expert_action: null });
  return $("nature").value === "me"
    ? change("read", { episode }, length() + 1)
    : change("play", { episode, rounds: 0, actor: "marked" }, length() + 2);
});

// The person is the expert: the agent acts, and the answer is a label.
const teach = (label) => attempt(async () => {
  const { actor, nature } = seats();
  if (actor === "me") throw new Error("You cannot be the expert and the agent at once: give one of the seats away.");
  const { episode } = await request("play", {
    episode: page.state.episode, rounds: 1, actor, observe: nature !== "me",
  });
  episode.rounds.at(-1).expert_action = label;
  await change("read", { episode }, Infinity);
});

// Fill a select, unless it has these entries already: making them takes long.
const filled = new WeakMap();
function options(select, entries, value) {
  const key = JSON.stringify(entries);
  if (filled.get(select) !== key) fillSelect(select, entries);
  filled.set(select, key);
  select.value = value;
}

function fillSelect(select, entries) {
  select.replaceChildren(...entries.map(([key, label]) => new Option(label, key)));
}

function showControls() {
  const { about, state, point } = page;
  const end = point === length();
  $("back").disabled = point === 0;
  $("step").disabled = end && state.ended;
  $("play").disabled = state.ended;
  $("rewind").disabled = end;
  $("undo").disabled = page.past.length === 0;
  $("theta").value = String(state.theta.at(-1));
  const t = editedRound();
  $("edit").hidden = t < 0;
  if (t >= 0) {
    const [action, observation, label] = state.rounds[t];
    const round = state.episode.rounds[t];
    $("edit-round").textContent = `Round ${t + 1}:`;
    const choices = (chosen) => [...new Set([...offeredAt(2 * t), chosen])].sort((x, y) => x - y).map((i) => [i, about.actions[i].text]);
    options($("edit-action"), choices(action), action);
    $("edit-by").value = round.by;
    const open = observation === null;
    const outcomes = about.observations.map(({ text, label }, i) => [i, text || label]);
    options($("edit-observation"), open ? [["", "not yet known"], ...outcomes] : outcomes, open ? "" : observation);
    $("edit-observation").disabled = open;
    if (label !== null) options($("edit-label"), choices(label), label);
    const given = about.cannot ? {} : { action: about.numbers, observation: about.outcome_numbers };
    editNumbers("edit-action", "action", given.action, round.action, (x) => edit("action", x));
    editNumbers("edit-observation", "outcome", open ? null : given.observation, round.observation ?? "", (x) => edit("observation", x));
    editNumbers("edit-label", "expert’s answer", about.numbers, round.expert_action, (x) => edit("expert_action", x));
    if (about.cannot) forbid(open);
  }
  showOpenings(t);
  showAsk();
}

// Before the first action, offer the openings that exact inference allows, and the one that happened.
function showOpenings(t) {
  const { about, state } = page;
  $("edit-first").hidden = t >= 0 || state.opening === null;
  if ($("edit-first").hidden) return;
  editNumbers("edit-opening", "opening", about.outcome_numbers, state.episode.opening, editOpening);
  if (about.outcome_numbers) return;
  const row = state.parties.marked.opening, isCut = Array.isArray(row[0]);
  const places = about.observations.map((_, i) => i).filter((i) => isCut || row[i] > 0 || i === state.opening);
  options($("edit-opening"), places.map((i) => [i, about.observations[i].text || about.observations[i].label]), state.opening);
}

// A simulator cannot be rewound: disable what would need that; the page says why.
function forbid(isOpen) {
  const { cannot, symbol } = page.about;
  const disabled = { "edit-action": cannot.action, "edit-observation": symbol ? "" : cannot.observation };
  for (const [id, why] of Object.entries(disabled)) {
    $(id).disabled = why !== "" || (id === "edit-observation" && isOpen);
    $(id).title = why;
  }
}

function connect() {
  const { about } = page;
  $("task").textContent = about.task;
  document.title = `${about.task} – undelude inspector`;
  options($("actor"), [...about.actors, ["me", "me"]], about.actor);
  const thetas = about.theta_names.map((name, k) => [k, name]);
  options($("theta"), thetas, page.state.theta.at(-1));
  options($("new-theta"), [["", "drawn from the prior"], ...thetas], "");
  $("truth-note").textContent = about.theta_changes
    ? "“Truth” fixes theta after the last outcome. The symbols of the past stay, and so does its theta."
    : "“Truth” reads the whole episode as if theta were this one: the symbols of the past stay, but its rewards and the expert’s predictions are those of this theta.";
  if (about.cannot) {
    for (const id of ["nature", "theta"]) Object.assign($(id), { disabled: true, title: about.cannot[id] });
    const edits = about.symbol ? ` The ${about.symbol} can be edited: it changes no state.` : "";
    $("truth-note").textContent = `A recording of a simulator. ${about.cannot.nature} ${about.cannot.theta} What it showed stays as it was.${edits}`;
  }
  if (about.asks_person) {
    options($("expert"), [["", "not at all"], ["me", "me, in each round"]], "me");
    $("expert").title = "The expert of this simulator is a person.";
  }
  for (const id of ["actor", "nature", "expert"]) $(id).addEventListener("change", refresh);
  $("theta").addEventListener("change", () => attempt(() => change("read", edited((episode) => {
    const theta = Number($("theta").value);
    if (about.theta_changes) episode.theta[episode.theta.length - 1] = theta;
    else episode.theta = theta;
  }))));
  const value = (select, symbols) => symbols[Number(select.value)].value;
  $("edit-action").addEventListener("change", (e) => edit("action", value(e.target, about.actions)));
  $("edit-by").addEventListener("change", (e) => edit("by", e.target.value));
  $("edit-observation").addEventListener("change", (e) => edit("observation", value(e.target, about.observations)));
  $("edit-label").addEventListener("change", (e) => edit("expert_action", value(e.target, about.actions)));
  $("edit-opening").addEventListener("change", (e) => editOpening(value(e.target, about.observations)));
  const buttons = {
    back, step, play: playOn, rewind, undo, compare, again: newEpisode,
    "all-see": () => markAll("see"), "all-do": () => markAll("do"),
  };
  for (const [id, action] of Object.entries(buttons)) $(id).addEventListener("click", action);
  $("examples").replaceChildren(...Object.entries(about.examples).map(([name, episode]) => {
    const button = document.createElement("button");
    button.textContent = name;
    button.addEventListener("click", () => attempt(() => change("read", { episode }, Infinity)));
    return button;
  }));
  const keys = { ",": back, ".": step, p: playOn, r: rewind, u: undo, n: newEpisode };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select, input")) return;
    keys[event.key.toLowerCase()]?.();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", refresh);
  connectSharing(change, attempt);
  showWho(page);
  showLogs(page);
}

await attempt(async () => {
  const { state, ...about } = await request("describe");
  page.about = about;
  adopt(state);
  page.point = length();
  connect();
  $("main").hidden = false;
  refresh();
});
const openLink = () => attempt(async () => {
  const episode = await fromLink();
  if (episode) await change("read", { episode }, Infinity);
});
openLink();
// Another link in the same tab changes the hash alone; what the page writes there itself causes no such event.
addEventListener("hashchange", openLink);
if ($("main").hidden) $("headline").textContent = "The inspector has not started.";
