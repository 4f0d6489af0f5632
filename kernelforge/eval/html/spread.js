// Distributions: the samples of the rows about their medians, of one row over the rounds, and the
// machine's ceilings over the rounds.
"use strict";

/** More rows than this make no picture. */
const spreadRows = 40;

/** Samples as distances from the median in percent: {row, deviations (sorted), quartiles}. */
function spreadOf(row) {
  const median = medianOf(row.samples.map((sample) => sample.ns));
  const deviations = row.samples.map((s) => 100 * (s.ns / median - 1)).sort((a, b) => a - b);
  return {row, deviations, low: quantile(deviations, 0.25), high: quantile(deviations, 0.75)};
}

/** Draws a box from quartile to quartile behind the points of each row. */
function quartileBoxes(spreads) {
  return {
    id: "quartileBoxes",
    beforeDatasetsDraw(chart) {
      const {ctx, scales: {x, y}} = chart;
      ctx.save();
      ctx.fillStyle = faded("--muted", 0.25);
      spreads.forEach(({low, high}, i) => {
        const [left, right] =
            [low, high].map((v) => x.getPixelForValue(Math.max(x.min, Math.min(x.max, v))));
        const middle = y.getPixelForValue(i);
        ctx.fillRect(left, middle - 7, Math.max(1, right - left), 14);
      });
      ctx.fillStyle = colour("--muted");
      ctx.fillRect(
          x.getPixelForValue(0) - 0.5, chart.chartArea.top, 1,
          chart.chartArea.bottom - chart.chartArea.top);
      ctx.restore();
    },
  };
}

/** The greatest distance that is shown, in percent: a round one that most samples are within. */
function spreadLimit(spreads) {
  const sizes = spreads.flatMap((s) => s.deviations.map(Math.abs)).sort((a, b) => a - b);
  return [1, 2, 3, 5, 10, 15, 20].find((limit) => quantile(sizes, 0.97) <= limit) ?? 25;
}

function spreadConfiguration(spreads, families, select) {
  const limit = spreadLimit(spreads);
  // Samples of a row lie beside each other a little, the same on every drawing.
  const lane = (i) => (((i * 7) % 5) - 2) * 0.07;
  const names = spreads.map(({row}) => shortened(row.name, innerWidth < 600 ? 18 : 36));
  const data = spreads.flatMap(
      ({row, deviations}, i) => deviations.map((value, j) => ({
                                                 x: Math.max(-limit, Math.min(limit, value)),
                                                 y: i + lane(j),
                                                 value,
                                                 row,
                                               })));
  const outside = data.map((point) => Math.abs(point.value) > limit);
  return {
    type: "scatter",
    data: {
      datasets: [{
        label: "samples",
        data,
        radius: outside.map((out) => (out ? 5 : 2.5)),
        hitRadius: 3,
        borderWidth: 0,
        pointStyle: outside.map((out) => (out ? "triangle" : "circle")),
        rotation: data.map((point) => (point.value > 0 ? 90 : -90)),
        clip: 8,
        backgroundColor: data.map((p) => seriesColour(familyIndex(p.row.family, families))),
      }],
    },
    plugins: [quartileBoxes(spreads)],
    options: chartOptions({
      x: {
        min: -limit,
        max: limit,
        title: axisTitle("distance from the kernel's median, %"),
        ticks: {callback: (value) => brief(value)}
      },
      y: {
        min: -0.6,
        max: spreads.length - 0.4,
        reverse: true,
        afterBuildTicks: (axis) => {
          axis.ticks = spreads.map((_, value) => ({value}));
        },
        ticks: {autoSkip: false, callback: (value) => names[value]},
      },
      onClick: (event, hits) => {
        const row = hits[0]?.element.$context.raw.row;
        if (row) select(row);
      },
      plugins: {
        tooltip: {
          callbacks: {
            label: ({raw}) =>
                [shortened(raw.row.name, 60), `${digits(raw.value, 2)} % from the median`],
          },
        },
      },
    }),
  };
}

/** Shows the samples of `rows`, in their order. */
function showSpread(rows, families, select) {
  const canvas = document.getElementById("spread-chart");
  const box = document.getElementById("spread-box");
  const sampled = rows.filter((row) => row.ok && row.samples.length > 0);
  const shown = sampled.slice(0, spreadRows).map(spreadOf);
  document.getElementById("spread-count").textContent = sampled.length > shown.length ?
      `The first ${shown.length} of ${counted(sampled.length, "kernel")} in the table's order.` :
      sampled.length === 0 ? "No kernel in the table has samples." :
                             "";
  box.hidden = shown.length === 0;
  if (box.hidden) return erase(canvas);
  box.style.height = `${80 + 22 * shown.length}px`;
  canvas.setAttribute(
      "aria-label",
      `Spread of the samples of ${counted(shown.length, "kernel")}; ` +
          "the table of kernels has the median absolute deviations.");
  return paint(canvas, () => spreadConfiguration(shown, families, select));
}

/**
 * Lines over the rounds; `series` are {label, points: [{x, y, note}]}: a point with a note is a
 * cross, and the note is why.
 */
function roundsConfiguration(series, unit, format) {
  return {
    type: "scatter",
    data: {
      datasets: series.map(
          ({label, points}, i) => ({
            label,
            data: points,
            showLine: true,
            borderWidth: 1.5,
            borderColor: seriesColour(i),
            backgroundColor: seriesColour(i),
            ...seriesMark(i),
            pointStyle: points.map(({note}) => (note ? "crossRot" : seriesMark(i).pointStyle)),
            radius: points.map(({note}) => (note ? 6 : 3)),
          })),
    },
    options: chartOptions({
      x: {title: axisTitle("round"), ticks: {precision: 0}},
      y: {title: axisTitle(unit), grace: "10%", ticks: {callback: (value) => format(value)}},
      plugins: {
        legend: {display: series.length > 1},
        tooltip: {
          callbacks: {
            label: ({dataset, raw}) => `${dataset.label}, round ${raw.x}: ${format(raw.y)}` +
                (raw.note ? ` (${raw.note})` : ""),
          },
        },
      },
    }),
  };
}

/**
 * Shows one row's samples over the rounds, those that do not count too, the vendors' beside them.
 */
function showSamples(canvas, row) {
  const dropped = row.dropped.map((sample) => ({...sample, note: "did not count"}));
  const own = [...row.samples, ...dropped].sort((a, b) => a.round - b.round);
  const series =
      [
        {label: row.variant || "ours", samples: own},
        ...row.vendors.map((vendor) => ({label: vendor.variant, samples: vendor.samples}))
      ].filter(({samples}) => samples.length > 0)
          .map(({label, samples}) => ({
                 label: shortened(label, 24),
                 points: samples.map(({round, ns, note}) => ({x: round, y: ns / 1e3, note})),
               }));
  canvas.setAttribute(
      "aria-label",
      `Times of the samples of ${shortened(row.name, 60)}, by round; ` +
          `${dropped.length} did not count.`);
  paint(canvas, () => roundsConfiguration(series, "time a call, µs", (value) => brief(value)));
}

function ceilingSeries(report) {
  const off = "off at the begin of the round";
  return report.ceilings
      .map(({name, value}) => {
        const points = report.rounds.filter((r) => finite(r.values[name]) > 0)
                           .map((r) => ({
                                  x: r.round,
                                  y: 100 * (r.values[name] / value),
                                  note: r.off.includes(name) ? off : undefined,
                                }));
        return {label: shortened(name, 24), points};
      })
      .filter(({points}) => points.length > 0);
}

function ceilingTable(report) {
  const change = ({before, after}) =>
      before > 0 && after !== null ? `${digits(100 * (after / before - 1), 2)} %` : nothing;
  const off = (name) => report.rounds.filter((round) => round.off.includes(name)).length;
  return new SortableTable({
    caption: "Ceilings of the machine",
    rows: report.ceilings,
    key: (row) => row.name,
    columns: [
      {title: "Ceiling", value: (row) => row.name},
      {title: "Unit", value: (row) => row.unit || null},
      {
        title: "Median",
        numeric: true,
        value: (row) => row.value,
        show: (row) => digits(row.value, 4)
      },
      {
        title: "Before",
        numeric: true,
        value: (row) => row.before,
        show: (row) => digits(row.before, 4)
      },
      {
        title: "After",
        numeric: true,
        value: (row) => row.after,
        show: (row) => digits(row.after, 4)
      },
      {title: "Change", numeric: true, value: (row) => row.after / row.before, show: change},
      {
        title: "Off at the begin of rounds",
        numeric: true,
        value: (row) => off(row.name),
        help: "In so many rounds; samples are dropped by what was measured beside each"
      },
    ],
  });
}

/** Shows the ceilings over the rounds, and as a table. */
function showAnchors(report) {
  const canvas = document.getElementById("anchors-chart");
  const box = document.getElementById("anchors-box");
  const series = ceilingSeries(report);
  box.hidden = series.length === 0;
  // A report has units before it has values.
  document.getElementById("anchors").hidden = report.ceilings.every(({value}) => value === null);
  document.getElementById("anchors-table").append(ceilingTable(report).node);
  if (box.hidden) return;
  canvas.setAttribute(
      "aria-label", "The machine's ceilings over the rounds, as shares of their medians.");
  paint(
      canvas, () => roundsConfiguration(series, "share of its median, %", (value) => brief(value)));
}
