// The figures of the last ten seconds.

import { byId, write, writeFigure } from "./dom.js";
import { age, count, digits, duration, percent, quantity } from "./format.js";

// Names of models for which there is room at the top.
const MOST_NAMES = 8;

export function showTiles(told) {
  const window = told.window;
  const share = (value) => (value === null ? ["–", ""] : [percent(value), "%"]);
  writeFigure("throughput", [digits(window.requests_per_s), "requests/s"]);
  write("throughput-beside", flow(window));
  writeFigure("latency", duration(window.p50_s));
  write("latency-beside", window.p50_s === null ? "no request in 10 s" : tail(window));
  writeFigure("mfu", share(window.mfu));
  write("mfu-beside", `${quantity(window.flops_per_s, "FLOP/s")} of work`);
  writeFigure("hfu", share(window.hfu));
  writeFigure("padding", share(window.padding_waste));
  const sum = (name) => told.models.reduce((total, model) => total + model[name], 0);
  writeFigure("waiting", [digits(sum("queued_sequences")), "texts"]);
  write("waiting-beside", window.refused_per_s ? `${digits(window.refused_per_s)} refused/s` : `${count(sum("queued_tokens"))} tokens`);
  byId("plan").textContent = plans(told.models);
  write("clock", `Up for ${age(told.uptime_s)}. Figures are of the last ${digits(window.seconds)} s, plots of five minutes.`);
}

// Of a model or two the plans, of more the names alone.
function plans(models) {
  if (models.length < 3) return models.map((model) => `${model.name}, ${model.variant} on ${model.runtime}`).join(" · ");
  const names = models.slice(0, MOST_NAMES).map((model) => model.name);
  const more = models.length > MOST_NAMES ? ` and ${models.length - MOST_NAMES} more` : "";
  return `${models.length} models: ${names.join(", ")}${more}`;
}

// Both percentiles, with the unit once where they share it.
function tail(window) {
  const [[p90, unit], [p99, last]] = [duration(window.p90_s), duration(window.p99_s)];
  return unit === last ? `p90 ${p90}, p99 ${p99} ${last}` : `p90 ${p90} ${unit}, p99 ${p99} ${last}`;
}

// Texts where requests hold more than one each, and tokens.
function flow(window) {
  const tokens = `${count(window.tokens_per_s)} tokens/s`;
  return window.texts_per_s > 1.05 * window.requests_per_s ? `${count(window.texts_per_s)} texts, ${tokens}` : tokens;
}
