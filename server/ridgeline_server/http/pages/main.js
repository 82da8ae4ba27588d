// Asks the server every two seconds while somebody looks, and shows what it says.

import { byId, write } from "./dom.js";
import { age } from "./format.js";
import { showModels } from "./models.js";
import { drawOverTime } from "./over_time.js";
import { isLibraryThere } from "./plots.js";
import { drawRoofline } from "./roofline.js";
import { Store } from "./store.js";
import { onThemeChange } from "./theme.js";
import { showTiles } from "./tiles.js";
import { offerModels, prepareTrial } from "./trial.js";

const EVERY_MS = 2000;
const PATIENCE_MS = 5000;

const store = new Store();
let answeredAt = Date.now();
let timer = 0;
let isAsking = false;

async function poll() {
  if (isAsking) return;
  clearTimeout(timer);
  isAsking = true;
  try {
    const response = await fetch(`/dashboard.json?since=${store.next}`, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    if (!response.ok) throw new Error(`it answers with status ${response.status}`);
    store.add(await response.json());
    answeredAt = Date.now();
    show();
  } catch (error) {
    showGone(error);
  }
  isAsking = false;
  if (!document.hidden) timer = setTimeout(poll, EVERY_MS);
}

function show() {
  const told = store.told;
  if (!told) return;
  document.body.classList.remove("is-stale");
  showState(told.is_ready ? "ready" : "waiting", told.is_ready ? "ready" : "not ready");
  const troubles = [];
  if (!told.is_ready) troubles.push(`The server is not ready. ${told.reasons.join(". ") || "It is still starting"}.`);
  if (!isLibraryThere()) troubles.push("The plots cannot be drawn: the package plotly is not installed beside the server. Install it with: pip install plotly");
  complain(troubles.join(" "));
  showTiles(told);
  showModels(told.models);
  offerModels(told.models);
  drawPlots();
}

function showGone(error) {
  document.body.classList.add("is-stale");
  showState("gone", "no answer");
  const since = age((Date.now() - answeredAt) / 1e3);
  const cause = error.name === "TypeError" || error.name === "TimeoutError" ? "it may have stopped, or the network is down" : error.message;
  complain(`The server has not answered for ${since}: ${cause}. What you see is from before. This page keeps trying.`);
}

function showState(name, text) {
  byId("state").className = `state ${name}`;
  write("state", text);
}

function complain(text) {
  byId("trouble").hidden = !text;
  write("trouble", text);
}

function drawPlots() {
  if (!store.told || !isLibraryThere()) return;
  drawRoofline(store);
  drawOverTime(store);
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else poll();
});
onThemeChange(drawPlots);
prepareTrial();
poll();
