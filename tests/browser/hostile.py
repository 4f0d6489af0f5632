"""A report that tries to be more than data: names that are markup, fields of wrong types."""

import copy
import random

from make_sample import compared_report, failed

HOSTILE_NAMES = [
    "</script><script>document.title='owned'</script>",
    "<!--<script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "<svg onload=document.title='owned'>",
    "javascript:document.title='owned'",
    "{{scripts}}",
    "long/" + "x" * 3000,
    "words " * 300,
    "\u202egnp.exe\u2066 \u0000\u0007 \u2028\u2029 \U0001f4a9",
    "__proto__",
    "constructor",
    "",
    "a\"b'c&amp;d\\e\nf\tg",
]


def hostile_report(rows=500, seed=3):
    """Names that try to be markup, and fields that are missing, null or of another type."""
    rng = random.Random(seed)
    report = compared_report()
    good = [row for row in report["rows"] if row["status"] == "ok"]
    wrong = [
        None,
        "text",
        -1,
        0,
        1e308,
        -1e308,
        1e-300,
        [],
        {},
        [None],
        True,
        {"a": {"b": []}},
        "NaN",
    ]
    made = [None, 1, "row", [], {}, {"name": None, "status": None}, {"status": "ok"}]
    for i in range(rows - len(made)):
        row = copy.deepcopy(rng.choice(good))
        row["name"] = HOSTILE_NAMES[i] if i < len(HOSTILE_NAMES) else f"{row['name']}/copy{i}"
        if i < len(HOSTILE_NAMES):
            row["error"] = row["variant"] = row["schedule_source"] = row["family"] = row["name"]
            row["problem"] = {row["name"]: row["name"]}
            row.update(trusted=False, why_untrusted=row["name"])
            row["vendors"] = [{"variant": row["name"], "status": row["name"], "error": row["name"]}]
            row["dropped"] = [None, 3, {"ns": 5}, {"round": row["name"], "ns": 7}]
            row["dropped"] += [{"round": 3, "ns": None}, {"round": 2, "ns": 1e300}]
            row["accuracy"]["why"] = row["schedule"][row["name"]] = row["name"]
        elif i % 3 == 0:
            for key in rng.sample(sorted(row), 4):
                row[key] = rng.choice(wrong)
        elif i % 7 == 0:
            row = failed(row, rng.choice(["crash", "toString", "<b>"]), "x" * 500 + "<b>")
        made.append(row)
    report["rows"] = made
    report["suite"] = report["host"]["cpu"] = report["created"] = HOSTILE_NAMES[0]
    report["host"]["isa"] = HOSTILE_NAMES
    report["partial"] = True
    anchors_ = report["anchors"]
    anchors_["units"][HOSTILE_NAMES[2]] = HOSTILE_NAMES[2]
    anchors_["before"].update({HOSTILE_NAMES[2]: 33.0, "read_l1d": None, "nothing": 0, "less": -5})
    anchors_["per_round"] += [None, {}, {"round": "x", "values": [], "off": 3}]
    comparison = report["comparison"]
    for row, name in zip(comparison["rows"], HOSTILE_NAMES):
        row.update(name=name, why=name, verdict=rng.choice(["toString", None, "same", "regressed"]))
        row[rng.choice(["ratio", "ci95", "p_value", "samples"])] = rng.choice(wrong)
    comparison["rows"] += [None, [], {}]
    comparison["a"] = {"binary": HOSTILE_NAMES[0]}
    comparison["fidelity_changed"] += [None, {"name": HOSTILE_NAMES[0], "what": HOSTILE_NAMES[6]}]
    comparison["only_a"] += HOSTILE_NAMES + [None]
    return report
