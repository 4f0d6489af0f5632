#!/usr/bin/env python3
"""Looks at the HTML report in a headless Chromium: what it asks for, shows, sorts and filters.

    report_test.py [--probe build/release/bin/html-probe] [--screenshots build/screenshots]

The reports are made by make_sample.py and hostile.py. Screenshots of all of them are kept, to be looked at.
"""

import argparse
import json
import re
import sys
import unittest
from pathlib import Path

import jsonschema

from checks import LOW_CONTRAST, OVERFLOWING, UNNAMED
from chromium import find_chromium
from hostile import HOSTILE_NAMES
from make_sample import CEILINGS, MADE_UP, ROUNDS
from report_case import OPTIONS, REPORTS, TABLE, ReportCase

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "docs" / "report.schema.json").read_text())
WIDTHS = (1400, 400)


class ReportTest(ReportCase):
    def test_the_good_reports_are_as_the_program_writes_them(self):
        for name in ("sample", "compared", "empty"):
            with self.subTest(name):
                jsonschema.validate(self.reports[name], SCHEMA)

    def test_tables_fit_a_wide_window(self):
        for name in ("sample", "compared"):
            self.show(name)
            sizes = self.ask(
                "[...document.querySelectorAll('.scroll')].filter((n) => n.checkVisibility())"
                ".map((n) => [n.ariaLabel, n.scrollWidth, n.clientWidth])"
            )
            self.assertGreaterEqual(len(sizes), 2)
            for label, content, box in sizes:
                self.assertLessEqual(content, box, f"{label} of {name}")

    def test_the_harness_sees_requests_complaints_and_overflow(self):
        bad = Path(self.folder.name) / "bad.html"
        bad.write_text(
            "<!DOCTYPE html><html lang=en><title>bad</title><body style='background:#fff'>"
            "<img alt='' src='http://example.invalid/a.png'><button></button>"
            "<p style='width:3000px;color:#999'>wide<script>console.warn(1); nothing()</script>"
        )
        self.page.open(bad)
        self.assertIn("http://example.invalid/a.png", self.page.requests)
        self.assertGreaterEqual(len(self.page.complaints), 2)
        self.assertIn("the page", self.ask(OVERFLOWING))
        self.assertEqual(self.ask(LOW_CONTRAST), ["wide: 2.85"])
        self.assertEqual(self.ask(UNNAMED), ["<button></button>"])

    def test_every_report_in_every_view(self):
        for name in REPORTS:
            for width in WIDTHS:
                for dark in (False, True):
                    what = f"{name}-{width}-{'dark' if dark else 'light'}"
                    with self.subTest(what):
                        self.page.requests.clear()
                        self.page.complaints.clear()
                        self.show(name, width, dark=dark)
                        self.assert_sound(what)
                        if name != "hostile" or not dark:
                            self.page.screenshot(OPTIONS.screenshots / f"{what}.png")

    def test_says_what_ran_where(self):
        self.show("sample")
        text = self.ask("document.querySelector('.page-header').innerText")
        for expected in (
            "Suite transformer",
            "2026-01-31",
            "Imagined CPU",
            "2 threads",
            "0.1.0",
            "3 rows without a result",
            "1 row not trusted: samples scatter by 12 %",
            "at the begin of 1 of 13 rounds",
        ):
            self.assertIn(expected, text)
        self.assertNotIn("Partial", text)
        facts = self.ask("document.getElementById('facts').textContent")
        for expected in (
            "19.1.7",
            "Release",
            "avx512f",
            "L3 32.0 MiB",
            "16.0 GiB",
            "Debian 12",
            "0.01",
        ):
            self.assertIn(expected, facts)
        self.show("empty")
        self.assertIn("Partial", self.ask("document.getElementById('notices').innerText"))

    def test_every_row_that_ran_is_in_the_roofline(self):
        self.show("sample")
        points = self.ask("""(() => {
          const { data, scales: { x, y } } = Chart.getChart("roofline-chart");
          return data.datasets.filter((set) => !set.ceiling).flatMap((set) =>
            set.data.map((point) =>
            [set.label, point.row.name, point.x, point.y,
             point.x > x.min && point.x < x.max && point.y > y.min && point.y < y.max]));
        })()""")
        expected = [
            [row["family"], row["name"], row["flops"] / row["bytes"], row["gflops"], True]
            for row in self.reports["sample"]["rows"]
            if row["status"] == "ok"
        ]
        self.assertEqual(sorted(points), sorted(expected))
        ceilings = self.ask("""Chart.getChart("roofline-chart").data.datasets
          .filter((set) => set.ceiling).map((set) => [set.label.split(" ")[0], ...set.data])""")
        self.assertEqual(
            {name for name, *_ in ceilings},
            {"fma_f32", "dot_bf16", "dot_int8", "read_l1d", "read_l2", "read_l3", "read_memory"},
        )
        dashed = self.ask("""Chart.getChart("roofline-chart").data.datasets
          .filter((set) => set.borderDash?.length).map((set) => set.label.split(" ")[0])""")
        self.assertEqual(dashed, ["dot_int8"])
        for name, begin, end in ceilings:
            slope = end["y"] / begin["y"] / (end["x"] / begin["x"])
            level = end["y"] / begin["y"]
            self.assertAlmostEqual(slope if name.startswith("read") else level, 1, msg=name)

    def test_each_family_has_a_mark_that_can_be_hollow(self):
        self.show("sample")
        sets = self.ask("""Chart.getChart("roofline-chart").data.datasets
          .filter((set) => !set.ceiling)
          .map((set) => [set.label, set.pointStyle, set.rotation ?? 0])""")
        self.assertEqual(
            {family for family, *_ in sets}, {"matmul", "attention", "rowwise", "block", "module"}
        )
        self.assertEqual(len({tuple(mark) for _, *mark in sets}), len(sets))
        # Chart.js only strokes its others.
        filled = {"circle", "rect", "rectRot", "rectRounded", "triangle"}
        self.assertLessEqual({style for _, style, _ in sets}, filled)

    def test_points_have_tooltips_and_open_their_rows(self):
        self.show("sample")
        name = "smollm2/attention/t1"
        self.page.move(*self.point("roofline-chart", name))
        title, body = self.ask(
            """(({ tooltip }) => [tooltip.title, tooltip.body.flatMap((b) => b.lines)])
          (Chart.getChart("roofline-chart"))"""
        )
        self.assertEqual(title, [name])
        self.assertRegex(
            " ".join(body), r"µs ± .* % .* GFLOP/s, .* GB/s .* of the roofline, bound by memory"
        )
        self.page.screenshot(OPTIONS.screenshots / "tooltip-1400-light.png")
        self.page.move(*self.point("roofline-chart", "llama-3.2-1b/qkv/m8"))
        body = self.ask(
            "Chart.getChart('roofline-chart').tooltip.body.flatMap((b) => b.lines).join()"
        )
        self.assertIn("not trusted: samples scatter by 12 %", body)
        self.page.click(*self.point("roofline-chart", name))
        opened = (
            "[...document.querySelectorAll('tr.detail-row')]"
            ".map((row) => row.previousSibling.dataset.key)"
        )
        self.assertEqual(self.ask(opened), [name])
        # From the spread too.
        other = "llama-3.2-1b/qkv/m128"
        self.page.click(*self.point("spread-chart", other))
        self.assertEqual(set(self.ask(opened)), {name, other})
        # And where the filter hid it.
        self.filter("text", "rowwise")
        self.filter("family", "")
        self.page.click(*self.point("roofline-chart", "smollm2/q_proj/m512"))
        self.assertIn("smollm2/q_proj/m512", self.column("Name"))
        self.assert_sound("opened rows")

    def test_numbers_sort_as_numbers(self):
        self.show("sample")
        number = lambda text: float(re.sub(r"[^\d.e-]", "", text.replace("fail", "")))
        for title, first in (
            ("Median", "ascending"),
            ("GFLOP/s", "descending"),
            ("% roofline", "descending"),
            ("Accuracy", "descending"),
        ):
            for direction in (first, {"ascending": "descending", "descending": "ascending"}[first]):
                self.assertEqual(self.sort(title), direction)
                cells = self.column(title)
                values = [number(text) for text in cells if text != "–"]
                self.assertGreater(len(values), 20)
                self.assertEqual(values, sorted(values, reverse=direction == "descending"))
                self.assertEqual(cells[len(values) :], ["–"] * (len(cells) - len(values)))
        self.assertEqual(self.ask("document.querySelectorAll('#kernels [aria-sort]').length"), 1)
        self.page.screenshot(OPTIONS.screenshots / "sorted-1400-light.png")

    def test_names_sort_by_the_numbers_in_them_and_keys_work(self):
        self.show("sample")
        self.ask(f"document.querySelector('{TABLE} thead button').focus()")
        self.page.press("Enter", "\r")
        self.assertEqual(self.ask(f"document.querySelector('{TABLE} th').ariaSort"), "ascending")
        names = self.column("Name")
        sizes = [name for name in names if name.startswith("smollm2/q_proj")]
        self.assertEqual(sizes, [f"smollm2/q_proj/m{m}" for m in (1, 8, 128, 512)])
        self.page.press(" ", " ")
        self.assertEqual(self.column("Name"), names[::-1])

    def test_filters(self):
        self.show("compared")
        everything = self.names("compared")
        self.assertEqual(self.column("Name"), everything)
        self.assertEqual(
            self.filter("text", "LLAMA-3-8B/N"),
            self.names("compared", lambda r: "8b/n" in r["name"]),
        )
        count = self.ask("document.getElementById('filter-count').innerText")
        self.assertEqual(count, f"2 of {len(everything)} rows")
        self.assertEqual(
            self.filter("text", "^smollm2/.*m(1|8)$"),
            [
                "smollm2/q_proj/m1",
                "smollm2/q_proj/m8",
                "smollm2/ffn_down/m1",
                "smollm2/ffn_down/m8",
            ],
        )
        self.assertEqual(self.filter("text", "nothing("), [])
        self.assertEqual(
            self.filter("text", "attention"),
            self.names("compared", lambda r: r["family"] == "attention"),
        )
        self.filter("text", "")
        self.assertEqual(self.filter("family", "block"), ["smollm2/block/t1", "smollm2/block/t128"])
        self.filter("family", "")
        self.assertEqual(
            self.filter("status", "failed"), self.names("compared", lambda r: r["status"] != "ok")
        )
        self.assertEqual(self.filter("status", "untrusted"), ["llama-3.2-1b/qkv/m8"])
        regressed = {
            row["name"]
            for row in self.reports["compared"]["comparison"]["rows"]
            if row["verdict"] == "regressed"
        }
        self.assertTrue(regressed)
        self.assertEqual(set(self.filter("status", "regressed")), regressed)
        spread = self.ask(
            "[...new Set(Chart.getChart('spread-chart').data.datasets[0].data"
            ".map((point) => point.row.name))]"
        )
        self.assertEqual(set(spread), regressed)
        self.assert_sound("filtered")

    def test_rows_open(self):
        for width in WIDTHS:
            self.show("sample", width)
            text = self.open_row("smollm2/q_proj/m8")
            for expected in (
                "Samples",
                "Crosses did not count",
                "samples dropped",
                "vendor:openblas",
                "tile_n",
                "code bytes",
                "l2 rel",
                "Kernels",
            ):
                self.assertIn(expected, text)
            drawn = self.ask(
                "Chart.getChart(document.querySelector('.detail canvas')).data.datasets"
                ".map((set) => set.data.length)"
            )
            self.assertEqual(drawn, [ROUNDS + MADE_UP, ROUNDS, ROUNDS])
            self.assert_sound(f"an opened row at {width}")
            box = self.ask("document.querySelector('.detail').getBoundingClientRect().width")
            self.assertLessEqual(box, width)
            self.page.screenshot(OPTIONS.screenshots / f"opened-{width}-light.png")
            self.assertEqual(self.open_row("smollm2/q_proj/m8"), "")
            self.assertIn("longer than 60 s", self.open_row("llama-3-8b/ffn_up/m512"))

    def test_samples_lie_at_their_rounds(self):
        self.show("sample")
        name = "smollm2/q_proj/m8"
        row = next(row for row in self.reports["sample"]["rows"] if row["name"] == name)
        self.open_row(name)
        chart = "Chart.getChart(document.querySelector('.detail canvas'))"
        own, *vendors = self.ask(
            f"{chart}.data.datasets.map((set) => set.data.map(({{ x, y, note }}, i) =>"
            " [x, y, note ?? '', set.pointStyle[i] === 'crossRot']))"
        )
        counting = zip(row["rounds"], row["samples_ns"])
        dropped = [[s["round"], s["ns"] / 1e3, "did not count", True] for s in row["dropped"]]
        self.assertEqual(own, sorted([[r, ns / 1e3, "", False] for r, ns in counting] + dropped))
        # Vendors' are of the planned rounds, whichever of ours count.
        for vendor, drawn in zip(row["vendors"], vendors, strict=True):
            expected = [[r, ns / 1e3, "", False] for r, ns in enumerate(vendor["samples_ns"])]
            self.assertEqual(drawn, expected)
        label = self.ask(
            "(({ config, data: { datasets: [set] } }) =>"
            " config.options.plugins.tooltip.callbacks.label("
            "{ dataset: set, raw: set.data.find((point) => point.note) }))"
            f"({chart})"
        )
        self.assertRegex(label, r"^generated, round \d+: .* \(did not count\)$")

    def test_says_why_something_is_not_trusted_or_missing(self):
        self.show("sample")
        untrusted, unpeered = "llama-3.2-1b/qkv/m8", "llama-3.2-1b/qkv/m1"
        self.assertIn("no: samples scatter by 12 %", self.open_row(untrusted))
        self.open_row(untrusted)
        text = self.open_row(unpeered)
        for expected in ("wrong_result", "l2_rel 0.02 is above", "libdnnl.so.3 is not here"):
            self.assertIn(expected, text)
        self.assert_sound("an opened row with vendors' errors")
        self.page.screenshot(OPTIONS.screenshots / "errors-1400-light.png")
        reasons = self.ask("""[{ trusted: false, samples_ns: [1] }, { trusted: false },
          { trusted: false, samples_ns: [1], why_untrusted: 3 },
          { trusted: true, why_untrusted: "x" }].map((row) => readRow(row, 0).distrust)""")
        self.assertEqual(
            reasons, ["the machine was disturbed", "no samples", "the machine was disturbed", ""]
        )

    def test_ceilings(self):
        self.show("sample")
        sets = self.ask("""Chart.getChart("anchors-chart").data.datasets.map((set) =>
          [set.label, set.borderColor, set.pointStyle[0], set.rotation ?? 0])""")
        self.assertEqual({name for name, *_ in sets}, set(CEILINGS))
        self.assertEqual(len({tuple(look) for _, *look in sets}), len(CEILINGS))
        crossed = self.ask("""Chart.getChart("anchors-chart").data.datasets.flatMap((set) =>
          set.data.filter(({ note }) => note).map(({ x, note }) => [set.label, x, note]))""")
        self.assertEqual(crossed, [["read_memory", 7, "off at the begin of the round"]])
        table = self.ask("document.getElementById('anchors-table').innerText")
        self.assertIn("Off at the begin of rounds", table)

    def test_shapes_leave_out_what_a_problem_does_not_have(self):
        self.show("sample")
        shapes = dict(zip(self.column("Name"), self.column("Shape"), strict=True))
        self.assertEqual(shapes["smollm2/q_proj/m1"], "1×576×576 q4_1")
        size, *facts = shapes["smollm2/q_proj/m8"].split(", ")
        self.assertEqual(size, "8×576×576 q4_1")
        self.assertEqual(set(facts), {"transposed", "epilogue bias,gelu"})

    def test_comparison(self):
        self.show("sample")
        self.assertFalse(self.ask("document.getElementById('comparison').checkVisibility()"))
        self.show("compared")
        comparison = self.reports["compared"]["comparison"]
        rows = self.ask("""[...document.querySelectorAll("#comparison tbody tr")].map((row) =>
          [row.dataset.key, row.querySelector(".sign").innerText.replace("\\u00a0", " "),
           row.querySelectorAll(".interval circle").length])""")
        signs = {"improved": "▼", "same": "=", "regressed": "▲", "inconclusive": "?"}
        self.assertEqual(
            rows,
            [
                [row["name"], f"{signs[row['verdict']]} {row['verdict']}", 1]
                for row in comparison["rows"]
            ],
        )
        self.assertEqual({row["verdict"] for row in comparison["rows"]}, set(signs))
        text = self.ask("document.getElementById('comparison').innerText")
        for expected in (
            "0123456789abcdef",
            "passed before, fails now",
            "smollm2/logits/m1",
            "llama-3-8b/norm/t128",
            "7.00 %",
        ):
            self.assertIn(expected, text)
        # Right of the middle is slower.
        right = self.ask("""[...document.querySelectorAll("#comparison tbody tr")].map((row) =>
          row.querySelector("circle").cx.baseVal.value > 75)""")
        self.assertEqual(right, [row["ratio"] > 1 for row in comparison["rows"]])

    def test_of_programs_there_is_only_the_comparison(self):
        self.show("live")
        text = self.ask("document.body.innerText")
        for expected in ("program old/kernelforge", "program new/kernelforge", "in turns", "3.00 %"):
            self.assertIn(expected, text)
        self.assertNotIn("no rows", text)
        shown = "[...document.querySelectorAll('main > section')].filter((s) => s.checkVisibility())"
        self.assertEqual(self.ask(f"{shown}.map((section) => section.id)"), ["comparison"])
        self.assertEqual(self.ask("document.querySelectorAll('#summary > li').length"), 1)
        self.assertFalse(self.ask("document.getElementById('about').checkVisibility()"))

    def test_theme(self):
        self.show("compared")
        paper = "getComputedStyle(document.body).backgroundColor"
        light = self.ask(paper)
        line = "Chart.getChart('roofline-chart').data.datasets[0].borderColor"
        drawn = self.ask(line)
        self.ask("document.getElementById('theme').click()")
        dark = self.ask(paper)
        self.assertNotEqual(light, dark)
        self.assertNotEqual(drawn, self.ask(line))
        self.assertEqual(self.ask("document.getElementById('theme').innerText"), "Light theme")
        self.assert_sound("dark by hand")
        self.page.view(1400, dark=True)
        self.assertEqual(self.ask(paper), dark)
        self.ask("document.getElementById('theme').click()")
        self.assertEqual(self.ask(paper), light)
        self.page.view(1040, media="print")  # A4, landscape
        self.page.settle()
        self.assertEqual(self.ask("document.documentElement.scrollWidth"), 1040)
        self.page.screenshot(OPTIONS.screenshots / "print-1000.png")
        self.assertEqual(
            self.ask("getComputedStyle(document.getElementById('theme')).display"), "none"
        )

    def test_hostile_names_stay_text(self):
        self.show("hostile")
        names = self.ask(
            f"[...document.querySelectorAll('{TABLE} > tbody .opener')].map((b) => b.textContent)"
        )
        self.assertEqual(len(names), 500)
        for name in HOSTILE_NAMES:
            if name:
                short = name if len(name) <= 120 else name[:59] + "…" + name[-59:]
                self.assertIn(short, names)
        self.assertNotIn("owned", self.ask("document.title").replace("document.title='owned'", ""))
        self.assertEqual(
            self.ask("document.querySelectorAll('img, iframe, link, [onerror], [onload]').length"),
            0,
        )
        opened = self.ask("""(() => {
          const openers = [...document.querySelectorAll("#kernels-table .opener")].slice(0, 60);
          openers.forEach((opener) => opener.click());
          return openers.length;
        })()""")
        self.assertEqual(opened, 60)
        for title in ("Name", "Median", "Accuracy", "Verdict"):
            self.sort(title)
            self.sort(title)
        self.assert_sound("hostile, opened and sorted")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--probe", type=Path, default=ROOT / "build/release/bin/html-probe")
    parser.add_argument("--screenshots", type=Path, default=ROOT / "build/screenshots")
    parser.parse_known_args(namespace=OPTIONS)
    OPTIONS.browser = find_chromium()
    if OPTIONS.browser is None:
        sys.exit(
            "report_test: there is no Chromium; install one or name it in KERNELFORGE_CHROMIUM"
        )
    OPTIONS.screenshots.mkdir(parents=True, exist_ok=True)
    _, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *rest])


if __name__ == "__main__":
    main()
