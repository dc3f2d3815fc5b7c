// The predictions of real numbers: the density of each number, by party.
import { readColours, sized } from "./score.js";
import { $, look } from "./state.js";

// Pixels: a drawing, and the room for its scale.
const WIDTH = 300, HEIGHT = 110, SCALE = 18;

export const clearDensities = () => { $("densities").hidden = true; };

export function drawDensities({ about, state }, { grid, parties }, t, outcome) {
  const colours = readColours(), i = state.rounds[t]?.[outcome ? 1 : 0] ?? null, what = outcome ? "outcome" : "next action";
  const taken = i === null ? null : [(outcome ? about.observations : about.actions)[i].value].flat(Infinity);
  $("densities").hidden = grid.length === 0;
  $("densities").replaceChildren(...grid.map((xs, d) => {
    const figure = document.createElement("figure"), canvas = document.createElement("canvas");
    const curves = Object.entries(parties).map(([key, rows]) => [key, rows[d]]);
    paint(sized(canvas, WIDTH, HEIGHT), xs, curves, taken?.[d], colours);
    canvas.setAttribute("role", "img");
    canvas.ariaLabel = `Density of ${name(grid.length, d, what)} for each party; the table has mean and deviation.`;
    const caption = document.createElement("figcaption");
    caption.textContent = `Density of ${name(grid.length, d, what)}${taken ? `; the line is what ${outcome ? "happened" : "was taken"}, ${taken[d].toFixed(3)}` : ""}`;
    figure.append(canvas, caption);
    return figure;
  }));
}

const name = (size, d, what) => (size > 1 ? `number ${d + 1} of the ${what}` : `the ${what}`);

function paint(context, xs, curves, taken, colours) {
  const low = xs[0], high = xs.at(-1), floor = HEIGHT - SCALE;
  // A party whose density is narrow must not flatten the others: the height is a square root.
  const top = Math.sqrt(Math.max(...curves.flatMap(([, ys]) => ys)));
  const x = (value) => ((value - low) / (high - low)) * WIDTH, y = (density) => floor - (Math.sqrt(density) / top) * (floor - 4);
  context.strokeStyle = colours.rule;
  context.strokeRect(0.5, 0.5, WIDTH - 1, floor - 1);
  for (const [key, ys] of curves) {
    const [colour, dashes] = look(key);
    context.strokeStyle = colours[colour];
    context.lineWidth = key === "marked" ? 2.6 : 1.6;
    context.setLineDash(dashes);
    context.beginPath();
    ys.forEach((density, i) => (i ? context.lineTo(x(xs[i]), y(density)) : context.moveTo(x(xs[i]), y(density))));
    context.stroke();
  }
  context.setLineDash([]);
  context.fillStyle = colours.ink;
  if (taken !== undefined) context.fillRect(x(taken) - 0.75, 0, 1.5, floor);
  context.fillStyle = colours.muted;
  context.font = "11px sans-serif";
  const write = (value, at, align) => {
    context.textAlign = align;
    context.fillText(value.toFixed(2), at, HEIGHT - 4);
  };
  write(low, 0, "left");
  write(high, WIDTH, "right");
}
