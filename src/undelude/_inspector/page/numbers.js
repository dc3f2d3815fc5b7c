// Fields for real numbers: what a person gives, and the numbers of the round at the cursor, which may be edited.
import { $ } from "./state.js";

// Return nested lists of a shape.
function shaped(numbers, [first, ...rest]) {
  if (first === undefined) return numbers[0];
  const size = numbers.length / first;
  return Array.from({ length: first }, (_, i) => shaped(numbers.slice(i * size, (i + 1) * size), rest));
}

const sizeOf = (shape) => shape.reduce((x, y) => x * y, 1);

function field(text, value) {
  const label = document.createElement("label"), input = document.createElement("input");
  Object.assign(input, { type: "number", step: "any", required: true, value });
  label.append(text, input);
  return [label, input];
}

// A form with a field for each number of a value, and a button.
export function numbersForm({ shape }, done) {
  const form = document.createElement("form"), size = sizeOf(shape);
  form.className = "seats";
  const fields = Array.from({ length: size }, (_, i) => field(size > 1 ? `number ${i + 1} ` : "the number ", "0"));
  form.append(...fields.map(([label]) => label), Object.assign(document.createElement("button"), { textContent: "Give it" }));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    done(shaped(fields.map(([, input]) => Number(input.value)), shape));
  });
  return form;
}

// Show fields with the numbers of a value in place of a select, if `of` says their shape; a value of null has no fields.
// What is typed counts when the field is left or Enter is pressed.
export function editNumbers(id, title, of, value, done) {
  const box = $(`${id}-numbers`), numbers = [value].flat(Infinity);
  $(id).closest("label").hidden = !!of || value === null || value === undefined;
  box.hidden = !of || value === null;
  if (box.hidden) return box.replaceChildren();
  if (box.children.length !== numbers.length) {
    box.replaceChildren(...numbers.map((_, i) => field(numbers.length > 1 ? `${title} ${i + 1} ` : `${title} `, "")[0]));
  }
  const inputs = [...box.querySelectorAll("input")];
  inputs.forEach((input, i) => {
    input.value = numbers[i];
    input.onchange = () => {
      if (input.validity.valid) done(shaped(inputs.map((x) => Number(x.value)), of.shape));
      else input.value = numbers[i];
    };
  });
}
