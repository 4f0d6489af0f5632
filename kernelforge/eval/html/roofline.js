// The roofline plot: performance over arithmetic intensity, both logarithmic, under the machine's
// measured ceilings (Williams, Waterman, Patterson: Roofline, CACM 52(4), 2009).
"use strict";

/** A row is a point where it ran and is known to have done something. */
function isPoint(row) {
  return row.ok && row.intensity !== null && row.gflops > 0;
}

/**
 * The ceilings as lines: level for arithmetic, rising for bandwidth, each up to where they meet.
 */
function ceilingLines(ceilings, range) {
  const usable = ceilings.filter((ceiling) => ceiling.value > 0);
  const bandwidths = usable.filter((ceiling) => ceiling.kind === "bandwidth");
  const levels = usable.filter((ceiling) => ceiling.kind === "arithmetic");
  const fastest = Math.max(...bandwidths.map((ceiling) => ceiling.value));
  const highest = Math.max(...levels.map((ceiling) => ceiling.value));
  const label = (ceiling) => `${ceiling.name} ${digits(ceiling.value)} ${ceiling.unit}`.trimEnd();
  const level = (ceiling) => {
    const begin = bandwidths.length ? Math.max(range.left, ceiling.value / fastest) : range.left;
    return {
      ceiling,
      label: label(ceiling),
      points: [{x: begin, y: ceiling.value}, {x: range.right, y: ceiling.value}]
    };
  };
  const slope = (ceiling) => {
    const end = levels.length ? Math.min(range.right, highest / ceiling.value) : range.right;
    return {
      ceiling,
      label: label(ceiling),
      points: [{x: range.left, y: range.left * ceiling.value}, {x: end, y: end * ceiling.value}]
    };
  };
  return [...levels.map(level), ...bandwidths.map(slope)].filter(
      ({points}) => points[0].x < points[1].x);
}

/** What the axes show: all points, and the ceilings where they bend. */
function rooflineRange(points, ceilings) {
  const values = ceilings.filter((ceiling) => ceiling.value > 0);
  const levels = values.filter((c) => c.kind === "arithmetic").map((c) => c.value);
  const bandwidths = values.filter((c) => c.kind === "bandwidth").map((c) => c.value);
  const xs = points.map((row) => row.intensity);
  const ys = points.map((row) => row.gflops);
  if (levels.length && bandwidths.length) xs.push(Math.max(...levels) / Math.min(...bandwidths));
  ys.push(...levels);
  const least = (numbers) => (numbers.length ? Math.min(...numbers) : 1);
  const most = (numbers) => (numbers.length ? Math.max(...numbers) : 1);
  return {left: least(xs) / 2.5, right: most(xs) * 2.5, bottom: least(ys) / 2, top: most(ys) * 2};
}

/** Draws the names of the ceilings along them. */
const ceilingLabels = {
  id: "ceilingLabels",
  afterDatasetsDraw(chart) {
    const {ctx, chartArea: area} = chart;
    const taken = [];
    ctx.save();
    ctx.font = `11px ${Chart.defaults.font.family}`;
    ctx.fillStyle = colour("--muted");
    ctx.strokeStyle = colour("--paper");
    ctx.lineWidth = 4;
    ctx.lineJoin = "round";
    for (const dataset of chart.data.datasets.filter((d) => d.ceiling)) {
      drawCeilingLabel(chart, dataset, area, taken);
    }
    ctx.restore();
  },
};

/** A text with a rim that keeps it readable on lines and points. */
function rimmedText(ctx, text, x, y) {
  ctx.strokeText(text, x, y);
  ctx.fillText(text, x, y);
}

function drawCeilingLabel(chart, dataset, area, taken) {
  const {ctx, scales: {x, y}} = chart;
  const [begin, end] = dataset.data.map(
      (point) => ({x: x.getPixelForValue(point.x), y: y.getPixelForValue(point.y)}));
  ctx.save();
  if (dataset.ceiling.kind === "arithmetic") {
    const above = !taken.some((other) => Math.abs(other - (end.y - 6)) < 12);
    const at = above ? end.y - 6 : end.y + 14;
    taken.push(at);
    ctx.textAlign = "right";
    rimmedText(ctx, dataset.label, area.right - 4, at);
  } else {
    // From where the line comes into the plot, at its left or its lower edge.
    const rise = (end.y - begin.y) / (end.x - begin.x);
    const from = Math.max(begin.x, begin.x + (area.bottom - begin.y) / rise) + 8;
    const length = Math.hypot(end.x - from, (end.x - from) * rise);
    if (end.x > from && length > ctx.measureText(dataset.label).width) {
      ctx.translate(from, begin.y + (from - begin.x) * rise);
      ctx.rotate(Math.atan(rise));
      rimmedText(ctx, dataset.label, 2, -6);
    }
  }
  ctx.restore();
}

function pointTooltip(row) {
  return [
    duration(row.medianNs) + (row.madPercent === null ? "" : ` ± ${percent(row.madPercent, 2)}`),
    `${digits(row.gflops)} GFLOP/s, ${digits(row.gbPerS)} GB/s`,
    `${digits(row.intensity)} FLOP a byte`,
    `${percent(row.roofline)} of the roofline${row.bound && `, bound by ${row.bound}`}`,
    ...(row.distrust ? [`not trusted: ${shortened(row.distrust, 80)}`] : []),
  ];
}

function pointSets(points, families) {
  return families
      .map((family) => {
        const rows = points.filter((row) => row.family === family);
        const index = familyIndex(family, families);
        const ink = seriesColour(index);
        return {
          label: shortened(family, 24),
          data: rows.map((row) => ({x: row.intensity, y: row.gflops, row})),
          ...seriesMark(index),
          radius: 5,
          hoverRadius: 7,
          hitRadius: 4,
          borderWidth: 1.5,
          borderColor: ink,
          backgroundColor: rows.map((row) => (row.trusted === false ? "transparent" : ink)),
        };
      })
      .filter((set) => set.data.length > 0);
}

/** Ticks at 1, 2 and 5 of each power of ten, fewer where there are many. */
function logarithmicTick(value, index, ticks) {
  const mantissa = Number(value.toExponential().split("e")[0]);
  const decades = Math.log10(ticks[ticks.length - 1].value / ticks[0].value);
  return mantissa === 1 || (decades < 3 && (mantissa === 2 || mantissa === 5)) ? digits(value, 1) :
                                                                                 "";
}

/** Grid lines where a tick has a text, and nowhere else. */
function logarithmicGrid() {
  const line = faded("--line", 0.7);
  return {
    color: (context) => (context.tick?.label ? line : "transparent"),
    borderColor: colour("--line"),
    tickColor: "transparent"
  };
}

function rooflineConfiguration(points, families, ceilings, select) {
  const range = rooflineRange(points, ceilings);
  const lines =
      ceilingLines(ceilings, range).map(({ceiling, label, points: data}) => ({
                                          type: "line",
                                          label,
                                          ceiling,
                                          data,
                                          borderColor: colour("--muted"),
                                          borderWidth: 1.25,
                                          pointRadius: 0,
                                          pointHitRadius: 0,
                                          borderDash: ceiling.unit === "GOP/s" ? [5, 4] : [],
                                        }));
  const scale = (title, min, max) => ({
    type: "logarithmic",
    min,
    max,
    title: axisTitle(title),
    grid: logarithmicGrid(),
    ticks: {callback: logarithmicTick, maxRotation: 0, autoSkip: false},
  });
  return {
    type: "scatter",
    data: {datasets: [...pointSets(points, families), ...lines]},
    plugins: [ceilingLabels],
    options: chartOptions({
      x: scale("arithmetic intensity, FLOP a byte", range.left, range.right),
      y: scale("performance, GFLOP/s", range.bottom, range.top),
      onClick: (event, hits) => {
        const row = hits[0]?.element.$context.raw.row;
        if (row) select(row);
      },
      plugins: {
        legend: {
          display: true,
          labels: {filter: (item, data) => !data.datasets[item.datasetIndex].ceiling},
        },
        tooltip: {
          filter: (item) => item.raw.row !== undefined,
          callbacks: {
            title: (items) => items.map((item) => shortened(item.raw.row.name, 60)).slice(0, 1),
            label: (item) => pointTooltip(item.raw.row),
          },
        },
      },
    }),
  };
}

/** Shows the plot; `select(row)` is called for the point that was clicked. */
function showRoofline(report, families, select) {
  const canvas = document.getElementById("roofline-chart");
  const points = report.rows.filter(isPoint);
  document.getElementById("roofline").hidden = points.length === 0;
  if (points.length === 0) return;
  canvas.setAttribute(
      "aria-label",
      `Roofline plot of ${counted(points.length, "kernel")}; ` +
          "its numbers are in the table of kernels.");
  paint(canvas, () => rooflineConfiguration(points, families, report.ceilings, select));
}
