// Episodes as files and links; pictures and numbers as files.
import { picture } from "./picture.js";
import { $, page } from "./state.js";

// Most characters of a link that all browsers take.
const LONGEST_LINK = 80000;

export function connectSharing(change, attempt) {
  const name = `${page.about.task}-episode`;
  $("save").addEventListener("click", () => download(`${name}.json`, json(page.state.episode)));
  $("data").addEventListener("click", () => download(`${name}-numbers.json`, json({ about: page.about, ...page.state })));
  $("png").addEventListener("click", () => attempt(async () => download(`${name}.png`, await picture())));
  $("open").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => attempt(async () => {
    const [file] = $("file").files;
    if (!file) return;
    const text = await file.text();
    $("file").value = "";
    let episode;
    try {
      episode = JSON.parse(text);
    } catch {
      throw new Error(`${file.name} is not JSON: choose a file that "Save episode" wrote.`);
    }
    const { task } = page.state.episode;
    if (episode.task && task && episode.task !== task) {
      throw new Error(`${file.name} is an episode of ${episode.task}, and this page shows ${task}: run undelude inspect ${file.name}${named(episode.task)}.`);
    }
    await change("read", { episode }, Infinity);
  }));
  $("link").addEventListener("click", () => attempt(async () => {
    const link = `${location.href.split("#")[0]}#${await pack(page.state.episode)}`;
    if (link.length > LONGEST_LINK) {
      $("shared").textContent = `The link would have ${link.length} characters, and browsers take ${LONGEST_LINK}: save the episode as a file instead.`;
      return;
    }
    history.replaceState(null, "", link);
    const copied = await navigator.clipboard?.writeText(link).then(() => true, () => false);
    $("shared").textContent = `${copied ? "The link is copied" : "The link is in the address bar"}. It holds the whole episode${page.about.served ? ", and works while this server runs" : ""}; a saved file always works: undelude inspect ${name}.json${named(page.state.episode.task)}.`;
  }));
}

// A task of the user's own is a function, which the command calls only if it is named; the library's are in the file.
function named(task) {
  if (!task) return " --task package.module:factory, with the function that makes the process";
  return task.includes(":") ? ` --task ${task}` : "";
}

const json = (data) => new Blob([JSON.stringify(data, null, 1)], { type: "application/json" });

function download(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

async function pack(episode) {
  const stream = new Blob([JSON.stringify(episode)]).stream().pipeThrough(new CompressionStream("deflate-raw"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  // One by one: a call takes fewer arguments than a large episode has bytes.
  return btoa(Array.from(bytes, (x) => String.fromCharCode(x)).join("")).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

// Return the episode in the address of the page, or null.
export async function fromLink() {
  const packed = location.hash.slice(1);
  if (!packed) return null;
  try {
    const bytes = Uint8Array.from(atob(packed.replaceAll("-", "+").replaceAll("_", "/")), (x) => x.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    return JSON.parse(await new Response(stream).text());
  } catch {
    throw new Error("The link is damaged: copy it again, in full.");
  }
}
