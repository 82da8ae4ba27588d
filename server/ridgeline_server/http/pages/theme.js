// Colours of the style sheet, for the plots; they follow the system's light or dark mode.

// Colours of models in the style sheet; then they begin again.
export const HUES = 8;
const NAMES = ["card", "text", "muted", "line", "grid", "blue", "sky", "teal", "amber", "violet", "red", "grey"];

// `models` has those of models, in their order.
export function colours() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(`--${name}`).trim();
  return { ...Object.fromEntries(NAMES.map((name) => [name, read(name)])), models: Array.from({ length: HUES }, (_, place) => read(`model-${place + 1}`)) };
}

// The colour, "#rrggbb", with a share of opacity.
export function faint(colour, opacity = 0.16) {
  const parts = [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16));
  return `rgba(${parts.join(",")},${opacity})`;
}

export function onThemeChange(redraw) {
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}
