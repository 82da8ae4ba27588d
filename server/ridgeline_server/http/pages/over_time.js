// The plots over the last minutes.

import { byId, element } from "./dom.js";
import { duration } from "./format.js";
import { draw, layoutOf, markEmpty } from "./plots.js";
import { colours, faint } from "./theme.js";

// The plots begin a minute wide, and grow with what there is to show: seconds of the whole axis, and between ticks.
const SPANS_S = [[60, 20], [120, 30], [300, 60]];
const STEPS = { receive: "grey", tokenize: "violet", queue: "amber", compute: "blue", reply: "teal" };
const Y = { rangemode: "tozero", nticks: 5 };
const MILLISECONDS = { ...Y, ticksuffix: " ms" };
const PERCENT = { ...Y, tickformat: ".0%" };

export function drawOverTime(store) {
  const theme = colours();
  const ages = store.ages();
  const x = timeAxis(-(ages[0] ?? 0));
  // hover: how a value is told, as Plotly's templates say it
  const line = (name, column, colour, hover, more = {}) => ({
    name,
    x: ages,
    y: column,
    mode: "lines",
    line: { color: colour, width: 2, ...more.line },
    hovertemplate: `${name} ${hover}<extra></extra>`,
    fill: more.isFilled ? "tozeroy" : "none",
    fillcolor: faint(colour),
    connectgaps: more.isConnected ?? false,
  });
  const { slots } = store;
  drawThroughput(theme, x, slots, line);
  drawLatency(theme, x, store, line);
  drawUse(theme, x, store, line);
  drawSteps(theme, x, store, ages);
  draw(
    "queue-plot",
    [
      line("most", slots.most_queued, theme.grey, "%{y}", { line: { width: 1, dash: "dot" }, isConnected: true }),
      line("mean", slots.queued, theme.amber, "%{y:.3~g}", { isFilled: true, isConnected: true }),
    ],
    layoutOf(theme, x, Y),
  );
}

function drawThroughput(theme, x, slots, line) {
  const problems = [["refused (429)", slots.refused_per_s, theme.amber], ["failed", slots.failed_per_s, theme.red]].filter(
    ([, rates = []]) => rates.some((rate) => rate > 0),
  );
  draw(
    "throughput-plot",
    [
      line("answered", slots.requests_per_s, theme.blue, "%{y:.4~g}/s", { isFilled: true }),
      ...problems.map(([name, rates, colour]) => line(name, rates, colour, "%{y:.4~g}/s")),
    ],
    layoutOf(theme, x, Y, { showlegend: problems.length > 0 }),
  );
}

function drawLatency(theme, x, store, line) {
  if (!markEmpty("latency-plot", !store.has("p50_s"))) return;
  const shares = [["p99", theme.red], ["p90", theme.violet], ["p50", theme.blue]];
  draw(
    "latency-plot",
    shares.map(([name, colour]) => line(name, milliseconds(store.slots[`${name}_s`]), colour, "%{y:.3~r} ms")),
    layoutOf(theme, x, MILLISECONDS, { legend: { traceorder: "reversed" } }),
  );
}

function drawUse(theme, x, store, line) {
  if (!markEmpty("use-plot", !store.has("padding_waste"))) return;
  const { mfu, hfu, padding_waste: waste } = store.slots;
  draw(
    "use-plot",
    [
      line("padding", waste, theme.amber, "%{y:.1%}", { line: { dash: "dot" } }),
      line("HFU", hfu, theme.sky, "%{y:.1%}"),
      line("MFU", mfu, theme.blue, "%{y:.1%}"),
    ],
    layoutOf(theme, x, PERCENT, { legend: { traceorder: "reversed" } }),
  );
}

// Mean time of requests in each step; the key holds the last ten seconds' means.
function drawSteps(theme, x, store, ages) {
  if (!markEmpty("steps-plot", !store.has("compute_s"))) return;
  const names = Object.keys(STEPS);
  draw(
    "steps-plot",
    names.map((step) => ({
      name: step,
      type: "bar",
      x: ages,
      y: milliseconds(store.slots[`${step}_s`]),
      marker: { color: theme[STEPS[step]], line: { width: 0 } },
      hovertemplate: `${step} %{y:.3~r} ms<extra></extra>`,
    })),
    layoutOf(theme, x, MILLISECONDS, { barmode: "stack", bargap: 0, showlegend: false }),
  );
  const means = store.told.window.steps_s;
  byId("steps-key").replaceChildren(
    ...names.map((step) => {
      const entry = element("div", "", element("dt", "", step), element("dd", "", duration(means[step]).join(" ")));
      entry.style.setProperty("--key", `var(--${STEPS[step]})`);
      return entry;
    }),
  );
}

function milliseconds(column) {
  return column.map((seconds) => (seconds === null ? null : seconds * 1e3));
}

// known_s: seconds for which there is something to show
function timeAxis(known_s) {
  const [span, step] = SPANS_S.find(([each]) => each >= known_s) ?? SPANS_S.at(-1);
  const ticks = Array.from({ length: span / step + 1 }, (_, place) => -place * step);
  return { range: [-span, 0], tickvals: ticks, ticktext: ticks.map(said), showgrid: false, unifiedhovertitle: { text: "%{x:.0f} s" } };
}

function said(seconds) {
  if (!seconds) return "now";
  return seconds % 60 ? `−${-seconds} s` : `−${-seconds / 60} min`;
}
