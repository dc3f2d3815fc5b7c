// The sentence at the top, and the beliefs and predictions at the cursor as tables.
import { $, beliefAt, look, number, probabilities } from "./state.js";

// Most rows of a table; distance in total variation from which a belief counts as deluded.
const MOST_ROWS = 8, DELUDED = 0.05;
// Pixels: the width up to which a small image is enlarged.
const IMAGE = 240;

export function showHeadline({ about, state, point }) {
  if (!state.parties.marked) return showWithoutBelief(about, state);
  const marked = beliefAt(state.parties.marked, point), sober = beliefAt(state.parties.do, point);
  const before = state.episode.rounds.slice(0, Math.ceil(point / 2));
  const k = marked.indexOf(Math.max(...marked)), truth = state.theta[Math.min(Math.floor(point / 2), state.theta.length - 1)];
  const distance = marked.reduce((sum, p, i) => sum + Math.abs(p - sober[i]) / 2, 0);
  const own = before.filter(({ by }) => by === "agent"), experts = before.filter(({ by }) => by === "expert");
  const seen = own.filter(({ mark }) => mark === "see").length, done = experts.filter(({ mark }) => mark === "do").length;
  const kind = distance >= DELUDED ? "deluded" : "sober";
  const word = before.length === 0 ? "No evidence yet." : kind === "deluded" ? "Deluded." : distance > 1e-6 ? "Nearly sober." : "Sober.";
  const even = marked.filter((p) => p > marked[k] - 1e-4).length;
  const belief = even === marked.length ? `${even === 2 ? "Both" : `All ${even}`} ${about.words.plural} have ${marked[k].toFixed(2)}.`
    : `Exact inference, as marked, believes in ${about.theta_names[k]} with ${marked[k].toFixed(2)}${k === truth || even > 1 ? "" : ", wrongly"}.`;
  $("headline").className = before.length ? kind : "";
  $("headline").replaceChildren(Object.assign(document.createElement("span"), { textContent: word }), ` ${belief}`);
  const actions = own.length === 1 ? "action" : "actions", all = own.length === 1 ? "the agent’s action" : "each of the agent’s actions", it = seen === 1 ? "it" : "them";
  const alone = experts.length ? "" : ", and learns from the outcomes alone";
  const reads = own.length === 0 ? "The agent has not acted."
    : seen === 0 ? `It reads ${all} as an intervention${alone}.`
    : `It reads ${seen === own.length ? "the agent’s" : `${seen} of the agent’s ${own.length}`} ${actions} as evidence about theta, as if an expert had chosen ${it}.`;
  const ignored = done === 0 ? ""
    : ` It reads ${done} of the expert’s ${experts.length === 1 ? "1 action as an intervention, though it is" : `${experts.length} actions as ${done === 1 ? "an intervention, though it is" : "interventions, though they are"}`} evidence.`;
  const wrong = seen + done, [one, more] = done === 0 ? ["as an intervention", "as interventions"] : seen === 0 ? ["as evidence", "as evidence"] : ["", "as exact do reads them"];
  const right = kind !== "deluded" || wrong === 0 ? "" : wrong === 1
    ? ` Read ${one}, it would leave this belief at ${sober[k].toFixed(2)}: flip the switch.`
    : ` Read ${more}, they would leave this belief at ${sober[k].toFixed(2)}: flip the switches.`;
  $("lead").textContent = `${reads}${ignored}${right} ${about.words.theta_is.replace("{}", about.thetas[truth])}`;
}

// Of a simulator without exact answers.
function showWithoutBelief(about, state) {
  $("headline").textContent = "No exact belief is known.";
  $("lead").textContent = `Why: ${about.why_inexact} The agents’ predictions are shown, and flipping a mark recomputes them. ${about.words.theta_is.replace("{}", about.thetas[state.theta[0]])}`;
}

export function showTables({ about, state, point }) {
  const t = Math.floor(point / 2), acted = point % 2 === 1, [a, o] = state.rounds[t] ?? [null, null];
  const place = acted ? `After action ${t + 1}, before its outcome` : t === 0 ? "Before the first action" : `After round ${t}`;
  $("now-heading").textContent = place;
  const paid = t > 0 ? `; reward of round ${t}: ${number(state.rewards[t - 1])}` : "";
  $("seen").textContent = state.seen ? `Last seen: ${state.seen[t] || "the image"}${paid}.` : "";
  $("seen").hidden = !state.seen || (!state.seen[t] && !paid);
  showImages(about, t === 0 ? state.episode.opening : state.episode.rounds[t - 1].observation);
  const truth = state.theta[Math.min(t, state.theta.length - 1)];
  const parties = about.parties.map(({ key, name }) => ({ key, name, account: state.parties[key] }));
  const beliefs = table("Belief in theta", parties, about.thetas.map((label, k) => [k, label]), (account) => {
    const row = beliefAt(account, point);
    return row && row[0] !== null ? new Map(row.entries()) : null;
  }, truth, "true");
  const symbols = acted ? about.observations : about.actions;
  const entries = symbols.map(({ label, text }, i) => [i, acted ? label : text]);
  const happened = acted ? o : a;
  const kl = (party) => !state.parties.do ? [] : [["do", "KL(do ‖ ·), nats"], ["see", "KL(see ‖ ·), nats"]].map(([answer, name]) => {
    const found = party.account.kl[answer];
    return [name, (acted ? found.observations : found.actions)[t]];
  });
  const numbers = acted ? about.outcome_numbers : about.numbers;
  const predicted = numbers ? moments(parties.map((party) => ({ ...party, row: (acted ? party.account.observations : party.account.actions)?.[t] })), numbers, acted, kl) : table(
    acted ? "Prediction of the outcome" : "Prediction of the next action", parties, entries,
    (account) => probabilities((acted ? account.observations : account.actions)?.[t]),
    happened, acted ? "happened" : "taken", kl, acted ? null : state.offered[t],
  );
  const shown = parties.some(({ account }) => account.belief) ? [beliefs, predicted] : [predicted];
  $("tables").replaceChildren(...shown, ...losses(parties, state), ...impossible(about, state));
}

// Show the images of an observation, enlarged by a whole factor.
function showImages({ images = [] }, observation) {
  $("images").hidden = images.length === 0;
  $("images").replaceChildren(...images.map((name) => {
    const figure = element("figure"), image = document.createElement("img");
    image.alt = `What the agent last saw${name ? `: ${name}` : ""}.`;
    image.onload = () => { image.width = image.naturalWidth * Math.max(1, Math.floor(IMAGE / image.naturalWidth)); };
    image.src = name ? observation[name] : observation;
    figure.append(image, element("figcaption", "", `What the agent last saw${images.length > 1 ? `: ${name}` : ""}`));
    return figure;
  }));
}

// The prediction of real numbers: mean and standard deviation of each.
function moments(parties, { shape, draws }, acted, kl) {
  const size = shape.reduce((x, y) => x * y, 1), caption = `Prediction of the ${acted ? "outcome" : "next action"}`;
  const signed = (x) => (x === null ? "–" : x.toFixed(3));
  const names = Array.from({ length: size }, (_, i) => (size > 1 ? `number ${i + 1}` : "mean ± deviation"));
  const body = names.map((name, i) => [name, ...parties.map(({ row }) => (row ? `${signed(row[0][i])} ± ${signed(row[1][i])}` : "–"))]);
  kl(parties[0]).forEach(([name], i) => body.push([name, ...parties.map((party) => number(kl(party)[i][1]))]));
  const grid = element("table", "wide"), top = element("thead"), head = element("tr"), list = element("tbody");
  grid.append(element("caption", "", caption));
  head.append(element("td"), ...parties.map(({ key, name }) => header(key, name)));
  top.append(head);
  for (const [name, ...cells] of body) {
    const tr = element("tr", name.startsWith("KL") ? "kl" : ""), th = element("th", "", name);
    th.scope = "row";
    tr.append(th, ...cells.map((text) => element("td", "", text)));
    list.append(tr);
  }
  grid.append(top, list);
  const box = scrolling(grid, caption);
  if (body.length > size) box.append(element("p", "aside", `KL between densities is estimated from ${draws} draws of the answer.`));
  return box;
}

function header(key, name) {
  const th = element("th", "party", name);
  th.scope = "col";
  th.style.setProperty("--party", `var(--${look(key)[0]})`);
  return th;
}

function scrolling(grid, caption) {
  const box = element("div", "scroll");
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.ariaLabel = caption;
  box.append(grid);
  return box;
}

function table(caption, parties, entries, rowOf, marked, word, further = () => [], always = null) {
  const rows = parties.map((party) => rowOf(party.account));
  const most = (i) => Math.max(...rows.map((row) => row?.get(i) ?? 0));
  const sent = rows.find((row) => row), known = entries.filter(([i]) => sent?.has(i) ?? true);
  let shown = known.filter(([i]) => (always ? always.includes(i) : entries.length <= 24) || most(i) >= 0.01 || i === marked);
  if (shown.length > MOST_ROWS + 2) shown = [...shown].sort((x, y) => (y[0] === marked) - (x[0] === marked) || most(y[0]) - most(x[0])).slice(0, MOST_ROWS);
  const grid = element("table", "wide");
  grid.append(element("caption", "", caption));
  const head = element("tr");
  head.append(element("td"), ...parties.map(({ key, name }) => header(key, name)));
  const top = element("thead");
  top.append(head);
  grid.append(top);
  const body = element("tbody");
  for (const [i, label] of shown) {
    const tr = element("tr", i === marked ? "marked" : ""), th = element("th", "", label || String(i));
    th.scope = "row";
    if (i === marked) th.append(element("small", "", ` ${word}`));
    tr.append(th, ...parties.map(({ key }, j) => bar(rows[j]?.get(i) ?? null, key)));
    body.append(tr);
  }
  const hidden = entries.length - shown.length;
  if (hidden > 0) {
    const tr = element("tr", "rest"), th = element("th", "", `${hidden} others`);
    th.scope = "row";
    tr.append(th, ...parties.map(({ key }, j) => bar(rows[j] && Math.max(0, 1 - shown.reduce((sum, [i]) => sum + (rows[j].get(i) ?? 0), 0)), key)));
    body.append(tr);
  }
  further(parties[0]).forEach(([name], i) => {
    const tr = element("tr", "kl"), th = element("th", "", name);
    th.scope = "row";
    tr.append(th, ...parties.map((party) => element("td", "", number(further(party)[i][1]))));
    body.append(tr);
  });
  grid.append(body);
  return scrolling(grid, caption);
}

function bar(p, key) {
  const td = element("td", "bar", p === null ? "–" : p.toFixed(3));
  td.style.setProperty("--p", p ?? 0);
  td.style.setProperty("--party", `var(--${look(key)[0]})`);
  return td;
}

// The counterfactual losses, if the expert was asked: what teaching would make smaller.
function losses(parties, state) {
  const asked = state.rounds.filter(([, , label]) => label !== null).length;
  if (!asked) return [];
  const means = parties.map(({ name, account }) => {
    const found = account.loss.filter((x) => x !== null);
    const mean = found.includes("inf") ? "inf" : found.length ? found.reduce((sum, x) => sum + x, 0) / found.length : null;
    return `${name} ${number(mean)}`;
  });
  const text = `Counterfactual labels: ${asked}. Counterfactual teaching lowers the mean of −log P(label). In nats it is, of ${means.join(", of ")}.`;
  return [element("p", "aside", text)];
}

function impossible(about, state) {
  return about.parties.flatMap(({ key, name }) => {
    const { opening_impossible, impossible, acted_impossible, acted_belief } = state.parties[key];
    const places = [...(opening_impossible ? ["the opening"] : []), ...acted_impossible.map((t) => `the action of round ${t + 1}`), ...impossible.map((t) => `the outcome of round ${t + 1}`)];
    if (!places.length) return [];
    const listed = places.slice(0, 3).join(", ") + (places.length > 3 ? `, and ${places.length - 3} more` : "");
    return [element("p", "alarm", `Impossible for ${name}: ${listed}. It gave this no probability${acted_belief ? ", and its belief stays as it was" : ""}.`)];
  });
}

// How each party fared alone, and what it did, round by round.
export function showOthers({ about }, found) {
  const names = { "": "this episode", ...Object.fromEntries(about.actors) };
  const grid = element("table"), head = element("tr"), body = element("tbody"), top = element("thead");
  for (const text of ["", "reward in all", "belief in the truth"]) head.append(Object.assign(element("th", "", text), { scope: "col" }));
  top.append(head);
  for (const [key, { rewards, truth }] of Object.entries(found)) {
    const tr = element("tr"), th = element("th", key && "party", names[key]);
    th.scope = "row";
    if (key) th.style.setProperty("--party", `var(--${look(key)[0]})`);
    const total = rewards.reduce((sum, x) => sum + x, 0);
    tr.append(th, element("td", "", total.toFixed(3)), element("td", "", number(truth)));
    body.append(tr);
  }
  grid.append(top, body);
  const chats = element("div", "chats");
  for (const [key, { rounds, texts }] of Object.entries(found)) {
    if (key === "told") continue;
    const chat = element("section", "chat"), list = element("ol");
    chat.append(element("h3", "", names[key]), list);
    const words = texts ?? rounds.map(([a, o]) => [about.actions[a].text, about.observations[o].text || about.observations[o].label]);
    for (const [action, outcome] of words) {
      const item = element("li");
      item.append(element("span", "says", action), ` ${outcome}`);
      list.append(item);
    }
    chats.append(chat);
  }
  const details = element("details");
  details.append(element("summary", "", "Round by round"), chats);
  $("others").replaceChildren(grid, details);
}

export function showWho({ about }) {
  $("who").replaceChildren(...about.parties.flatMap(({ key, name, text }) => {
    const dt = element("dt", "party", name);
    dt.style.setProperty("--party", `var(--${look(key)[0]})`);
    return [dt, element("dd", "", text)];
  }));
  $("note").textContent = about.note;
}

// Of a model that was fitted to logs: the verdict, and the range of each probe.
export function showLogs({ about: { logs } }) {
  $("logs").hidden = !logs;
  if (!logs) return;
  $("verdict").textContent = logs.verdict;
  const grid = element("table"), head = element("tr"), top = element("thead"), body = element("tbody");
  for (const text of ["", "fit", "range", "Manski", ""]) head.append(Object.assign(element("th", "", text), { scope: "col" }));
  top.append(head);
  // Probabilities have a scale from 0 to 1, and rewards another.
  const isProbability = ({ name }) => name.startsWith("P("), ends = (x) => [x.fit, ...(x.range ?? []), ...(x.manski ?? [])];
  const rewards = logs.bounds.filter((x) => !isProbability(x)).flatMap(ends);
  const scale = [Math.min(0, ...rewards), Math.max(0, ...rewards)];
  const written = (x) => (x ? `${x[0].toFixed(3)} to ${x[1].toFixed(3)}` : "–");
  for (const { name, fit, range, manski } of logs.bounds) {
    const tr = element("tr"), th = element("th", "", name), drawn = element("td", "range");
    th.scope = "row";
    const marks = { "--fit": fit, "--low": range?.[0] ?? fit, "--high": range?.[1] ?? fit, "--least": manski?.[0] ?? fit, "--most": manski?.[1] ?? fit };
    const [low, high] = isProbability({ name }) ? [0, 1] : scale;
    for (const [key, x] of Object.entries(marks)) drawn.style.setProperty(key, (x - low) / (high - low || 1));
    drawn.append(element("i", "manski"), element("i", "profile"), element("i", "fit"));
    tr.append(th, element("td", "", fit.toFixed(3)), element("td", "", written(range)), element("td", "", written(manski)), drawn);
    body.append(tr);
  }
  grid.append(top, body);
  $("bounds").replaceChildren(...(logs.bounds.length ? [grid] : []));
  $("bounds").hidden = $("bounds").nextElementSibling.hidden = !logs.bounds.length;
}

export function element(name, className = "", text = "") {
  const x = document.createElement(name);
  if (className) x.className = className;
  if (text) x.textContent = text;
  return x;
}
