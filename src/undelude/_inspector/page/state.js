// What all parts of the page share: its state, elements by id, and requests to the server.
export const $ = (id) => document.getElementById(id);
const token = new URLSearchParams(location.search).get("token") ?? "";

// about: what is inspected. state: all answers about the history. point: how many symbols are known at the cursor,
// 2 t before the action of round t, counted from 0, and 2 t + 1 after it. past: the states before each change.
export const page = { about: null, state: null, point: 0, past: [] };

// Take the alphabets of a state that has its own: real numbers are listed as the episode has them.
export function adopt(state) {
  for (const name of ["actions", "observations"]) if (state[name]) page.about[name] = state[name];
  page.state = state;
}

// Number of symbols of the history, without the opening.
export const length = () => page.state.rounds.reduce((n, [, o]) => n + 1 + (o !== null), 0);

// Indices of the actions that the expert may take at a point.
export const offeredAt = (point) => page.state.offered[Math.floor(point / 2)] ?? page.about.actions.map((_, i) => i);

// The parties whose belief and predictions are shown, each with its colour and the dashes of its line.
const LOOKS = { marked: ["ink", []], do: ["do", []], see: ["see", [5, 3]], told: ["muted", [1, 3]] };
const OTHERS = [["agent", []], ["second", [8, 3, 2, 3]]];
export function look(key) {
  const others = page.about.parties.filter((party) => !(party.key in LOOKS));
  return LOOKS[key] ?? OTHERS[others.findIndex((party) => party.key === key) % OTHERS.length];
}

// Answers without a server, in the static page of the docs.
let local = null;
export const answerLocally = (answers) => { local = answers; };

export async function request(name, body = {}) {
  if (local) return local[name](body);
  const answer = await fetch(`api/${name}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Undelude-Token": token },
    body: JSON.stringify(body),
  }).catch(() => null);
  if (answer === null) throw new Error("The server does not answer. Start undelude inspect again, and open its link.");
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
  return found;
}

// Belief of a party at a point, or null if it is unknown.
export function beliefAt(account, point) {
  const t = Math.floor(point / 2);
  return (point % 2 ? account.acted_belief?.[t] : account.belief?.[t]) ?? null;
}

// Probabilities as a Map from index. A long alphabet comes as pairs, for the same indices in the row of each party.
// It is null if the party predicts nothing.
export function probabilities(row) {
  if (!row?.length) return null;
  const pairs = Array.isArray(row[0]) ? row : [...row.entries()];
  return pairs[0][1] === null ? null : new Map(pairs);
}

// The first image of an observation, as a data URL; null if it has none.
export const imageIn = ({ images }, observation) =>
  images?.length && observation !== null ? (images[0] === "" ? observation : observation[images[0]]) : null;

export const number = (x) => (x === "inf" ? "∞" : x === null ? "–" : x > 0 && x < 0.0005 ? "< 0.001" : x.toFixed(3));
