// Each model's plan and why, and its replicas.

import { byId, element } from "./dom.js";
import { quantity, UNKNOWN } from "./format.js";
import { HUES } from "./theme.js";

const HEADINGS = ["replica", "state", "process", "running", "restarts", "peak"];
// Of the first models' points, of those after them, whose colours are the same again, and so on.
export const SHAPES = ["circle", "diamond", "triangle-up"];
// Names of models whose reasons somebody opened: the table is made anew with every answer.
const open = new Set();

export function showModels(models) {
  const heads = HEADINGS.map((name) => element("th", name === "peak" ? "peak" : "", name));
  const bodies = models.map((model, place) => body(model, place, models.length > 1));
  byId("models").replaceChildren(element("table", "models", element("thead", "", element("tr", "", ...heads)), ...bodies));
}

function body(model, place, areSeveral) {
  const plan = `${model.variant} on ${model.runtime}, matmuls in ${model.precision}; ${model.dim} dimensions, up to ${model.max_tokens} tokens.`;
  const name = element("h3", "", model.name, element("small", "", model.task));
  if (areSeveral) name.prepend(swatch("point", place));
  const about = element("th", "model", name, ...(areSeveral ? [reasons(model, plan)] : [element("p", "why", `${plan} ${model.why}`)]));
  about.colSpan = HEADINGS.length;
  return element("tbody", "", element("tr", "", about), ...model.replicas.map((replica) => element("tr", "", ...cells(replica))));
}

function reasons(model, plan) {
  const details = element("details", "why", element("summary", "", plan), element("p", "", model.why));
  details.open = open.has(model.name);
  details.addEventListener("toggle", () => (details.open ? open.add(model.name) : open.delete(model.name)));
  return details;
}

// A model's colour, as the plots have it. kind: "point", "line" or "dash"; place: of the model; none = the text's colour
export function swatch(kind, place = null) {
  const made = element("span", `swatch ${kind}`);
  made.setAttribute("aria-hidden", "true");
  if (place !== null) {
    made.style.setProperty("--key", `var(--model-${(place % HUES) + 1})`);
    made.classList.add(SHAPES[Math.floor(place / HUES) % SHAPES.length]);
  }
  return made;
}

function cells(replica) {
  return [
    element("td", "", `${replica.index} (${replica.device})`),
    element("td", "", element("span", `replica-state ${replica.state}`, replica.state)),
    element("td", "", String(replica.pid ?? UNKNOWN)),
    element("td", "", `${replica.in_flight}`),
    element("td", "", String(replica.restarts)),
    element("td", "peak", quantity(replica.peak_flops_per_s, "FLOP/s")),
  ];
}
