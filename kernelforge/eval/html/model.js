// The report as the page uses it: every field checked once, so that nothing behind this file asks
// what a field is. A field of a wrong type counts as missing.
"use strict";

/** What a comparison can say, each with the sign that it has beside its colour. */
const verdictSigns = {
  improved: "▼",
  same: "=",
  regressed: "▲",
  inconclusive: "?"
};

function readVerdict(value) {
  return Object.hasOwn(verdictSigns, textOf(value)) ? value : "inconclusive";
}

/** Whether a field of a problem says something: what it does not have is false or empty. */
function saysSomething(value) {
  return ![undefined, null, false, ""].includes(value);
}

/** "64×1536×576 q4_1" of a matmul, then all else that the problem has, as "heads 9". */
function shapeOf(problem) {
  const {m, n, k, dtype, weights, ...others} = problem;
  const isMatmul = [m, n, k].every((size) => finite(size) !== null);
  // The type of the weights says more than that of the activations.
  const what = [isMatmul ? `${m}×${n}×${k}` : null, [weights, dtype].find(saysSomething)]
                   .filter(saysSomething)
                   .map(plain)
                   .join(" ");
  const fact = (name, value) => name === "transpose" && value === true ?
      "transposed" :
      `${name.replaceAll("_", " ")} ${plain(value)}`;
  const rest = Object.entries(isMatmul ? others : {m, n, k, ...others})
                   .filter(([, value]) => saysSomething(value))
                   .map(([name, value]) => fact(name, value));
  return [what, ...rest].filter((text) => text !== "").join(", ");
}

/**
 * The samples that are numbers, each with the round it is of: without `rounds`, the place it has.
 */
function samplesOf(samples, rounds) {
  return arrayOf(samples)
      .map((ns, i) => ({ns: finite(ns), round: finite(arrayOf(rounds)[i]) ?? i}))
      .filter((sample) => sample.ns !== null && sample.ns > 0);
}

/** The samples that do not count, as those that do. */
function droppedOf(row) {
  return arrayOf(row.dropped)
      .map(objectOf)
      .map(({ns, round}) => ({ns: finite(ns), round: finite(round)}))
      .filter((sample) => sample.ns !== null && sample.ns > 0 && sample.round !== null);
}

/** Why a row is not trusted; empty of others. */
function distrustOf(row) {
  if (row.trusted !== false) return "";
  const fixed = arrayOf(row.samples_ns).length > 0 ? "the machine was disturbed" : "no samples";
  return textOf(row.why_untrusted) || fixed;
}

/** Vendors' variants: of them there is a sample of each planned round, whichever of ours count. */
function vendorsOf(row) {
  return arrayOf(row.vendors).map(objectOf).map((vendor) => ({
                                                  variant: textOf(vendor.variant),
                                                  status: textOf(vendor.status),
                                                  medianNs: finite(vendor.median_ns),
                                                  ratio: finite(vendor.ratio),
                                                  error: textOf(vendor.error),
                                                  samples: samplesOf(vendor.samples_ns),
                                                }));
}

/** One row; `index` is its place in the report. */
function readRow(raw, index) {
  const row = objectOf(raw);
  const accuracy = objectOf(row.accuracy);
  const status = textOf(row.status) || "unknown";
  const medianNs = finite(row.median_ns);
  const madNs = finite(row.mad_ns);
  const flops = finite(row.flops);
  const bytes = finite(row.bytes);
  return {
    index,
    raw: row,
    name: textOf(row.name) || `row ${index}`,
    family: textOf(row.family) || "other",
    shape: shapeOf(objectOf(row.problem)),
    variant: textOf(row.variant),
    scheduleSource: textOf(row.schedule_source),
    status,
    ok: status === "ok",
    trusted: typeof row.trusted === "boolean" ? row.trusted : null,
    distrust: distrustOf(row),
    error: textOf(row.error),
    medianNs,
    madPercent: medianNs > 0 && madNs !== null ? (100 * madNs) / medianNs : null,
    flops,
    bytes,
    intensity: flops > 0 && bytes > 0 ? flops / bytes : null,
    gflops: finite(row.gflops),
    gbPerS: finite(row.gb_per_s),
    roofline: finite(row.pct_roofline),
    bound: textOf(row.bound),
    vendors: vendorsOf(row),
    vendorRatio: finite(row.vendor_ratio),
    accurate: typeof accuracy.pass === "boolean" ? accuracy.pass : null,
    l2: finite(accuracy.l2_rel),
    samples: samplesOf(row.samples_ns, row.rounds),
    dropped: droppedOf(row),
    change: null,
  };
}

/** What a ceiling bounds, by its unit; of other units arithmetic. */
const CEILING_KINDS = {
  "GB/s": "bandwidth",
  "M/s": "exchange"
};

/** The machine's ceilings: {name, unit, kind, value}, the value a median over the rounds. */
function readCeilings(anchors, rounds) {
  const units = objectOf(anchors.units);
  const sides = [objectOf(anchors.before), objectOf(anchors.after)];
  const names = new Set([
    ...Object.keys(units), ...sides.flatMap(Object.keys),
    ...rounds.flatMap((round) => Object.keys(round.values))
  ]);
  return [...names].map((name) => {
    const [before, after] = sides.map((side) => finite(side[name]));
    const measured = rounds.map((round) => finite(round.values[name])).filter((v) => v > 0);
    const value = medianOf(measured.length ? measured : [before, after].filter((v) => v > 0));
    const unit = textOf(units[name]);
    return {name, unit, before, after, value, kind: CEILING_KINDS[unit] ?? "arithmetic"};
  });
}

/** The rounds; `off` are the anchors that were not as usual when it began. */
function readRounds(anchors) {
  return arrayOf(anchors.per_round).map(objectOf).map((round, i) => ({
                                                        round: finite(round.round) ?? i,
                                                        values: objectOf(round.values),
                                                        off: arrayOf(round.off).map(textOf),
                                                      }));
}

function readChange(raw) {
  const row = objectOf(raw);
  const [low, high] = arrayOf(row.ci95);
  return {
    name: textOf(row.name),
    a: finite(row.a_median_ns),
    b: finite(row.b_median_ns),
    ratio: finite(row.ratio),
    corrected: row.corrected === true,
    low: finite(low),
    high: finite(high),
    p: finite(row.p_adjusted) ?? finite(row.p_value),
    rawP: finite(row.p_value),
    samples: finite(row.samples),
    needed: finite(row.samples_needed),
    verdict: readVerdict(row.verdict),
    why: textOf(row.why),
  };
}

function readComparison(raw) {
  if (raw === null || typeof raw !== "object" || Array.isArray(raw)) return null;
  return {
    kind: textOf(raw.kind),
    a: objectOf(raw.a),
    b: objectOf(raw.b),
    threshold: finite(raw.threshold),
    alpha: finite(raw.alpha),
    rows: arrayOf(raw.rows).map(readChange),
    geomean: finite(raw.geomean_ratio),
    geomeanMeasured: finite(raw.geomean_measured_ratio),
    verdict: readVerdict(raw.verdict),
    fidelity: arrayOf(raw.fidelity_changed)
                  .map(objectOf)
                  .map((change) => ({name: textOf(change.name), what: textOf(change.what)})),
    onlyA: arrayOf(raw.only_a).map(textOf),
    onlyB: arrayOf(raw.only_b).map(textOf),
  };
}

/** The whole report. Rows know what the comparison says of them as `change`. */
function readReport(raw) {
  const report = objectOf(raw);
  const anchors = objectOf(report.anchors);
  const rounds = readRounds(anchors);
  const rows = arrayOf(report.rows).map(readRow);
  const comparison = readComparison(report.comparison);
  const changes = new Map((comparison?.rows ?? []).map((change) => [change.name, change]));
  for (const row of rows) row.change = changes.get(row.name) ?? null;
  return {
    suite: textOf(report.suite),
    created: textOf(report.created),
    runId: textOf(report.run_id),
    partial: report.partial === true,
    kernelforge: objectOf(report.kernelforge),
    host: objectOf(report.host),
    device: objectOf(report.device),
    settings: objectOf(report.settings),
    ceilings: readCeilings(anchors, rounds),
    rounds,
    rows,
    comparison,
  };
}
