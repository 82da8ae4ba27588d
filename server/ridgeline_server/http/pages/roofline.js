// Latency of batches against their estimated FLOPs, both in powers of ten, and the roofline through it.

import { byId, element } from "./dom.js";
import { duration, quantity, scaled } from "./format.js";
import { SHAPES, swatch } from "./models.js";
import { draw, layoutOf, markEmpty, plain, title } from "./plots.js";
import { colours, faint, HUES } from "./theme.js";

// Lines at these shares of the peak; the first is the roofline.
const SHARES = { wide: [1, 0.5, 0.25, 0.1], narrow: [1, 0.1] };
const STEPS_IN_DECADE = [1, 2, 5];
// Pixels under which a plot has room for few words.
const NARROW = 480;
// A label such as "100 %", in pixels.
const LABEL = { width: 38, height: 18 };

export function drawRoofline(store) {
  const { executed_flops: flops = [], latency_s: latencies = [] } = store.batches;
  if (!markEmpty("roofline-plot", flops.length === 0)) return;
  const theme = colours();
  const { models } = store.told;
  const peak = Math.max(0, ...models.map((model) => model.batch_flops_per_s ?? 0));
  showKey(models, store.batches, peak);
  const box = document.getElementById("roofline-plot");
  const isNarrow = box.clientWidth < NARROW;
  const shares = peak ? SHARES[isNarrow ? "narrow" : "wide"] : [];
  const x = wider(flops, isNarrow ? 3 : 2);
  const y = wider(peak ? [...latencies, x[0] / peak, Math.min(...flops) / peak] : latencies);
  const margin = { l: isNarrow ? 62 : 74, r: 14, t: 12, b: 48 };
  const size = [box.clientWidth - margin.l - margin.r, box.clientHeight - margin.t - margin.b];

  draw(
    "roofline-plot",
    [
      ...shares.map((share) => lineAt(share, peak, x, theme)),
      ...models.map((model, place) => points(store.batches, model, place, theme, models.length > 1)),
      ...models.flatMap((model, place) => prediction(model, place, theme, models.length > 1)),
    ],
    layoutOf(
      theme,
      { ...logAxis(x, isNarrow ? 3 : 9, (value) => scaled(value, "FLOP").join(" ")), title: title("estimated FLOPs, padding included", theme) },
      { ...logAxis(y, 9, (value) => duration(value).join(" ")), title: title("latency", theme) },
      { hovermode: "closest", showlegend: false, margin, annotations: peak ? labels(shares, peak, x, y, size, theme) : [] },
    ),
  );
  document.getElementById("roofline-note").textContent = noteOn(models, peak);
}

// One entry for each model that is drawn; what a dash is stands there once.
function showKey(models, batches, peak) {
  const drawn = models.map((model, place) => [model, place]).filter(([model]) => batches.model.includes(model.name) || isPredicted(model));
  const entry = (mark, text) => {
    const made = element("li", "", mark, element("span", "name", text));
    made.title = text;
    return made;
  };
  byId("roofline-key").replaceChildren(
    ...(peak ? [entry(swatch("line"), "roofline")] : []),
    ...drawn.map(([model, place]) => entry(swatch("point", place), models.length > 1 ? model.name : "measured batches")),
    ...(models.some(isPredicted) ? [entry(swatch("dash", models.length > 1 ? null : 0), "predicted latency")] : []),
  );
}

function points(batches, model, index, theme, isNamed) {
  const places = batches.model.flatMap((name, place) => (name === model.name ? [place] : []));
  const pick = (column) => places.map((place) => batches[column][place]);
  const [shapes, tokens, rows] = [pick("shape"), pick("real_tokens"), pick("rows")];
  return {
    name: plain(model.name),
    x: pick("executed_flops"),
    y: pick("latency_s"),
    mode: "markers",
    type: "scatter",
    marker: { color: theme.models[index % HUES], symbol: SHAPES[Math.floor(index / HUES) % SHAPES.length], size: 6, opacity: 0.45, line: { width: 0 } },
    text: places.map((_, place) => `${rows[place]} text${rows[place] === 1 ? "" : "s"}, ${tokens[place]} tokens, ${isPacked(model) ? `end to end, bucket of ${shapes[place][1]}` : `run as ${shapes[place].join(" × ")}`}${whose(model, isNamed)}`),
    hovertemplate: "%{y:.3~s}s for %{x:.3~s}FLOP<br>%{text}<extra></extra>",
  };
}

function whose(model, isNamed) {
  return isNamed ? `<br>${plain(model.name)}` : "";
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

function isPredicted(model) {
  return Boolean(model.roofline?.is_complete && model.roofline.flops.length);
}

// Dashes in the model's colour; a wider one in the card's lets them stand out of the points.
function prediction(model, index, theme, isNamed) {
  if (!isPredicted(model)) return [];
  const { roofline } = model;
  const dashes = (name, colour, size, width) => ({
    name,
    x: roofline.flops,
    y: roofline.seconds,
    mode: "markers",
    type: "scatter",
    marker: { color: colour, size, symbol: "line-ew-open", line: { width } },
    text: roofline.bound.map((bound) => `bound by ${bound}${whose(model, isNamed)}`),
    hovertemplate: "predicted %{y:.3~s}s for %{x:.3~s}FLOP<br>%{text}<extra></extra>",
  });
  return [
    { ...dashes("", theme.card, 13, 5), hoverinfo: "skip", hovertemplate: null },
    dashes(`predicted for ${plain(model.name)}`, theme.models[index % HUES], 11, 2.5),
  ];
}

// Shares of the peak, written where their lines leave the plot, at the top or at the right, and what the shaded corner
// below the roofline means; those that would cover another are left out, the roofline's own last.
// size: width and height of the plot's inner part, in pixels
function labels(shares, peak, x, y, size, theme) {
  const corner = { xref: "paper", x: 1, xanchor: "right", yref: "paper", y: 0.01, yanchor: "bottom" };
  const made = [{ ...corner, text: size[0] < NARROW ? "above the peak" : "faster than the peak allows", showarrow: false, font: { color: theme.muted, size: 12 } }];
  const taken = [{ left: size[0] - (size[0] < NARROW ? 100 : 170), right: size[0], top: size[1] - 18, bottom: size[1] }];
  const part = (value, [low, high]) => Math.log(value / low) / Math.log(high / low);
  for (const share of shares) {
    const atTop = y[1] * peak * share;
    const isAtTop = atTop < x[1];
    const [flops, seconds] = isAtTop ? [atTop, y[1]] : [x[1], x[1] / (peak * share)];
    if (flops < x[0] * 1.1 || seconds < y[0] * 1.1) continue;
    const [right, edge] = [part(flops, x) * size[0], (1 - part(seconds, y)) * size[1]];
    const top = isAtTop ? edge : edge - LABEL.height;
    const area = { left: right - LABEL.width, right, top, bottom: top + LABEL.height };
    if (taken.some((other) => area.left < other.right && other.left < area.right && area.top < other.bottom && other.top < area.bottom)) continue;
    taken.push(area);
    made.push({
      x: Math.log10(flops),
      y: Math.log10(seconds),
      xanchor: "right",
      yanchor: isAtTop ? "top" : "bottom",
      text: `${share * 100} %`,
      showarrow: false,
      bgcolor: faint(theme.card, 0.8),
      borderpad: 1,
      font: { color: share === 1 ? theme.text : theme.muted, size: 12 },
    });
  }
  return made;
}

// A logarithmic axis with ticks at 1, 2 and 5 of each decade, or at its powers, or some of them, where those would be too many.
function logAxis(range, most, write) {
  const decades = [];
  for (let power = Math.floor(Math.log10(range[0])); power <= Math.log10(range[1]); power += 1) decades.push(10 ** power);
  const all = decades.flatMap((decade) => STEPS_IN_DECADE.map((step) => step * decade)).filter((tick) => tick >= range[0] && tick <= range[1]);
  const powers = decades.filter((tick) => tick >= range[0]);
  const ticks = all.length > most ? powers.filter((_, place) => place % Math.ceil(powers.length / most) === 0) : all;
  return { type: "log", range: range.map(Math.log10), tickvals: ticks, ticktext: ticks.map(write) };
}

function noteOn(models, peak) {
  if (!peak) return "The peak of this device is not measured, so that there is no roofline to draw.";
  const known = models.filter((model) => model.batch_flops_per_s);
  const best = known.find((model) => model.batch_flops_per_s === peak);
  const side = Math.max(...best.replicas.map((replica) => replica.parallel));
  const part = side > 1 ? `the part of the replica’s that each of ${side} batches side by side has` : "all of the replica’s";
  const others = known.length > 1 ? ` It is that of ${best.name}; the other models’ stand below.` : "";
  const isTold = models.some(isPredicted) || models.every(isPacked);
  const hint = isTold ? "" : " For predicted latencies, run ridgeline devices --calibrate on this machine and start the server again.";
  return `100 % is the measured peak: ${quantity(peak, "FLOP/s")} in ${best.precision}, ${part}.${others}${hint}`;
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
