// What an opened row shows.
"use strict";

function part(title, ...content) {
  return element("section", {}, element("h3", {}, title), ...content);
}

function json(value) {
  return element("pre", {}, JSON.stringify(value, null, 2));
}

/** The fields of an object as a list of facts, names as words. */
function allFacts(object) {
  return factList(
      Object.entries(object).map(([name, value]) => [name.replaceAll("_", " "), value]));
}

function measurement(row) {
  const {raw} = row;
  return part(
      "Measurement", factList([
        ["median", duration(row.medianNs)],
        ["median absolute deviation", duration(finite(raw.mad_ns))],
        ["samples", row.samples.length],
        ["calls a sample", raw.batch],
        ["samples dropped", row.dropped.length || raw.dropped_rounds],
        ["trusted", row.distrust ? `no: ${row.distrust}` : row.trusted],
        ["caches", raw.mode],
        ["threads", raw.threads],
        ["target", raw.target],
        ["arithmetic", row.flops === null ? null : `${digits(row.flops)} FLOP`],
        ["memory", byteSize(row.bytes)],
        ["intensity", row.intensity === null ? null : `${digits(row.intensity)} FLOP a byte`],
        ["judged by", raw.anchor],
        ["compiled in", finite(raw.compile_ms) === null ? null : `${digits(raw.compile_ms)} ms`],
        ["code", raw.code_hash],
      ]));
}

function vendors(row) {
  if (row.vendors.length === 0) return null;
  const table = new SortableTable({
    caption: "Vendors' libraries",
    rows: row.vendors,
    key: (vendor) => vendor.variant,
    columns: [
      {title: "Variant", value: (vendor) => vendor.variant},
      {title: "Status", value: (vendor) => vendor.status || null},
      {
        title: "Median µs",
        numeric: true,
        value: (vendor) => vendor.medianNs,
        show: (vendor) => digits(vendor.medianNs === null ? null : vendor.medianNs / 1e3)
      },
      {
        title: "Ours / theirs",
        numeric: true,
        value: (vendor) => vendor.ratio,
        show: (vendor) => digits(vendor.ratio)
      },
    ],
  });
  const errors = row.vendors.filter((vendor) => vendor.error !== "")
                     .map((vendor) => [vendor.variant, vendor.error]);
  return part("Vendors", table.node, errors.length > 0 ? factList(errors) : null);
}

function samplesPart(row) {
  if (row.samples.length + row.dropped.length === 0) return null;
  const canvas = element("canvas", {role: "img"});
  // A chart measures the box that it is in, so it is painted once that is on the page.
  requestAnimationFrame(() => canvas.isConnected && showSamples(canvas, row));
  const crosses = row.dropped.length === 0 ?
      null :
      element("p", {class: "hint"}, "Crosses did not count: the machine was off beside them.");
  return part("Samples", element("div", {class: "chart low"}, canvas), crosses);
}

/** What the report says of a row beyond the table. */
function rowDetails(row) {
  const {raw} = row;
  const objects = {Problem: raw.problem, Accuracy: raw.accuracy, Resources: raw.resources};
  const facts = Object.entries(objects)
                    .filter(([, value]) => Object.keys(objectOf(value)).length > 0)
                    .map(([title, value]) => part(title, allFacts(value)));
  return element(
      "div", {class: "parts"},
      shortened(row.name, 120) === row.name ? null : part("Name", element("pre", {}, row.name)),
      row.error ? part("Error", element("pre", {class: "bad"}, row.error)) : null, samplesPart(row),
      measurement(row), ...facts, vendors(row),
      raw.schedule === undefined ?
          null :
          part(
              row.scheduleSource ? `Schedule (${row.scheduleSource})` : "Schedule",
              json(raw.schedule)),
      arrayOf(raw.kernels).length ? part("Kernels", json(raw.kernels)) : null);
}

/** Takes the charts of an opened row away. */
function closeDetails(node) {
  for (const canvas of node.querySelectorAll("canvas")) erase(canvas);
}
