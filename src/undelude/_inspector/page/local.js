// Answers without a server, for processes in tables: exact inference by the recursion of Remark 10.
//
//   P(theta | history) is proportional to P(theta) prod_(t seen) Q(a_t | theta) prod_t Q(o_t | theta, a_t)
//
// The page of the docs holds this file with the tables that the library writes; see tools/draw_inspector.py.
import { $, answerLocally } from "./state.js";

const stored = JSON.parse($("stored").textContent);
const chosen = new URLSearchParams(location.search).get("task");
const { about: known, prior, expert, task, rewards } = stored[chosen] ?? Object.values(stored)[0];
const K = prior.length, T = known.rounds;

// Indices of the actions that the expert may take; null for all.
const possible = expert[0].map((_, a) => a).filter((a) => expert.some((row) => row[a] > 0));
const offered = possible.length === expert[0].length ? null : possible;

const mixture = (b, rows) => rows[0].map((_, x) => b.reduce((sum, p, k) => sum + p * rows[k][x], 0));
const certain = (theta) => prior.map((_, k) => Number(k === theta));

// Return Bayes' rule, or null if no theta allows the evidence.
function conditioned(b, likelihood) {
  const joint = b.map((p, k) => p * likelihood(k)), sum = joint.reduce((x, y) => x + y, 0);
  return sum > 0 ? joint.map((p) => p / sum) : null;
}

// Return what one party believes and predicts at each point of an episode.
function account(party, { theta, rounds }) {
  const told = party === "told", found = { belief: [], acted_belief: [], opening: null, opening_impossible: false, actions: [], observations: [], impossible: [], acted_impossible: [] };
  let b = told ? certain(theta) : prior;
  rounds.forEach(({ action: a, observation: o, mark, by }, t) => {
    found.belief.push(b);
    found.actions.push(mixture(b, expert));
    const done = { marked: mark === "do", see: false }[party] ?? by === "agent";
    const acted = done ? b : conditioned(b, (k) => expert[k][a]);
    if (!acted) found.acted_impossible.push(t);
    b = acted ?? b;
    found.acted_belief.push(b);
    found.observations.push(mixture(b, task.map((rows) => rows[a])));
    if (o === null) return;
    const later = conditioned(b, (k) => task[k][a][o]);
    if (!later) found.impossible.push(t);
    b = told ? certain(theta) : later ?? b;
  });
  if (rounds.at(-1)?.observation !== null) {
    found.belief.push(b);
    found.actions.push(mixture(b, expert));
  }
  return found;
}

const plain = (x) => (x === Infinity ? "inf" : Math.max(0, x));
const kl = (p, q) => plain(p.reduce((sum, x, i) => (x > 0 ? sum + x * Math.log(x / q[i]) : sum), 0));

function read({ episode }) {
  check(episode);
  const { rounds, theta } = episode, parties = Object.fromEntries(known.parties.map(({ key }) => [key, account(key, episode)]));
  for (const q of Object.values(parties)) {
    q.kl = Object.fromEntries(["do", "see"].map((answer) => [answer, {
      actions: q.actions.map((row, t) => kl(parties[answer].actions[t], row)),
      observations: q.observations.map((row, t) => kl(parties[answer].observations[t], row)),
    }]));
    q.loss = rounds.map(({ expert_action: x }, t) => (x === null ? null : plain(-Math.log(q.actions[t][x]))));
  }
  const over = rounds.filter(({ observation }) => observation !== null);
  return {
    episode, parties, opening: null, theta: [theta], ended: over.length >= T,
    rounds: rounds.map(({ action, observation, expert_action }) => [action, observation, expert_action ?? null]),
    offered: [null, ...over].map(() => offered),
    rewards: over.map(({ action, observation }) => rewards[theta][action][observation]),
  };
}

function check(episode) {
  const within = (x, n) => Number.isInteger(x) && x >= 0 && x < n, A = expert[0].length, O = task[0][0].length;
  if (episode?.format !== "undelude-episode-1") throw new Error("This is not an episode.");
  const own = known.first;
  if ((episode.task ?? own.task) !== own.task) throw new Error(`This is an episode of ${episode.task}, and the page shows ${known.task}.`);
  if ((episode.process ?? own.process) !== own.process) throw new Error(`This episode was played in another ${known.task} than that of the page.`);
  checkFields("", episode, known.first);
  if (!within(episode.seed, 2 ** 32) || episode.opening !== null) throw new Error("The episode is damaged: its seed or its opening.");
  if (!within(episode.theta, K) || !Array.isArray(episode.rounds)) throw new Error("The episode is damaged: its theta or its rounds.");
  const n = episode.rounds.length;
  if (n > T) throw new Error(`The episode has ${n} rounds, and this page takes ${T} at most: run undelude inspect ${known.task} --num-rounds ${n}, and open it there.`);
  episode.rounds.forEach((r, t) => {
    checkFields(`rounds[${t}].`, r, known.first.rounds[0]);
    const isOpen = r.observation === null && t === episode.rounds.length - 1;
    const fits = within(r.action, A) && (isOpen || within(r.observation, O)) && ["do", "see"].includes(r.mark) && ["agent", "expert"].includes(r.by);
    if (!fits || !(r.expert_action === null || within(r.expert_action, A))) throw new Error(`The episode is damaged in round ${t + 1}.`);
  });
}

// Throw an error if a field is missing or unknown. `like` has all fields.
function checkFields(where, found, like) {
  const given = Object.keys(found ?? {}), needed = Object.keys(like);
  const missing = needed.find((name) => !given.includes(name)), unknown = given.find((name) => !needed.includes(name));
  if (missing) throw new Error(`${where}${missing} is missing; the fields needed are ${needed.join(", ")}.`);
  if (unknown) throw new Error(`${where}${unknown} is not a field of an episode of this page; its fields are ${needed.join(", ")}.`);
}

// A number from 0 to 1 for each seed, round and purpose, so that the same luck returns after a rewind.
function luck(...numbers) {
  let h = 2166136261;
  for (const x of numbers) for (let i = 0; i < 4; i++) h = Math.imul(h ^ ((x >>> (8 * i)) & 255), 16777619);
  h = Math.imul(h ^ (h >>> 16), 2246822507);
  h = Math.imul(h ^ (h >>> 13), 3266489909);
  return ((h ^ (h >>> 16)) >>> 0) / 2 ** 32;
}

function drawn(p, u) {
  for (let x = 0; x < p.length; x++) if ((u -= p[x]) < 0) return x;
  return p.findLastIndex((q) => q > 0);
}

function played(before, rounds, actor, { observe = true, label = false }) {
  const episode = structuredClone(before), { theta, seed } = episode, open = episode.rounds.at(-1);
  const outcome = (r, t) => { r.observation = drawn(task[theta][r.action], luck(seed, t, 2)); };
  if (open?.observation === null) outcome(open, episode.rounds.length - 1);
  for (let i = 0; i < rounds && episode.rounds.length < T; i++) {
    const t = episode.rounds.length, by = actor === "told" ? "expert" : "agent", asked = drawn(expert[theta], luck(seed, t, 1));
    const action = by === "expert" ? asked : drawn(account(actor, episode).actions.at(-1), luck(seed, t, 0));
    const own = known.parties.find(({ key }) => key === actor).mark;
    const round = { action, mark: own, by, observation: null, expert_action: label ? asked : null };
    episode.rounds.push(round);
    if (observe || i + 1 < rounds) outcome(round, t);
  }
  return episode;
}

const begun = (seed, theta) => ({ format: "undelude-episode-1", task: known.task, process: known.first.process, seed, theta: theta ?? drawn(prior, luck(seed, 0, 3)), opening: null, rounds: [] });

function compared({ episode }) {
  const n = episode.rounds.filter(({ observation }) => observation !== null).length;
  const alone = { "": episode };
  for (const { key } of known.parties) if (key !== "marked" && n) alone[key] = played(begun(episode.seed, episode.theta), n, key, {});
  return Object.fromEntries(Object.entries(alone).map(([key, one]) => {
    const state = read({ episode: one });
    const symbols = state.rounds.filter(([, o]) => o !== null).map(([a, o]) => [a, o]);
    return [key, { rounds: symbols, rewards: state.rewards, truth: state.parties[key || "marked"].belief.at(-1)[one.theta] }];
  }));
}

const answers = {
  describe: () => ({ ...known, state: read({ episode: known.first }) }),
  read,
  marks: read,
  begin: ({ seed, theta }) => read({ episode: begun(seed, theta) }),
  play: ({ episode, rounds, actor, ...rest }) => (check(episode), read({ episode: played(episode, rounds, actor, rest) })),
  compare: compared,
};
answerLocally(answers);

// The answers for the console, and a link to each process.
globalThis.undelude = answers;
$("task").replaceWith(...Object.keys(stored).map((name) => {
  const link = document.createElement(name === known.task ? "b" : "a");
  link.textContent = name;
  if (name !== known.task) link.href = `?task=${name}`;
  const item = document.createElement("span");
  if (name === known.task) item.id = "task";
  item.append(link);
  return item;
}));
