// The episode as a score: a column for each round, rows for its symbols, and below them a strip for each belief.
import { $, imageIn, look, page } from "./state.js";

// Pixels: most of a strip's height, and the height of a row of a short alphabet and of the chart.
const TALL = 156, ROW = 13, CHART = 72;
// Most thetas that are all shown; of more, so many of those that are believed in most.
const ALL = 24, MOST = 12;
const ROWS = ["round", "action", "mark", "observation", "seen", "label"];
const NAMES = { round: "round", action: "action", mark: "read as", observation: "outcome", seen: "seen", label: "expert’s answer" };
// Images that have a row of their own; of longer episodes, the cursor shows one at a time.
const MOST_IMAGES = 200;
// The cell that Tab reaches, as the name of its row and its round.
const focus = { row: "mark", t: 0 };
let handlers = null;
// The description that each cell shows.
const shown = new WeakMap();

export function draw({ about, state, point }, given) {
  if (!handlers) connectScore(given);
  const n = state.rounds.length, hasLabels = state.rounds.some(([, , label]) => label !== null);
  const hasImages = about.images?.length > 0 && n <= MOST_IMAGES;
  // Tab reaches the round of the cursor; while the focus is among the cells, the keys move it.
  if (!$("score").contains(document.activeElement)) focus.t = Math.ceil(point / 2) - 1;
  focus.t = Math.max(0, Math.min(focus.t, n - 1));
  ROWS.forEach(rowOf);
  const longest = Math.max(...about.thetas.map((label) => label.length));
  document.documentElement.style.setProperty("--names", `${Math.min(6, 0.6 + 0.4 * longest)}rem`);
  setWidth(about, state);
  for (const name of ROWS) {
    const row = rowOf(name);
    row.hidden = (name === "label" && !hasLabels) || (name === "seen" && !hasImages);
    if (name === "seen" && !hasImages) continue;
    const cells = row.lastElementChild;
    while (cells.children.length > n) cells.lastElementChild.remove();
    while (cells.children.length < n) cells.append(cell(name, cells.children.length));
    [...cells.children].forEach((box, t) => fill(box.firstElementChild, name, t, about, state));
  }
  showOpening(about, state);
  const now = $("score").querySelector(".at");
  now?.classList.remove("at");
  if (point > 0) rowOf("round").lastElementChild.children[Math.ceil(point / 2) - 1].classList.add("at");
  drawStrips(about, state, point);
  keepInView(point);
}

function rowOf(name) {
  let row = $("score").querySelector(`[data-row=${name}]`);
  if (row) return row;
  row = document.createElement("div");
  row.setAttribute("role", "row");
  row.dataset.row = name;
  row.className = "row";
  row.innerHTML = `<span class="name" role="rowheader">${NAMES[name]}</span><span class="cells" role="presentation"></span>`;
  $("score").append(row);
  return row;
}

// Show O_0 before the outcomes.
function showOpening(about, state) {
  if (state.opening === null) return;
  const head = rowOf("observation").firstElementChild, box = head.querySelector(".opening") ?? document.createElement("button");
  const { label, text } = about.observations[state.opening];
  box.className = "opening";
  box.textContent = label;
  box.title = `Opening, before round 1: ${text || label}`;
  box.ariaLabel = `${box.title}. Go there.`;
  box.onclick = () => handlers.move(0);
  head.append(box);
}

function cell(name, t) {
  const box = document.createElement("span");
  box.setAttribute("role", "gridcell");
  const button = document.createElement("button");
  button.dataset.cell = name;
  button.dataset.t = t;
  button.tabIndex = -1;
  if (name === "mark") button.setAttribute("role", "switch");
  box.append(button);
  return box;
}

// Show a symbol or a mark; a cell that shows it already is left alone, since touching all cells takes long.
function fill(button, name, t, about, state) {
  const [a, o, label] = state.rounds[t], round = state.episode.rounds[t], place = `Round ${t + 1}, `;
  const action = about.actions[a], outcome = o === null ? null : about.observations[o];
  const [text, description, kind] = {
    round: () => [t + 1, `Before round ${t + 1}`, ""],
    action: () => [action.label, `${place}action ${action.text}${round.by === "expert" ? ", by the expert" : ""}`, round.by],
    mark: () => [round.mark, `${place}action ${action.text}: read as ${round.mark === "do" ? "do, an intervention" : "see, evidence"}`, `switch ${round.mark}`],
    observation: () => [outcome ? outcome.label : "?", `${place}outcome ${outcome ? outcome.text || outcome.label : "not yet known"}`, ""],
    seen: () => ["", imageIn(about, round.observation) ?? "", ""],
    label: () => (label === null ? ["", `${place}the expert was not asked`, ""] : [about.actions[label].label, `${place}the expert would have done ${about.actions[label].text}`, ""]),
  }[name]();
  const tabIndex = name === focus.row && t === focus.t ? 0 : -1;
  if (button.tabIndex !== tabIndex) button.tabIndex = tabIndex;
  if (shown.get(button) === description) return;
  shown.set(button, description);
  button.textContent = text;
  button.className = kind;
  button.setAttribute("aria-label", name === "seen" ? `${place}what the agent saw` : description);
  if (name === "seen" && description) {
    const className = about.stacked.includes(about.images[0]) ? "stacked" : "";
    button.append(Object.assign(document.createElement("img"), { src: description, alt: "", className }));
  }
  if (name === "mark") button.setAttribute("aria-checked", String(round.mark === "do"));
}

// A width in which the labels of this episode have room, and wider if the page has.
function setWidth(about, state) {
  const words = state.rounds.flatMap(([a, o]) => [about.actions[a].label, o === null ? "?" : about.observations[o].label]);
  const longest = Math.max(4, ...words.flatMap((x) => x.split(" ")).map((x) => x.length));
  const least = Math.min(9 * longest + 6, 120), room = $("scroll").clientWidth - $("score").querySelector(".name").offsetWidth;
  const even = Math.floor(room / (state.rounds.length + 1));
  $("scroll").style.setProperty("--col", `${Math.max(least, Math.min(even, 2 * least))}px`);
}

const column = () => parseFloat($("scroll").style.getPropertyValue("--col"));

// The cursor after the symbol of a cell.
const pointOf = (name, t) => 2 * t + { round: 0, action: 1, mark: 1, observation: 2, seen: 2, label: 1 }[name];

function connectScore(given) {
  handlers = given;
  $("score").addEventListener("click", ({ target }) => {
    const { cell: name, t } = target.dataset;
    if (!name) return;
    setFocus(name, Number(t));
    if (name === "mark") handlers.flip(Number(t));
    else handlers.move(pointOf(name, Number(t)));
  });
  $("score").addEventListener("focusin", ({ target }) => {
    if (target.dataset.cell) setFocus(target.dataset.cell, Number(target.dataset.t));
  });
  document.addEventListener("keydown", (event) => {
    // Also on a page in which nothing has the focus yet; there the other keys scroll.
    const isFresh = event.target === document.body && ["ArrowLeft", "ArrowRight"].includes(event.key);
    if (!isFresh && !$("score").contains(event.target)) return;
    if (event.ctrlKey || event.metaKey || event.altKey || !page.state.rounds.length) return;
    const rows = ROWS.filter((name) => !rowOf(name).hidden), i = rows.indexOf(focus.row), last = page.state.rounds.length - 1;
    const to = {
      ArrowLeft: [focus.row, focus.t - 1], ArrowRight: [focus.row, focus.t + 1], Home: [focus.row, 0], End: [focus.row, last],
      ArrowUp: [rows[i - 1], focus.t], ArrowDown: [rows[i + 1], focus.t],
    }[event.key];
    if (!to || to[0] === undefined || to[1] < 0 || to[1] > last) return;
    event.preventDefault();
    setFocus(...to);
    const button = rowOf(to[0]).lastElementChild.children[to[1]].firstElementChild;
    button.focus();
    handlers.move(pointOf(...to));
  });
  // A click on a strip puts the cursor there; the keyboard has the cells above for it.
  $("strips").addEventListener("click", ({ target, offsetX }) => {
    if (target.matches("canvas")) handlers.move(Math.floor((2 * offsetX) / column()));
  });
  new ResizeObserver(() => {
    setWidth(page.about, page.state);
    drawStrips(page.about, page.state, page.point);
  }).observe($("scroll"));
}

function setFocus(name, t) {
  $("score").querySelector("[tabindex='0']")?.setAttribute("tabindex", "-1");
  Object.assign(focus, { row: name, t });
  rowOf(name).lastElementChild.children[t]?.firstElementChild.setAttribute("tabindex", "0");
}

// Scroll so that the cursor is visible, if it is not.
function keepInView(point) {
  const box = $("scroll"), label = $("score").querySelector(".name").offsetWidth;
  const x = (point / 2) * column(), seen = box.clientWidth - label;
  if (x < box.scrollLeft) box.scrollLeft = x - column();
  else if (x > box.scrollLeft + seen - column()) box.scrollLeft = x - seen + 2 * column();
}

// Strips ---------------------------------------------------------------------------------------------------------------

// The strips to show: parties with a belief, but the expert, whose belief is the truth.
export const strips = (about, state) =>
  about.parties.filter(({ key }) => key !== "told" && state.parties[key].belief?.some((row) => row[0] !== null));

// The thetas that have a row: all, or the truth and those with the most belief over all rounds and parties.
const rows = new WeakMap();
export function shownThetas(about, state) {
  const all = about.thetas.map((_, k) => k);
  if (all.length <= ALL) return all;
  if (!rows.has(state)) {
    const sums = all.map((k) => (state.theta.includes(k) ? Infinity : 0));
    for (const { key } of strips(about, state)) for (const row of state.parties[key].belief) row.forEach((p, k) => { sums[k] += p; });
    rows.set(state, all.toSorted((x, y) => sums[y] - sums[x]).slice(0, MOST).sort((x, y) => x - y));
  }
  return rows.get(state);
}

export const stripHeight = (K) => Math.round(Math.min(TALL, K * Math.max(ROW, 48 / K)));

// What each strip shows, so that a flip repaints those that it changes.
const painted = new WeakMap();

function drawStrips(about, state, point) {
  const parties = strips(about, state), width = (state.rounds.length + 1) * column();
  // Without exact do there is nothing to compare with.
  const keys = [...parties.map(({ key }) => key), ...(state.parties.do ? ["kl"] : [])];
  const box = $("strips");
  if ([...box.children].map((x) => x.dataset.key).join() !== keys.join()) {
    box.replaceChildren(...keys.map((key) => strip(key, about)));
  }
  const colours = readColours();
  parties.forEach(({ key, name }, i) => {
    const canvas = box.children[i].querySelector("canvas");
    const thetas = shownThetas(about, state), height = stripHeight(thetas.length);
    const now = [state.parties[key], state.theta, thetas.join(), point, column(), width, colours.ink];
    if (painted.get(canvas)?.every((x, j) => x === now[j])) return;
    painted.set(canvas, now);
    const context = sized(canvas, width, height);
    paintStrip(context, { key, about, state, column: column(), colours });
    paintCursor(context, point, column(), height, colours);
    const list = box.children[i].querySelector("ol");
    list.style.height = `${height}px`;
    list.replaceChildren(...thetas.map((k) => Object.assign(document.createElement("li"), { textContent: about.thetas[k] })));
    canvas.ariaLabel = `Belief of ${name} over the rounds. ${summary(state.parties[key], about)}`;
  });
  if (!state.parties.do) return;
  const canvas = box.lastElementChild.querySelector("canvas"), context = sized(canvas, width, CHART);
  const top = paintChart(context, { about, state, column: column(), colours, height: CHART });
  paintCursor(context, point, column(), CHART, colours);
  box.lastElementChild.querySelector("small").textContent = `up to ${top.toPrecision(2)} nats`;
  canvas.ariaLabel = "KL from exact do to each party, for the next action and the next outcome of each round; the table below has the numbers.";
}

function strip(key, about) {
  const row = document.createElement("div");
  row.className = "row strip";
  row.dataset.key = key;
  const name = document.createElement("span");
  name.className = "name";
  if (key === "kl") {
    name.innerHTML = "<b>KL(exact do ‖ ·)</b><small></small>";
  } else {
    name.style.setProperty("--party", `var(--${look(key)[0]})`);
    const title = document.createElement("b");
    title.textContent = about.parties.find((party) => party.key === key).name;
    name.append(title, document.createElement("ol"));
  }
  const canvas = document.createElement("canvas");
  canvas.setAttribute("role", "img");
  row.append(name, canvas);
  return row;
}

function summary(account, about) {
  const last = account.belief.at(-1);
  if (last[0] === null) return "";
  const k = last.indexOf(Math.max(...last));
  return `At the end ${about.theta_names[k]} has ${last[k].toFixed(2)}.`;
}

export function sized(canvas, width, height) {
  const scale = Math.min(devicePixelRatio || 1, 16000 / width);
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  return context;
}

export function readColours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["paper", "ink", "muted", "rule", "do", "see", "agent", "second", "alarm"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

// Paint the belief of a party: the left half of a column before the action, the right half after it.
export function paintStrip(context, { key, about, state, column, colours }) {
  const account = state.parties[key], thetas = shownThetas(about, state), height = stripHeight(thetas.length);
  const h = height / thetas.length, frame = (state.rounds.length + 1) * column - 0.5;
  const paint = (row, x, w) => {
    if (!row || row[0] === null) return;
    thetas.forEach((k, i) => {
      context.globalAlpha = row[k];
      context.fillRect(x, i * h, Math.min(w + 0.4, frame - x), h);
    });
  };
  context.fillStyle = colours[look(key)[0]];
  state.rounds.forEach((_, t) => {
    const acted = account.acted_belief?.[t];
    paint(account.belief[t], t * column, acted ? column / 2 : column);
    paint(acted, (t + 0.5) * column, column / 2);
  });
  const m = account.belief.length - 1;
  if (m === state.rounds.length) paint(account.belief[m], m * column, column);
  context.globalAlpha = 1;
  context.strokeStyle = colours.rule;
  context.lineWidth = 1;
  context.strokeRect(0.5, 0.5, frame - 0.5, height - 1);
  context.strokeStyle = colours.ink;
  context.lineWidth = 1.2;
  const path = state.theta;
  for (let t = 0, start = 0; t < path.length; t++) {
    if (t + 1 < path.length && path[t + 1] === path[t]) continue;
    const end = t + 1 === path.length ? state.rounds.length + 1 : t + 1;
    context.strokeRect(start * column + 0.6, thetas.indexOf(path[t]) * h + 0.6, (end - start) * column - 1.2, h - 1.2);
    start = end;
  }
  context.fillStyle = colours.alarm;
  const alarm = (x) => { context.fillRect(x - 1, 0, 2, height); };
  if (account.opening_impossible) alarm(1);
  account.acted_impossible.forEach((t) => alarm((t + 0.5) * column));
  account.impossible.forEach((t) => alarm((t + 1) * column));
}

function paintCursor(context, point, column, height, colours) {
  const x = Math.max(0.75, (point / 2) * column);
  context.fillStyle = colours.ink;
  context.fillRect(x - 0.75, 0, 1.5, height);
}

// Paint KL(exact do || party) of each prediction as lines; return the value at the top.
export function paintChart(context, { about, state, column, colours, height }) {
  const lines = about.parties.filter(({ key }) => key !== "told" && key !== "do").map(({ key }) => {
    const { actions, observations } = state.parties[key].kl.do, isCompared = observations.some((y) => y !== null);
    const points = actions.flatMap((x, t) => [[(t + 0.25) * column, x], [(t + 0.75) * column, isCompared ? observations[t] : undefined]]);
    return [key, points.filter(([, y]) => y !== undefined)];
  });
  const finite = lines.flatMap(([, points]) => points.map(([, y]) => y)).filter((y) => typeof y === "number");
  const top = Math.max(0.1, ...finite);
  const at = (y) => (y === "inf" ? 3 : height - 3 - (y / top) * (height - 12));
  context.strokeStyle = colours.rule;
  context.lineWidth = 1;
  context.strokeRect(0.5, 0.5, (state.rounds.length + 1) * column - 1, height - 1);
  for (const [key, points] of lines) {
    const [colour, dashes] = look(key);
    context.strokeStyle = context.fillStyle = colours[colour];
    context.lineWidth = key === "marked" ? 2.6 : 1.6;
    context.setLineDash(dashes);
    context.beginPath();
    // An unknown KL, null, is a gap.
    points.forEach(([x, y], i) => {
      if (y !== null && (points[i - 1]?.[1] ?? null) !== null) context.lineTo(x, at(y));
      else if (y !== null) context.moveTo(x, at(y));
    });
    context.stroke();
    context.setLineDash([]);
    for (const [x, y] of points) if (y === "inf") context.fillRect(x - 2, 1, 4, 4);
  }
  return top;
}
