// The comparison of two reports or programs.
"use strict";

/** How far the bars reach: all intervals, at least twice the threshold, at most a factor of 2. */
function ratioReach(comparison) {
  const ends = comparison.rows.flatMap((change) => [change.low, change.high, change.ratio])
                   .filter((value) => value > 0)
                   .map((value) => Math.abs(Math.log(value)));
  const threshold = Math.log1p(comparison.threshold ?? 0.05);
  return Math.min(Math.log(2), Math.max(2 * threshold, 1.1 * Math.max(0, ...ends)));
}

/** An interval as a bar about 1, in which the threshold is a band. */
function intervalBar(change, threshold, reach) {
  const width = 150, height = 20, middle = height / 2;
  const place = (ratio) => {
    const share = Math.max(-1, Math.min(1, Math.log(ratio) / reach));
    return (width / 2) * (1 + share * 0.94);
  };
  const at = (name, ratio) => ({[`${name}1`]: place(ratio), [`${name}2`]: place(ratio)});
  const picture = svgElement("svg", {
    class: `interval ${change.verdict}`,
    width,
    height,
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    "aria-label":
        `ratio ${digits(change.ratio)}, interval ${digits(change.low)} to ${digits(change.high)}`,
  });
  if (threshold !== null) {
    const left = place(1 / (1 + threshold));
    picture.append(svgElement("rect", {
      class: "band",
      x: left,
      y: 1,
      width: place(1 + threshold) - left,
      height: height - 2,
    }));
  }
  picture.append(svgElement("line", {class: "one", ...at("x", 1), y1: 0, y2: height}));
  if (change.low > 0 && change.high > 0) {
    picture.append(
        svgElement("line", {
          class: "range",
          x1: place(change.low),
          x2: place(change.high),
          y1: middle,
          y2: middle
        }),
        svgElement(
            "line", {class: "range", ...at("x", change.low), y1: middle - 4, y2: middle + 4}),
        svgElement(
            "line", {class: "range", ...at("x", change.high), y1: middle - 4, y2: middle + 4}));
  }
  if (change.ratio > 0) {
    picture.append(
        svgElement("circle", {class: "ratio", cx: place(change.ratio), cy: middle, r: 3.5}));
  }
  return picture;
}

function changeColumns(comparison) {
  const reach = ratioReach(comparison);
  const corrected = comparison.rows.some((row) => row.corrected);
  const time = (title, value) => ({
    title,
    numeric: true,
    value,
    show: (row) => digits(value(row) === null ? null : value(row) / 1e3),
  });
  const interval = (row) =>
      (row.low === null ? nothing : `${digits(row.low)} – ${digits(row.high)}`);
  const samples = (row) =>
      row.needed === null ? plain(row.samples) : `${plain(row.samples)} of ${plain(row.needed)}`;
  return [
    {title: "Name", value: (row) => row.name},
    time("A µs", (row) => row.a),
    time("B µs", (row) => row.b),
    {
      title: corrected ? "Ratio B/A, corrected" : "Ratio B/A",
      numeric: true,
      value: (row) => row.ratio,
      show: (row) => digits(row.ratio, 4),
      help: corrected ? "Times, corrected for the machine's speed: above 1, B is slower"
                      : "Times: above 1, B is slower",
      downFirst: true
    },
    {
      title: "Faster ◂ 1 ▸ slower",
      numeric: true,
      value: (row) => row.ratio,
      downFirst: true,
      show: (row) => intervalBar(row, comparison.threshold, reach),
      help: "The interval of the ratio; the band is the threshold"
    },
    {title: "95 % interval", numeric: true, value: (row) => row.low, show: interval},
    {
      title: "p",
      numeric: true,
      value: (row) => row.p,
      show: (row) => probability(row.p),
      help: "Adjusted for the number of rows"
    },
    {
      title: "Samples",
      numeric: true,
      value: (row) => row.samples,
      show: samples,
      help: "Samples that there are, of those needed to see a change of the threshold"
    },
    {title: "Verdict", value: (row) => row.verdict, show: (row) => verdictSign(row.verdict)},
    {title: "Why", wide: true, value: (row) => row.why || null},
  ];
}

/** "A: run 12ab, 2026-01-31, commit 34cd". */
function sideText(side) {
  const what = textOf(side.binary) ? `program ${side.binary}` : `run ${plain(side.run_id)}`;
  const commit = textOf(side.git_commit) && `commit ${side.git_commit.slice(0, 12)}`;
  return [what, dateText(side.created), commit].filter((text) => text !== "").join(", ");
}

function nameList(title, names) {
  if (names.length === 0) return null;
  return element(
      "section", {}, element("h3", {}, title),
      element("ul", {class: "names"}, ...names.map((name) => element("li", {}, name))));
}

function geomeanText({geomean, geomeanMeasured}) {
  const text = digits(geomean, 4);
  if (geomeanMeasured === null) return text;
  return `${text} corrected, ${digits(geomeanMeasured, 4)} as measured`;
}

/** Shows the comparison where there is one. */
function showComparison(comparison) {
  if (comparison === null) return null;
  const {rows, threshold, alpha} = comparison;
  const count = (verdict) => rows.filter((row) => row.verdict === verdict).length;
  const counts =
      Object.keys(verdictSigns)
          .map((verdict) => element("li", {}, verdictSign(verdict), ` ${count(verdict)}`));
  const how = comparison.kind === "live" ? "Both programs ran in turns." : "Two stored reports.";
  const table = new SortableTable({
    caption: "Comparison by kernel",
    rows,
    key: (row) => row.name,
    columns: changeColumns(comparison),
  });
  const box = document.getElementById("comparison");
  box.hidden = false;
  box.append(
      factList([
        ["verdict", verdictSign(comparison.verdict)],
        ["geometric mean of the ratios", geomeanText(comparison)],
        ["A", sideText(comparison.a)],
        ["B", sideText(comparison.b)],
        ["threshold", threshold === null ? null : percent(100 * threshold)],
        ["alpha", alpha],
      ]),
      element(
          "p", {class: "hint"},
          `${how} Ratios are times of B over A: above 1, B is slower. ` +
              "Bars are their intervals about 1; the band is the threshold."),
      element("ul", {class: "counts"}, ...counts), table.node);
  for (const extra
           of [nameList(
                   "Results that changed",
                   comparison.fidelity.map(({name, what}) => `${name}: ${what}`)),
               nameList("Only in A", comparison.onlyA),
               nameList("Only in B", comparison.onlyB),
  ]) {
    if (extra) box.append(extra);
  }
  return table;
}
