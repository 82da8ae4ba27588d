// The box that asks a model for what it can do, and says what that took.

import { byId, element } from "./dom.js";
import { digits, duration, percent, scaled, UNKNOWN } from "./format.js";
import { TRIALS } from "./trial_tasks.js";

const STEPS = ["receive", "tokenize", "queue", "compute", "reply"];

let models = [];
let offered = ""; // what the choices were made of
let shown = null; // {model, task} that the fields are for

export function prepareTrial() {
  const form = byId("trial");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    answer(form);
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  byId("trial-model").addEventListener("change", offerTasks);
  byId("trial-task").addEventListener("change", showFields);
}

// What is typed stays as long as the models are the same.
export function offerModels(told) {
  models = told.filter((model) => tasksOf(model).length > 0);
  const facts = JSON.stringify(models.map((model) => [model.name, tasksOf(model), model.mask_token]));
  if (facts === offered) return;
  offered = facts;
  byId("trial-none").hidden = models.length > 0;
  byId("trial").hidden = models.length === 0;
  choose("trial-model", models.map((model) => [model.name, model.name]));
  offerTasks();
}

function tasksOf(model) {
  return Object.keys(TRIALS).filter((task) => model.tasks.includes(task));
}

function offerTasks() {
  const model = models.find((each) => each.name === byId("trial-model").value);
  choose("trial-task", model ? tasksOf(model).map((task) => [task, TRIALS[task].title]) : []);
  showFields();
}

// Puts choices, [value, text] each, into a box that is shown where there are several; the chosen one stays.
function choose(id, choices) {
  const select = byId(id);
  const before = select.value;
  select.replaceChildren(...choices.map(([value, text]) => {
    const option = element("option", "", text);
    option.value = value;
    return option;
  }));
  if (choices.some(([value]) => value === before)) select.value = before;
  byId(`${id}-label`).hidden = choices.length < 2;
}

function showFields() {
  const model = models.find((each) => each.name === byId("trial-model").value);
  const task = byId("trial-task").value;
  if (!model || !task || (shown?.task === task && shown.model.name === model.name && shown.model.mask_token === model.mask_token)) return;
  shown = { model, task };
  const trial = TRIALS[task];
  byId("trial-fields").replaceChildren(...trial.fields.map((field) => box(field, model)));
  byId("trial").querySelector("button").textContent = trial.button;
  byId("trial-answer").replaceChildren();
}

function box(field, model) {
  const input = document.createElement(field.isCheck ? "input" : "textarea");
  input.id = `trial-${field.name}`;
  if (field.isCheck) {
    input.type = "checkbox";
    input.checked = field.value(model);
    return element("label", "check", input, ` ${field.label}`);
  }
  input.rows = field.rows;
  input.required = !field.isOptional;
  input.value = field.value(model);
  input.dir = "auto";
  const hint = field.hint ? [element("small", "", field.hint(model))] : [];
  return element("label", field.isWide ? "wide" : "", `${field.label} `, input, ...hint);
}

async function answer(form) {
  const asked = shown;
  const button = form.querySelector("button");
  let parts;
  button.disabled = true;
  try {
    parts = await ask(byId("trial-model").value, asked.task);
  } catch (error) {
    parts = [element("p", "failure", `No answer: ${error.message}`)];
  } finally {
    button.disabled = false;
  }
  if (shown === asked) byId("trial-answer").replaceChildren(...parts); // else it is of a form that is gone
}

async function ask(model, task) {
  const trial = TRIALS[task];
  const given = Object.fromEntries(trial.fields.map(({ name, isCheck }) => {
    const input = byId(`trial-${name}`);
    return [name, isCheck ? input.checked : input.value];
  }));
  const began = performance.now();
  const response = await fetch(`/tasks/${task}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model, ...trial.body(given) }),
  });
  const told = await response.json().catch(() => ({}));
  const seconds = (performance.now() - began) / 1e3;
  if (!response.ok) throw new Error(told.error ?? `status ${response.status}`);
  const views = (await trial.show?.(told.outputs, given, model)) ?? [];
  const facts = [...(trial.facts?.(told.outputs) ?? []), ...costs(told, seconds, response.headers.get("server-timing") ?? "")];
  return [...views, element("dl", "answer", ...facts.map(([name, value, beside]) =>
    element("div", "", element("dt", "", name), element("dd", "", value, element("small", "", beside)))))];
}

function costs(told, seconds, header) {
  const timing = timings(header);
  const steps = STEPS.filter((step) => timing.has(step)).map((step) => `${step} ${digits(timing.get(step))}`);
  const cost = told.ridgeline ?? {};
  return [
    ["Answered in", duration(seconds).join(" "), "as this page measured it"],
    ["In the server", `${digits(timing.get("total"))} ms`, steps.join(", ")],
    ["Estimated work", scaled(cost.flops, "FLOP").join(" "), `${told.usage.tokens} tokens${told.usage.truncated ? `, ${told.usage.truncated} cut` : ""}`],
    ["Share of peak", cost.share_of_peak == null ? UNKNOWN : `${percent(cost.share_of_peak)} %`, cost.predicted_s == null ? "" : `predicted ${duration(cost.predicted_s).join(" ")}, ran ${duration(cost.measured_s).join(" ")}`],
  ];
}

// Milliseconds by name out of a Server-Timing header.
function timings(header) {
  return new Map([...header.matchAll(/([a-z]+);dur=([0-9.]+)/g)].map(([, name, milliseconds]) => [name, Number(milliseconds)]));
}
