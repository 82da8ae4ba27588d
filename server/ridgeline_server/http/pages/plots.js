// What all plots share. Plotly comes from the script that the page loads before.

const CONFIG = { displayModeBar: false, doubleClick: false };
const sizes = new ResizeObserver((changes) => {
  for (const { target } of changes) {
    if (target.data && target.clientHeight) window.Plotly.Plots.resize(target);
  }
});

export function isLibraryThere() {
  return typeof window.Plotly !== "undefined";
}

export function draw(id, traces, layout) {
  sizes.observe(document.getElementById(id)); // its size follows its card, not the window alone
  return window.Plotly.react(id, traces, layout, CONFIG);
}

// A layout with the page's colours; `x` and `y` are axes as Plotly takes them.
export function layoutOf(theme, x, y, more = {}) {
  const axis = {
    fixedrange: true,
    gridcolor: theme.grid,
    linecolor: theme.line,
    zeroline: false,
    tickfont: { color: theme.muted, size: 12 },
  };
  const legend = { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { color: theme.muted, size: 12 }, itemclick: false, itemdoubleclick: false };
  return {
    margin: { l: 58, r: 12, t: more.showlegend === false ? 10 : 28, b: 28 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, color: theme.text, size: 12 },
    hovermode: "x unified",
    hoverlabel: { bgcolor: theme.card, bordercolor: theme.line, font: { color: theme.text } },
    dragmode: false,
    ...more,
    legend: { ...legend, ...more.legend },
    xaxis: { ...axis, ...x },
    yaxis: { ...axis, ...y },
  };
}

// An axis title in small grey letters.
export function title(text, theme, standoff = 8) {
  return { text, standoff, font: { color: theme.muted, size: 12 } };
}

// Shows the card's words for having nothing to plot, or the plot; true when there is something.
export function markEmpty(id, isEmpty) {
  document.getElementById(id).parentElement.classList.toggle("is-empty", isEmpty);
  return !isEmpty;
}

// Plotly reads a little markup in names; what somebody chose as a name is none.
export function plain(text) {
  return text.replaceAll("<", "‹").replaceAll("&", "＆");
}
