// The box that embeds one text or two, and says what that took.

import { byId, element } from "./dom.js";
import { digits, duration, percent, quantity, scaled, UNKNOWN } from "./format.js";

const STEPS = ["receive", "tokenize", "queue", "compute", "reply"];

export function prepareTrial() {
  const form = byId("trial");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    embed(form);
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
}

export function offerModels(models) {
  const select = byId("trial-model");
  const names = models.map((model) => model.name);
  if (names.join("\n") === [...select.options].map((option) => option.value).join("\n")) return;
  select.replaceChildren(...names.map((name) => element("option", "", name)));
  byId("trial-model-label").hidden = names.length < 2;
}

async function embed(form) {
  const button = form.querySelector("button");
  const texts = ["trial-first", "trial-second"].map((id) => byId(id).value).filter((text) => text.trim());
  button.disabled = true;
  try {
    byId("trial-answer").replaceChildren(await ask(byId("trial-model").value, texts));
  } catch (error) {
    byId("trial-answer").replaceChildren(element("p", "failure", `No answer: ${error.message}`));
  } finally {
    button.disabled = false;
  }
}

async function ask(model, input) {
  const began = performance.now();
  const response = await fetch("/v1/embeddings", {
    method: "POST",
    headers: { "content-type": "application/json", "x-ridgeline-cost": "body" },
    body: JSON.stringify({ model, input }),
  });
  const told = await response.json();
  const seconds = (performance.now() - began) / 1e3;
  if (!response.ok) throw new Error(told.error?.message ?? `status ${response.status}`);
  const vectors = told.data.map((each) => each.embedding);
  const timing = timings(response.headers.get("server-timing") ?? "");
  const steps = STEPS.filter((step) => timing.has(step)).map((step) => `${step} ${digits(timing.get(step))}`);
  const cost = told.ridgeline ?? {};
  const facts = [
    ["Answered in", duration(seconds).join(" "), "as this page measured it"],
    ["In the server", `${digits(timing.get("total"))} ms`, steps.join(", ")],
    ["Estimated work", scaled(cost.flops, "FLOP").join(" "), `${told.usage.total_tokens} tokens`],
    ["Share of peak", cost.share_of_peak == null ? UNKNOWN : `${percent(cost.share_of_peak)} %`, cost.predicted_s == null ? "" : `predicted ${duration(cost.predicted_s).join(" ")}, ran ${duration(cost.measured_s).join(" ")}`],
    ["Embedding", `${vectors[0].length} numbers`, `[${vectors[0].slice(0, 3).map((each) => each.toFixed(3)).join(", ")}, …]`],
  ];
  if (vectors.length === 2) facts.unshift(["Cosine similarity", cosine(...vectors).toFixed(3), "1 = the same direction"]);
  return element("dl", "answer", ...facts.map(([name, value, beside]) =>
    element("div", "", element("dt", "", name), element("dd", "", value, element("small", "", beside)))));
}

// Milliseconds by name out of a Server-Timing header.
function timings(header) {
  return new Map([...header.matchAll(/([a-z]+);dur=([0-9.]+)/g)].map(([, name, milliseconds]) => [name, Number(milliseconds)]));
}

function cosine(a, b) {
  const dot = (u, v) => u.reduce((sum, value, place) => sum + value * v[place], 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}
