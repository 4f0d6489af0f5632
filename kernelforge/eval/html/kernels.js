// The table of kernels and its filter.
"use strict";

const statusFilters = {
  "": ["all", () => true],
  ok: ["ok", (row) => row.ok],
  failed: ["failed", (row) => !row.ok],
  untrusted: ["untrusted", (row) => row.trusted === false],
  regressed: ["regressed", (row) => row.change?.verdict === "regressed"],
};

/** A word (or a node) with a sign before it, by what it means: "good", "bad", "unsure" or "". */
function sign(meaning, mark, word) {
  return element(
      "span", {class: `sign ${meaning}`}, element("span", {"aria-hidden": "true"}, mark), "\u00a0",
      word);
}

function statusSign(row) {
  if (row.ok) return sign("good", "✓", "ok");
  const harmless = row.status === "unsupported" || row.status === "unavailable";
  return sign(
      harmless ? "word" : "word bad", harmless ? "○" : "✕",
      shortened(row.status.replaceAll("_", " "), 24));
}

function trustedSign(row) {
  if (row.trusted === null) return nothing;
  if (row.trusted) return "yes";
  return element("span", {title: shortened(row.distrust, 200)}, sign("unsure", "!", "no"));
}

function accuracySign(row) {
  if (row.accurate === null) return nothing;
  const l2 = row.l2 === null ? "" : row.l2.toExponential(1);
  return row.accurate ?
      sign("", "✓", element("span", {}, element("span", {class: "spoken"}, "pass "), l2)) :
      sign("bad", "✕", `fail ${l2}`);
}

/** A verdict of the comparison: a sign, a word and a colour that say the same. */
function verdictSign(verdict) {
  const meanings = {improved: "good", same: "", regressed: "bad", inconclusive: "unsure"};
  return sign(meanings[verdict], verdictSigns[verdict], verdict);
}

/** A share of the roofline as a number over a bar. */
function rooflineBar(row) {
  if (row.roofline === null) return nothing;
  const bar = element("span", {class: "bar", "aria-hidden": "true"});
  bar.style.width = `${Math.max(0, Math.min(100, row.roofline))}%`;
  return element("span", {class: "bar-box"}, digits(row.roofline), bar);
}

function kernelColumns(compared) {
  const number = (title, value, significant, others = {}) => ({
    title,
    numeric: true,
    value,
    show: (row) => digits(value(row), significant),
    ...others,
  });
  const columns = [
    {title: "Name", value: (row) => row.name},
    {title: "Family", value: (row) => row.family},
    {title: "Shape", value: (row) => row.shape || null, help: "M×N×K of a matmul"},
    {title: "Variant", value: (row) => row.variant || null, help: "What ran"},
    {
      title: "Schedule",
      value: (row) => row.scheduleSource || null,
      help: "Where the schedule is from"
    },
    {title: "Status", value: (row) => row.status, show: statusSign},
    number("Median µs", (row) => (row.medianNs === null ? null : row.medianNs / 1e3), 3),
    number(
        "±\u00a0MAD %", (row) => row.madPercent, 2,
        {help: "Median absolute deviation of the samples", downFirst: true}),
    number("GFLOP/s", (row) => row.gflops, 3, {downFirst: true}),
    number("GB/s", (row) => row.gbPerS, 3, {downFirst: true}),
    {
      title: "% roofline",
      numeric: true,
      value: (row) => row.roofline,
      show: rooflineBar,
      help: "Share of what the machine's ceilings allow",
      downFirst: true
    },
    {title: "Bound", value: (row) => row.bound || null, help: "Which ceiling judges it"},
    number(
        "vs vendor", (row) => row.vendorRatio, 3,
        {help: "Our time over the fastest vendor's: below 1 we are faster"}),
    {
      title: "Accuracy",
      numeric: true,
      value: (row) => (row.accurate === false ? Infinity : row.l2),
      show: accuracySign,
      help: "Passed, and relative L2 distance from the reference",
      downFirst: true
    },
    {
      title: "Trusted",
      value: (row) =>
          (row.trusted === null ? null :
               row.trusted      ? "yes" :
                                  "no"),
      show: trustedSign,
      help: "No: the row's details say why"
    },
  ];
  if (compared) {
    columns.push({
      title: "Verdict",
      value: (row) => row.change?.verdict ?? null,
      help: "Of the comparison",
      show: (row) => (row.change ? verdictSign(row.change.verdict) : nothing)
    });
  }
  return columns;
}

/** A test of texts: they contain `text`, or match it where it is a regular expression. */
function textFilter(text) {
  const wanted = text.trim().toLowerCase();
  let expression = null;
  try {
    expression = new RegExp(text.trim(), "i");
  } catch {
    // Half a regular expression, while it is typed, is looked for as it is.
  }
  return (value) => value.toLowerCase().includes(wanted) || expression?.test(value) === true;
}

function rowFilter(text, family, status) {
  const matches = textFilter(text);
  const [, hasStatus] = statusFilters[status] ?? statusFilters[""];
  return (row) => hasStatus(row) && (family === "" || row.family === family) &&
      [row.name, row.family, row.variant].some(matches);
}

/** Shows the table; `changed(rows)` gets the rows in order whenever that changes. */
function showKernels(report, families, changed) {
  const text = document.getElementById("filter-text");
  const family = document.getElementById("filter-family");
  const status = document.getElementById("filter-status");
  const count = document.getElementById("filter-count");
  const total = report.rows.length;
  family.append(...families.map((name) => element("option", {value: name}, shortened(name, 40))));
  status.append(...Object.entries(statusFilters)
                    .filter(([value]) => value !== "regressed" || report.comparison !== null)
                    .map(([value, [label]]) => element("option", {value}, label)));

  const table = new SortableTable({
    caption: "Kernels",
    rows: report.rows,
    columns: kernelColumns(report.comparison !== null),
    key: (row) => row.name,
    details: rowDetails,
    closed: closeDetails,
    changed: (rows) => {
      count.textContent = rows.length === total ? counted(total, "row") :
                                                  `${rows.length} of ${counted(total, "row")}`;
      changed(rows);
    },
  });
  const filter = () => table.setFilter(rowFilter(text.value, family.value, status.value));
  for (const input of [text, family, status]) input.addEventListener("input", filter);
  document.getElementById("kernels-table").append(table.node);
  return {
    table,
    /** Opens a row, whatever the filter was. */
    open(row) {
      if (!table.filter(row)) {
        for (const input of [text, family, status]) input.value = "";
        filter();
      }
      table.open(row);
    },
  };
}
