// Light and dark: the colours are the style sheet's; charts, which are painted, ask for them here
// and are painted again when the theme changes.
"use strict";

/** Families in the order of their colours (--series-0 ...) and marks; others come after. */
const knownFamilies = ["matmul", "attention", "rowwise", "block"];
/** Marks that have an inside, as one that is hollow means something. */
const marks = [
  {pointStyle: "circle"},
  {pointStyle: "rect"},
  {pointStyle: "triangle"},
  {pointStyle: "rectRot"},
  {pointStyle: "triangle", rotation: 180},
  {pointStyle: "rectRounded"},
];
const seriesCount = 6;

/** Charts that are on the page: canvas to {chart, configure}. */
const charts = new Map();

/** What the style sheet has for a custom property, as a colour that a canvas takes. */
function colour(property) {
  const probe = element("span", {});
  probe.style.color = `var(${property})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

/** The same, so much of it opaque. */
function faded(property, opacity) {
  return colour(property).replace(/^rgb\((.*)\)$/, `rgba($1, ${opacity})`);
}

/** The colour of the series with that number. */
function seriesColour(index) {
  return colour(`--series-${index % seriesCount}`);
}

/** Its mark: where colours begin anew, another than the first had. */
function seriesMark(index) {
  return marks[(index + Math.floor(index / seriesCount)) % marks.length];
}

/** Where a family stands before others: those that are not known come last. */
function knownRank(family) {
  const known = knownFamilies.indexOf(family);
  return known >= 0 ? known : knownFamilies.length;
}

/** The number of a family among all that the rows have, which is that of its colour and mark. */
function familyIndex(family, families) {
  const rank = knownRank(family);
  if (rank < knownFamilies.length) return rank;
  return rank + families.filter((f) => !knownFamilies.includes(f)).indexOf(family);
}

/** Paints a chart; `configure` gives Chart.js's configuration in the colours of now. */
function paint(canvas, configure) {
  erase(canvas);
  Chart.defaults.color = colour("--muted");
  Chart.defaults.borderColor = colour("--line");
  Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  Chart.defaults.animation = false;
  Chart.defaults.maintainAspectRatio = false;
  charts.set(canvas, {chart: new Chart(canvas, configure()), configure});
}

/** Takes a chart away. */
function erase(canvas) {
  charts.get(canvas)?.chart.destroy();
  charts.delete(canvas);
}

function repaint() {
  for (const [canvas, {configure}] of [...charts]) paint(canvas, configure);
}

/** Shows the theme, or the system's where it is null. */
function setTheme(theme) {
  if (theme === null)
    delete document.documentElement.dataset.theme;
  else
    document.documentElement.dataset.theme = theme;
  repaint();
}

/** The button that changes the theme; paper is light whatever the screen is. */
function startTheme(button) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  const isDark = () => (chosen === null ? system.matches : chosen === "dark");
  const show = () => {
    setTheme(chosen);
    button.textContent = isDark() ? "Light theme" : "Dark theme";
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    chosen = isDark() ? "light" : "dark";
    show();
  });
  system.addEventListener("change", show);
  window.addEventListener("beforeprint", () => setTheme("light"));
  window.addEventListener("afterprint", show);
  show();
}

/** Options that all charts have in common; `x` and `y` are added to the scales' own. */
function chartOptions({x = {}, y = {}, ...others}) {
  const grid = {color: faded("--line", 0.7), borderColor: colour("--line")};
  const tooltip = {
    backgroundColor: colour("--ink"),
    titleColor: colour("--paper"),
    bodyColor: colour("--paper"),
    displayColors: false,
    padding: 8,
    cornerRadius: 4,
  };
  const {plugins = {}, ...rest} = others;
  const legend = {
    display: false,
    position: "top",
    align: "start",
    labels:
        {usePointStyle: true, boxWidth: 7, boxHeight: 7, padding: 14, ...plugins.legend?.labels},
  };
  return {
    scales: {x: {grid, ...x}, y: {grid, ...y}},
    plugins: {
      ...plugins,
      legend: {...legend, display: plugins.legend?.display ?? false},
      tooltip: {...tooltip, ...plugins.tooltip},
    },
    layout: {padding: {right: 14}},
    ...rest,
  };
}

/** A title of an axis. */
function axisTitle(text) {
  return {display: true, text};
}
