"""The pages of the made-up reports, and what tests do with them as a reader would."""

import argparse
import json
import subprocess
import tempfile
import unittest
from pathlib import Path

from checks import LOW_CONTRAST, OVERFLOWING, UNNAMED
from chromium import Browser, Page
from hostile import hostile_report
from make_sample import compared_report, empty_report, live_report, sample_report

OPTIONS = argparse.Namespace()  # probe, browser, screenshots: set by the program
REPORTS = {
    "sample": sample_report,
    "compared": compared_report,
    "live": live_report,
    "hostile": hostile_report,
    "empty": empty_report,
    "bare": dict,
}

TABLE = "#kernels-table > .scroll > table"


class ReportCase(unittest.TestCase):
    """Each test has a page of its own in one browser."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.reports = {name: make() for name, make in REPORTS.items()}
        for name, report in cls.reports.items():
            source = Path(cls.folder.name) / f"{name}.json"
            source.write_text(json.dumps(report))
            subprocess.run([OPTIONS.probe, source, source.with_suffix(".html")], check=True)
        cls.browser = cls.enterClassContext(Browser(OPTIONS.browser))
        cls.addClassCleanup(cls.folder.cleanup)

    def setUp(self):
        self.page = Page(self.browser)
        self.addCleanup(self.page.close)
        self.page.view(1400)

    def file(self, name):
        return Path(self.folder.name) / f"{name}.html"

    def show(self, name, width=1400, **view):
        self.page.view(width, **view)
        self.page.open(self.file(name))

    def ask(self, expression):
        return self.page.evaluate(expression)

    def column(self, title):
        """The texts of a column of the table of kernels, from the top."""
        return self.ask(f"""(() => {{
          const heads = [...document.querySelectorAll("{TABLE} > thead th")];
          const at = heads.findIndex((head) =>
            head.innerText.trim().startsWith({json.dumps(title)}));
          return [...document.querySelectorAll("{TABLE} > tbody > tr[data-key]")]
            .map((row) => row.children[at].innerText.trim());
        }})()""")

    def sort(self, title):
        """Clicks a heading; what it then says of the order."""
        return self.ask(f"""(() => {{
          const head = [...document.querySelectorAll("{TABLE} > thead th")]
            .find((head) => head.innerText.trim().startsWith({json.dumps(title)}));
          head.querySelector("button").click();
          return head.ariaSort;
        }})()""")

    def filter(self, field, value):
        self.ask(f"""(() => {{
          const field = document.getElementById("filter-{field}");
          field.value = {json.dumps(value)};
          field.dispatchEvent(new Event("input"));
        }})()""")
        return self.column("Name")

    def assert_sound(self, what):
        """No complaint, nothing asked for but the file, nothing sticking out, all readable."""
        self.page.settle()
        self.assertEqual(self.page.complaints, [], what)
        self.assertEqual(
            [url[:60] for url in self.page.requests if not url.startswith("file:")], [], what
        )
        self.assertEqual(len(set(self.page.requests)), 1, what)
        self.assertEqual(self.ask(OVERFLOWING), [], what)
        self.assertEqual(self.ask(LOW_CONTRAST), [], what)
        self.assertEqual(self.ask(UNNAMED), [], what)

    def names(self, report, keep=lambda row: True):
        return [row["name"] for row in self.reports[report]["rows"] if keep(row)]

    def point(self, chart, name):
        """Where the row's point lies in the window."""
        return self.ask(f"""(() => {{
          document.documentElement.style.scrollBehavior = "auto";
          const chart = Chart.getChart("{chart}");
          chart.canvas.scrollIntoView({{ block: "center" }});
          const box = chart.canvas.getBoundingClientRect();
          for (const [i, set] of chart.data.datasets.entries()) {{
            const at = set.data.findIndex((point) => point.row?.name === {json.dumps(name)});
            if (at < 0) continue;
            const {{ x, y }} = chart.getDatasetMeta(i).data[at];
            return [box.x + x, box.y + y];
          }}
        }})()""")

    def open_row(self, name):
        self.ask(f"document.querySelector('tr[data-key=\"{name}\"] .opener').click()")
        self.page.settle()
        return self.ask("document.querySelector('.detail')?.innerText ?? ''")
