// The page: reads the report that it holds and shows its parts.
"use strict";

/**
 * Whether there is nothing but a comparison: of two programs that ran in turns no rows are kept.
 */
function isOnlyCompared(report) {
  return report.comparison !== null && report.rows.length === 0;
}

function showNotices(report) {
  const {rows, rounds} = report;
  const failed = rows.filter((row) => !row.ok).length;
  const untrusted = rows.filter((row) => row.trusted === false);
  const reasons = [...new Set(untrusted.map((row) => row.distrust))];
  const why = reasons.length === 1 ? shortened(reasons[0], 120) : "their details say why";
  const off = rounds.filter((round) => round.off.length > 0).length;
  const notices = [
    report.partial && "Partial: the run ended before all rows were measured.",
    rows.length === 0 && !report.comparison && "The report has no rows.",
    failed > 0 && `${counted(failed, "row")} without a result: failed, or not to be had here.`,
    untrusted.length > 0 &&
        `${counted(untrusted.length, "row")} not trusted: ${why}; measure again.`,
    off > 0 &&
        `The machine was off its speed at the begin of ${off} of ${
            counted(rounds.length, "round")}.`,
  ].filter((text) => text);
  document.getElementById("notices").append(...notices.map(
      (text) =>
          element("li", {class: "notice"}, element("span", {"aria-hidden": "true"}, "! "), text)));
}

function showSummary(report) {
  const ok = report.rows.filter((row) => row.ok);
  const roofline = medianOf(ok.map((row) => row.roofline).filter((value) => value !== null));
  const vendor = ok.map((row) => row.vendorRatio).filter((value) => value > 0);
  const tiles = isOnlyCompared(report) ? [] : [
    [`${ok.length} of ${report.rows.length}`, "kernels ran and are right"],
    [percent(roofline), "of the roofline, median"],
  ];
  if (vendor.length > 0) {
    tiles.push([
      digits(geometricMean(vendor)),
      `time over the fastest vendor's, geometric mean of ${vendor.length}`
    ]);
  }
  if (report.comparison) {
    tiles.push([
      verdictSign(report.comparison.verdict),
      `since A, geometric mean ${digits(report.comparison.geomean)}`
    ]);
  }
  document.getElementById("summary").append(...tiles.map(
      ([value, label]) =>
          element("li", {}, element("strong", {}, value), element("span", {}, label))));
}

function showFacts(report) {
  const {kernelforge, host, device, settings} = report;
  const caches =
      Object.entries(objectOf(host.caches))
          .map(
              ([name, bytes]) =>
                  `${name.replace(/_bytes$/, "").toUpperCase()} ${byteSize(finite(bytes))}`);
  const build = part("Build", factList([
                       ["version", kernelforge.version],
                       ["commit", kernelforge.git_commit],
                       ["LLVM", kernelforge.llvm],
                       ["build type", kernelforge.build_type],
                       ["run", report.runId],
                     ]));
  const machine = part(
      "Machine", factList([
        ["CPU", host.cpu],
        ["instruction sets", host.isa],
        ["cores used", host.cores_used],
        ["caches", caches],
        ["memory", byteSize(finite(host.memory_bytes))],
        ["system", host.os],
        ["target", [device.target, device.cpu].map(textOf).filter((text) => text !== "").join(" ")],
        ["features", device.features],
      ]));
  document.getElementById("facts").append(build, machine, part("Settings", allFacts(settings)));
}

function showTitle(report) {
  const suite = report.suite ? `Suite ${shortened(report.suite, 60)}` : "Report";
  document.getElementById("title").textContent = suite;
  document.title = `${suite} – KernelForge`;
  const {kernelforge, host, settings} = report;
  const facts = [
    dateText(report.created),
    textOf(host.cpu),
    finite(settings.threads) === null ? "" : counted(settings.threads, "thread"),
    textOf(kernelforge.version) && `KernelForge ${kernelforge.version}`,
    textOf(kernelforge.git_commit) && `commit ${kernelforge.git_commit.slice(0, 12)}`,
  ];
  const subtitle = facts.filter((text) => text !== "").join(" · ");
  document.getElementById("subtitle").textContent = subtitle;
}

function showReport() {
  const report = readReport(JSON.parse(document.getElementById("report-data").textContent));
  const families = [...new Set(report.rows.map((row) => row.family))].sort(
      (a, b) => knownRank(a) - knownRank(b) || (a < b ? -1 : 1));
  startTheme(document.getElementById("theme"));
  showTitle(report);
  showNotices(report);
  showSummary(report);
  showFacts(report);
  showComparison(report.comparison);
  let kernels = null;
  const select = (row) => kernels.open(row);
  kernels = showKernels(report, families, (rows) => showSpread(rows, families, select));
  showRoofline(report, families, select);
  showAnchors(report);
  for (const id of ["about", "kernels", "spread"])
    document.getElementById(id).hidden ||= isOnlyCompared(report);
  return report;
}

showReport();
