// Colours of the style sheet, for the plots; they follow the system's light or dark mode.

const NAMES = ["card", "text", "muted", "line", "grid", "blue", "sky", "teal", "amber", "violet", "red", "grey"];

export function colours() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

// The colour, "#rrggbb", with a share of opacity.
export function faint(colour, opacity = 0.16) {
  const parts = [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16));
  return `rgba(${parts.join(",")},${opacity})`;
}

export function onThemeChange(redraw) {
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}
