// Answers as people look at them. Texts go in as text: what stands in them is shown, never run.

import { element } from "./dom.js";

// Names with scores: a bar's length is its share of the largest score, or of 1 where that is more.
// entries: [name, score] pairs
export function bars(entries) {
  const most = Math.max(1, ...entries.map(([, score]) => score));
  return element("ol", "bars", ...entries.map(([name, score]) => {
    const bar = element("span", "bar");
    bar.style.setProperty("--share", `${(Math.max(0, score) / most) * 100}%`);
    const text = element("span", "name", name);
    text.dir = "auto";
    return element("li", "", text, element("span", "score", score.toFixed(3)), bar);
  }));
}

// A text with some of its parts marked; places are counted in Unicode code points, as the server counts.
// spans: {start, end, label} in their order
export function marked(text, spans) {
  const characters = [...text];
  const between = (start, end) => characters.slice(start, end).join("");
  const parts = [];
  let at = 0;
  for (const { start, end, label } of spans) {
    if (start < at || end <= start) continue;
    parts.push(between(at, start), element("mark", "", between(start, end), ...(label ? [element("small", "", label)] : [])));
    at = end;
  }
  const shown = element("p", "marked", ...parts, between(at));
  shown.dir = "auto";
  return shown;
}

export function note(text) {
  return element("p", "about", text);
}

// What stands one a line, without empty lines.
export function lines(text) {
  return text.split("\n").map((line) => line.trim()).filter((line) => line);
}
