"""Ratios as one table in Markdown. A ratio is the peer's time as a multiple of ours: above 1 ours is faster."""

import math
import statistics

import problems


def measured(row):
    """The peers of a row that have a ratio."""
    return {name: peer for name, peer in row["peers"].items() if "ratio" in peer}


def fastest(row):
    """The name of the peer that is closest to us, or ahead; None where none was measured."""
    return min(measured(row), key=lambda name: row["peers"][name]["ratio"], default=None)


def ahead(row):
    """Who is ahead: ours, or the fastest peer."""
    best = fastest(row)
    return best if best and row["peers"][best]["ratio"] < 1 else "ours"


def geomean(values):
    return math.exp(statistics.fmean(math.log(value) for value in values))


def summary(rows):
    """Of a group: rows that were compared, in how many of them a peer is ahead, and geometric means by peer, `fastest`
    among them, each with the number of its rows."""
    compared = [row for row in rows if measured(row)]
    ratios = {}
    for row in compared:
        for name, peer in measured(row).items():
            ratios.setdefault(name, []).append(peer["ratio"])
        ratios.setdefault("fastest", []).append(row["peers"][fastest(row)]["ratio"])
    return {
        "rows": len(compared),
        "behind": sum(ahead(row) != "ours" for row in compared),
        "geomeans": {name: {"ratio": geomean(each), "rows": len(each)} for name, each in ratios.items()},
    }


def time_text(ns):
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}"
    return f"{ns:.3g} ns"


def ours_text(row):
    if "tokens_per_s" in row:
        return f"{row['tokens_per_s']:.4g} tokens/s"
    flops = problems.flops(row["row"])
    return time_text(row["ours_ns"]) + (f", {flops / row['ours_ns']:.0f} GFLOP/s" if flops else "")


def cell(peer):
    if peer is None:
        return ""
    if "ratio" not in peer:
        return "–"
    return f"{peer['ratio']:.2f} ({peer['low']:.2f}–{peer['high']:.2f})"


def lines_of_group(group, rows, peers):
    for row in rows:
        if "why" in row:
            yield [group, row["name"], f"cannot: {row['why']}", *[""] * len(peers), ""]
            continue
        best = fastest(row)
        yield [group, row["name"], ours_text(row), *(cell(row["peers"].get(peer)) for peer in peers),
               f"**{ahead(row)}**" if ahead(row) != "ours" else "ours" if best else ""]  # fmt: skip
    made = summary(rows)
    if made["rows"]:
        means = made["geomeans"]
        texts = [f"**{means[peer]['ratio']:.2f}** ({means[peer]['rows']})" if peer in means else "" for peer in peers]
        last = f"**{means['fastest']['ratio']:.2f}** of the fastest; behind in {made['behind']} of {made['rows']}"
        yield [group, "geometric mean (rows)", "", *texts, last]


def table(groups, peers):
    """Rows by group as one table, with a column for each of `peers` that was measured at all."""
    used = [peer for peer in peers if any(peer in measured(row) for rows in groups.values() for row in rows)]
    head = ["group", "problem", "ours", *used, "ahead"]
    lines = [head, ["---", "---", "--:", *["--:"] * len(used), "---"]]
    for group, rows in groups.items():
        lines += lines_of_group(group, rows, used)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def reasons(groups, missing):
    """One line for each thing that was left out: peers that are missing, rows that a peer cannot do, and ways that it
    has but cannot do them in. A reason that several rows have is said once."""
    lines = [f"{peer} is left out: {why}" for peer, why in missing.items()]
    said = {}
    for group, rows in groups.items():
        for row in rows:
            for name, peer in row["peers"].items():
                whys = [peer["why"]] if "why" in peer else []
                whys += [f"not by {how}: {why}" for how, why in peer.get("tried", {}).items() if isinstance(why, str)]
                for why in whys:
                    said.setdefault((name, group, why), []).append(row["name"])
    for (name, group, why), rows in said.items():
        lines.append(f"{name}, {group}, {'; '.join(rows) if len(rows) < 4 else f'{len(rows)} rows'}: {why}")
    return lines


def whole(about, groups, peers, missing):
    """All that is printed."""
    versions = ({"kernelforge": about["kernelforge"]} if about["kernelforge"] else {}) | about["versions"]
    head = [
        f"{about['cpu']}, {about['threads']} threads on cores {', '.join(map(str, about['cores']))}; load "
        f"{about['load_before']:.1f} before, {about['load_after']:.1f} after; {about['date']}",
        "; ".join(f"{name} {version}" for name, version in versions.items()),
        f"`{about['command']}`",
        f"Time of theirs to ours, the median of {about['rounds']} rounds of a kernel, {about['model_rounds']} of a "
        "model (least–most): above 1 ours is faster.",
    ]
    return "\n\n".join(["  \n".join(head), table(groups, peers), "  \n".join(reasons(groups, missing))]).rstrip()
