// Each model's plan and why, and its replicas.

import { byId, element } from "./dom.js";
import { quantity, UNKNOWN } from "./format.js";

const HEADINGS = ["replica", "state", "process", "running", "restarts", "peak"];

export function showModels(models) {
  byId("models").replaceChildren(...models.map(card));
}

function card(model) {
  const plan = `${model.variant} on ${model.runtime}, matmuls in ${model.precision}; ${model.dim} dimensions, up to ${model.max_tokens} tokens. ${model.why}`;
  const heads = HEADINGS.map((name) => element("th", name === "peak" ? "peak" : "", name));
  const rows = model.replicas.map((replica) => element("tr", "", ...cells(replica)));
  const table = element("table", "", element("thead", "", element("tr", "", ...heads)), element("tbody", "", ...rows));
  return element("div", "model", element("h3", "", model.name), element("p", "why", plan), element("div", "scrolling", table));
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
