// The episode as a picture: its symbols, marks, strips and chart, with their names, as they are on the page.
import { paintChart, paintStrip, readColours, shownThetas, stripHeight, strips } from "./score.js";
import { $, page } from "./state.js";

// Pixels: the margin, the height of the chart, of a line of text and of a mark, and the gap between parts.
const MARGIN = 14, CHART_HEIGHT = 90, LINE = 20, MARK = 11, GAP = 26;
// Pixels: the least and most width of the picture, the most of its columns, of a column, of a label and of upright text.
const NARROW = 560, COLUMNS = 1400, WIDEST = 90, LABEL = 220, UPRIGHT = 90;
const SERIF = "16px serif", BOLD = "bold 13px sans-serif", SMALL = "11px sans-serif", TINY = "10px sans-serif", ITALIC = "italic 10px sans-serif";

const widthOf = (context, text, font) => ((context.font = font), context.measureText(text).width);

// Return a text without its middle, if it is wider than a number of pixels.
function shortened(context, text, most, font) {
  if (widthOf(context, text, font) <= most) return text;
  const letters = [...text];
  for (let n = letters.length - 1; n > 1; n--) {
    const cut = `${letters.slice(0, Math.ceil(n / 2)).join("")}…${letters.slice(letters.length - Math.floor(n / 2)).join("")}`;
    if (widthOf(context, cut, font) <= most) return cut;
  }
  return "…";
}

// Return texts that are shortened and stay distinct: if two would be alike, each begins with its number.
function distinct(context, texts, most, font) {
  const cut = texts.map((text) => shortened(context, text, most, font));
  if (new Set(cut).size === new Set(texts).size) return cut;
  return texts.map((text, i) => `${i + 1}: ${shortened(context, text, most - widthOf(context, `${i + 1}: `, font), font)}`);
}

// Return a text as lines of at most a number of pixels.
function lines(context, text, most, font) {
  const found = [];
  for (const word of text.split(/\s+/)) {
    const longer = found.length ? `${found.at(-1)} ${word}` : word;
    if (found.length && widthOf(context, longer, font) <= most) found[found.length - 1] = longer;
    else found.push(shortened(context, word, most, font));
  }
  return found;
}

// Return the rows of symbols as [name, texts, fonts].
function symbolRows({ actions, observations }, { rounds, episode }) {
  const byExpert = episode.rounds.map(({ by }) => by === "expert");
  return [
    [`action${byExpert.includes(true) ? " (italic: the expert)" : ""}`, rounds.map(([a]) => actions[a].label), byExpert.map((x) => (x ? ITALIC : TINY))],
    ["outcome", rounds.map(([, o]) => (o === null ? "?" : observations[o].label)), rounds.map(() => TINY)],
  ];
}

// Return where everything is. Columns are as wide as the symbols if there is room; else the symbols stand upright, or are
// left out.
function arrange(context) {
  const { about, state } = page, parties = strips(about, state), n = state.rounds.length, rows = symbolRows(about, state);
  const widest = Math.max(0, ...rows.flatMap(([, texts, fonts]) => texts.map((text, t) => widthOf(context, text, fonts[t]))));
  const column = Math.min(Math.max(36, Math.min(widest + 6, WIDEST)), COLUMNS / (n + 1));
  const placed = rows.map(([name, texts, fonts]) => {
    const longest = Math.max(0, ...texts.map((text, t) => widthOf(context, text, fonts[t]))), isUpright = longest > column - 4;
    return { name, texts, fonts, isUpright, tall: isUpright ? Math.ceil(Math.min(longest, UPRIGHT)) + 8 : 16 };
  }).filter(({ isUpright }) => !isUpright || column >= 12);
  const thetas = shownThetas(about, state), height = stripHeight(thetas.length);
  const labels = height / thetas.length >= 10 ? distinct(context, thetas.map((k) => about.thetas[k]), LABEL, TINY) : [];
  const named = Math.max(120, ...parties.map(({ name }) => widthOf(context, name, BOLD)), ...rows.map(([name]) => widthOf(context, name, SMALL)));
  const left = Math.ceil(MARGIN + named + 12 + Math.max(30, ...labels.map((text) => widthOf(context, text, TINY))) + 8);
  const width = Math.max(Math.ceil(left + (n + 1) * column) + 20, NARROW);
  return { parties, column, rows: placed, thetas, labels, height, left, width };
}

export function picture() {
  const { about, state } = page, colours = readColours(), scale = 2;
  const canvas = document.createElement("canvas"), context = canvas.getContext("2d"), at = arrange(context);
  const { parties, column, rows, labels, thetas, height, left, width } = at;
  const headline = lines(context, $("headline").textContent, width - 2 * MARGIN, SERIF);
  const task = shortened(context, about.task, width - 2 * MARGIN, SMALL);
  const total = MARGIN + headline.length * LINE + 26 + 16 + rows.reduce((sum, { tall }) => sum + tall, 0) + MARK + 17 + parties.length * (height + GAP) + CHART_HEIGHT + 20;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(total * scale);
  context.scale(scale, scale);
  context.fillStyle = colours.paper;
  context.fillRect(0, 0, width, total);
  const write = (text, x, y, colour = "ink", font = "13px sans-serif", align = "left") => {
    context.globalAlpha = 1;
    context.fillStyle = colours[colour];
    context.font = font;
    context.textAlign = align;
    context.fillText(text, x, y);
  };
  let y = MARGIN;
  for (const line of headline) write(line, MARGIN, (y += LINE) - 6, "ink", SERIF);
  write(task, MARGIN, y + 12, "muted", SMALL);
  y += 26;
  const place = (draw) => {
    context.save();
    context.translate(left, y);
    draw();
    context.restore();
  };
  // Of narrow columns, every so many rounds has its number.
  const every = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000].find((x) => x * column >= widthOf(context, `${state.rounds.length}`, TINY) + 6) ?? 10000;
  write("round", MARGIN, y + 11, "muted", SMALL);
  place(() => state.rounds.forEach((_, t) => {
    if ((t + 1) % every === 0 || t === 0) write(`${t + 1}`, (t + 0.5) * column, 11, "muted", TINY, "center");
  }));
  y += 16;
  for (const { name, texts, fonts, isUpright, tall } of rows) {
    write(name, MARGIN, y + tall - 5, "muted", SMALL);
    place(() => texts.forEach((text, t) => {
      if (!isUpright) return write(text, (t + 0.5) * column, tall - 5, "ink", fonts[t], "center");
      context.save();
      context.translate((t + 0.5) * column + 3.5, tall - 5);
      context.rotate(-Math.PI / 2);
      write(shortened(context, text, UPRIGHT, fonts[t]), 0, 0, "ink", fonts[t]);
      context.restore();
    }));
    y += tall;
  }
  write("read as do (filled) or see", MARGIN, y + 10, "muted", SMALL);
  place(() => state.episode.rounds.forEach(({ mark }, t) => {
    const w = Math.max(1, column - 2);
    context.fillStyle = context.strokeStyle = colours[mark];
    if (mark === "do") context.fillRect(t * column + 1, 0, w, MARK);
    else context.strokeRect(t * column + 1.5, 0.5, Math.max(0.5, w - 1), MARK - 1);
  }));
  y += MARK + 17;
  for (const { key, name } of parties) {
    write(name, MARGIN, y + 12, "ink", BOLD);
    labels.forEach((label, i) => write(label, left - 8, y + ((i + 0.5) * height) / thetas.length + 4, "muted", TINY, "right"));
    place(() => paintStrip(context, { key, about, state, column, colours }));
    y += height + GAP;
  }
  write("KL(exact do ‖ ·)", MARGIN, y + 12, "ink", BOLD);
  let top = 0;
  place(() => { top = paintChart(context, { about, state, column, colours, height: CHART_HEIGHT }); });
  write(`up to ${top.toPrecision(2)} nats`, MARGIN, y + 28, "muted", SMALL);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}
