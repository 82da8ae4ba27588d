// Latency of batches against their estimated FLOPs, both in powers of ten, and the roofline through it.

import { duration, quantity, scaled } from "./format.js";
import { draw, layoutOf, markEmpty, plain, title } from "./plots.js";
import { colours, faint } from "./theme.js";

// Lines at these shares of the peak; the first is the roofline.
const SHARES = { wide: [1, 0.5, 0.25, 0.1], narrow: [1, 0.1] };
const STEPS_IN_DECADE = [1, 2, 5];
// Pixels under which a plot has room for few words.
const NARROW = 480;

export function drawRoofline(store) {
  const { executed_flops: flops = [], latency_s: latencies = [] } = store.batches;
  if (!markEmpty("roofline-plot", flops.length === 0)) return;
  const theme = colours();
  const { models } = store.told;
  const hues = [theme.blue, theme.violet, theme.teal, theme.red];
  const peak = Math.max(0, ...models.map((model) => model.batch_flops_per_s ?? 0));
  const isNarrow = document.getElementById("roofline-plot").clientWidth < NARROW;
  const shares = peak ? SHARES[isNarrow ? "narrow" : "wide"] : [];
  const x = wider(flops, isNarrow ? 3 : 2);
  const y = wider(peak ? [...latencies, x[0] / peak, Math.min(...flops) / peak] : latencies);
  const isNamed = models.length > 1;

  draw(
    "roofline-plot",
    [
      ...shares.map((share) => lineAt(share, peak, x, theme)),
      ...models.map((model, place) => points(store.batches, model, hues[place % hues.length], isNamed)),
      ...models.map((model) => prediction(model, theme.amber, isNamed)).filter((trace) => trace),
    ],
    layoutOf(
      theme,
      { ...logAxis(x, isNarrow ? 3 : 9, (value) => scaled(value, "FLOP").join(" ")), title: title("estimated FLOPs, padding included", theme) },
      { ...logAxis(y, 9, (value) => duration(value).join(" ")), title: title("latency", theme) },
      {
        hovermode: "closest",
        margin: { l: isNarrow ? 62 : 74, r: 14, t: 28, b: 48 },
        annotations: [
          ...shares.map((share) => label(share, peak, x, y, theme)).filter((each) => each),
          ...(peak ? [shade(isNarrow ? "above the peak" : "faster than the peak allows", theme)] : []),
        ],
      },
    ),
  );
  document.getElementById("roofline-note").textContent = noteOn(models, peak);
}

function points(batches, model, colour, isNamed) {
  const places = batches.model.flatMap((name, place) => (name === model.name ? [place] : []));
  const pick = (column) => places.map((place) => batches[column][place]);
  const [shapes, tokens, rows] = [pick("shape"), pick("real_tokens"), pick("rows")];
  return {
    name: isNamed ? `batches of ${plain(model.name)}` : "measured batches",
    x: pick("executed_flops"),
    y: pick("latency_s"),
    mode: "markers",
    type: "scatter",
    marker: { color: colour, size: 6, opacity: 0.35, line: { width: 0 } },
    text: places.map((_, place) => `${rows[place]} text${rows[place] === 1 ? "" : "s"}, ${tokens[place]} tokens, ${isPacked(model) ? `end to end, bucket of ${shapes[place][1]}` : `run as ${shapes[place].join(" × ")}`}`),
    hovertemplate: "%{y:.3~s}s for %{x:.3~s}FLOP<br>%{text}<extra></extra>",
  };
}

// What is below the roofline is shaded: no batch can be there.
function lineAt(share, peak, x, theme) {
  const isPeak = share === 1;
  return {
    name: "roofline",
    x,
    y: x.map((flops) => flops / (peak * share)),
    mode: "lines",
    line: { color: isPeak ? theme.text : theme.grey, width: isPeak ? 2.5 : 1, dash: isPeak ? "solid" : "dot" },
    fill: isPeak ? "tozeroy" : "none",
    fillcolor: faint(theme.grey),
    showlegend: isPeak,
    hoverinfo: "skip",
  };
}

function prediction(model, colour, isNamed) {
  const { roofline } = model;
  if (!roofline?.is_complete || !roofline.flops.length) return null;
  return {
    name: isNamed ? `predicted for ${plain(model.name)}` : "predicted latency",
    x: roofline.flops,
    y: roofline.seconds,
    mode: "markers",
    marker: { color: colour, size: 9, symbol: "line-ew-open", line: { width: 2.5 } },
    text: roofline.bound.map((bound) => `bound by ${bound}`),
    hovertemplate: "predicted %{y:.3~s}s for %{x:.3~s}FLOP<br>%{text}<extra></extra>",
  };
}

// A share of the peak, written where its line leaves the plot: at the top, or at the right.
function label(share, peak, x, y, theme) {
  const atTop = y[1] * peak * share;
  const isAtTop = atTop < x[1];
  const [flops, seconds] = isAtTop ? [atTop, y[1]] : [x[1], x[1] / (peak * share)];
  if (flops < x[0] * 1.1 || seconds < y[0] * 1.1) return null;
  return {
    x: Math.log10(flops),
    y: Math.log10(seconds),
    xanchor: "right",
    yanchor: isAtTop ? "top" : "bottom",
    text: `${share * 100} %`,
    showarrow: false,
    font: { color: share === 1 ? theme.text : theme.muted, size: 12 },
  };
}

// What the shaded corner below the roofline means.
function shade(text, theme) {
  const corner = { xref: "paper", x: 1, xanchor: "right", yref: "paper", y: 0.01, yanchor: "bottom" };
  return { ...corner, text, showarrow: false, font: { color: theme.muted, size: 12 } };
}

// A logarithmic axis with ticks at 1, 2 and 5 of each decade, or at its powers alone where those would be too many.
function logAxis(range, most, write) {
  const decades = [];
  for (let power = Math.floor(Math.log10(range[0])); power <= Math.log10(range[1]); power += 1) decades.push(10 ** power);
  const all = decades.flatMap((decade) => STEPS_IN_DECADE.map((step) => step * decade)).filter((tick) => tick >= range[0] && tick <= range[1]);
  const ticks = all.length > most ? decades.filter((tick) => tick >= range[0]) : all;
  return { type: "log", range: range.map(Math.log10), tickvals: ticks, ticktext: ticks.map(write) };
}

function noteOn(models, peak) {
  if (!peak) return "The peak of this device is not measured, so that there is no roofline to draw.";
  const known = models.filter((model) => model.batch_flops_per_s);
  const each = known.map((model) => `${quantity(model.batch_flops_per_s, "FLOP/s")} in ${model.precision}${known.length > 1 ? ` for ${model.name}` : ""}`);
  const side = Math.max(...known.flatMap((model) => model.replicas.map((replica) => replica.parallel)));
  const part = side > 1 ? `the part of the replica’s that each of ${side} batches side by side has` : "all of the replica’s";
  const isPredicted = models.some((model) => model.roofline?.is_complete) || models.every(isPacked);
  const hint = isPredicted ? "" : " For predicted latencies, run ridgeline devices --calibrate on this machine and start the server again.";
  return `100 % is the measured peak: ${each.join(", ")}, ${part}.${hint}`;
}

// Packed batches have no rows, and nothing calibrates them.
function isPacked(model) {
  return model.runtime === "triton";
}

// The range of the values with room around: on the right, that of the lines' labels.
function wider(values, room = 1.5) {
  const known = values.filter((value) => value > 0);
  return [Math.min(...known) / 1.5, Math.max(...known) * room];
}
