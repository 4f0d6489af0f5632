"""Makes reports for the tests of the HTML page. None of their numbers was measured: times come from
a roofline (ceilings of an imagined machine) and noise from a seeded generator."""

import math
import random
import statistics

CEILINGS = {
    "fma_f32": ("GFLOP/s", 208.0),
    "dot_bf16": ("GFLOP/s", 390.0),
    "dot_int8": ("GOP/s", 790.0),
    "exchange": ("M/s", 36.0),
    "read_l1d": ("GB/s", 420.0),
    "read_l2": ("GB/s", 171.0),
    "read_l3": ("GB/s", 64.0),
    "read_memory": ("GB/s", 21.5),
}
CACHES = {"l1d_bytes": 32 << 10, "l2_bytes": 1 << 20, "l3_bytes": 32 << 20}
ROUNDS = 11  # planned; in each, every row and every vendor's variant of it is measured
MADE_UP = 2  # rounds after them, in place of samples of our own that do not count
WEIGHT_BYTES = {"f32": 4.0, "f16": 2.0, "q8_0": 34 / 32, "q4_1": 20 / 32, "q4_k": 144 / 256}
MATMULS = [
    ("smollm2/q_proj", 576, 576, "q4_1"),
    ("smollm2/ffn_down", 576, 1536, "q8_0"),
    ("llama-3.2-1b/qkv", 3072, 2048, "q4_k"),
    ("llama-3-8b/ffn_up", 14336, 4096, "q4_k"),
]


def anchor_of(size):
    """The ceiling of bandwidth that judges so many bytes."""
    for level in ("l1d", "l2", "l3"):
        if size <= CACHES[f"{level}_bytes"]:
            return f"read_{level}"
    return "read_memory"


def problems():
    """(name, family, problem, flops, bytes) of each row."""
    for model, n, k, weights in MATMULS:
        for m in (1, 8, 128, 512):
            size = n * k * WEIGHT_BYTES[weights] + 4 * m * (n + k)
            problem = {"m": m, "n": n, "k": k, "dtype": "f32", "weights": weights}
            problem |= {"transpose": False, "epilogue": ""}
            yield f"{model}/m{m}", "matmul", problem, 2 * m * n * k, int(size)
    for model, heads, head in (("smollm2", 9, 64), ("llama-3-8b", 32, 128)):
        for tokens, length in ((1, 1024), (128, 128)):
            flops = 4 * heads * tokens * length * head
            size = 4 * heads * head * (2 * length // 3 + 2 * tokens)
            problem = {"tokens": tokens, "length": length, "heads": heads, "head_dim": head}
            yield f"{model}/attention/t{tokens}", "attention", problem, flops, size
    for model, d in (("smollm2", 576), ("llama-3-8b", 4096)):
        for tokens in (1, 128):
            problem = {"tokens": tokens, "d_model": d, "kind": "rms"}
            yield f"{model}/norm/t{tokens}", "rowwise", problem, 4 * tokens * d, 8 * tokens * d
    for tokens in (1, 128):
        problem = {"tokens": tokens, "d_model": 576, "heads": 9, "d_ff": 1536}
        yield f"smollm2/block/t{tokens}", "block", problem, 7_077_888 * tokens, 2_400_000
    problem = {"file": "own.mlir", "function": "softcap", "sizes": {"tokens": 128}, "past": 0}
    yield "own/softcap", "module", problem, 6 * 128 * 576, 8 * 128 * 576


def accuracy(rng, outputs, passed=True):
    l2 = 10 ** rng.uniform(-8, -6) if passed else 0.31
    return {
        "reference": "f64",
        "checked": min(outputs, 4096),
        "outputs": outputs,
        "max_abs": l2 * 9,
        "max_rel": l2 * 40,
        "l2_rel": l2,
        "cosine_diff": l2 * l2,
        "nan": 0,
        "poisoned_left": 0,
        "yardstick_max_abs": l2 * 12,
        "tolerance": l2 * 100 if passed else 1e-4,
        "pass": passed,
        "why": "" if passed else "l2_rel 0.31 is above the tolerance 0.0001",
    }


def samples(rng, seconds, noise, rounds):
    """Nanoseconds of each round: slower ones are more frequent than faster ones."""
    return [round(1e9 * seconds * (1 + abs(rng.gauss(0, noise)) - noise / 3), 1) for _ in rounds]


def machine(rng, share=1.0):
    """What the cores were like beside a sample: `share` of what they are undisturbed."""
    usual = {"fma_f32": 208.0, "exchange": 36.0, "write_first": 118.0, "write_slowest": 117.5}
    noisy = {name: share * value * (1 + rng.gauss(0, 0.004)) for name, value in usual.items()}
    return {**noisy, "preemptions": 0}


def measured(rng, name, family, problem, flops, size, per_round):
    anchor = anchor_of(size)
    bandwidth, arithmetic = CEILINGS[anchor][1] * 1e9, CEILINGS["fma_f32"][1] * 1e9
    bound = "compute" if flops / arithmetic > size / bandwidth else "memory"
    ideal = max(flops / arithmetic, size / bandwidth)
    dropped = sorted(rng.sample(range(ROUNDS), MADE_UP))
    rounds = [number for number in range(ROUNDS + MADE_UP) if number not in dropped]
    noise = rng.uniform(0.003, 0.02)
    times = samples(rng, ideal / rng.uniform(0.45, 0.93) + 4e-7, noise, rounds)
    median = statistics.median(times)
    schedule = {"tile_m": min(8, problem.get("m", 1)), "tile_n": 48, "k_block": 256, "unroll": 4}
    source = rng.choice(["record", "record", "analytic", "transferred"])
    judge = anchor if bound == "memory" else "fma_f32"
    row = {
        "name": name,
        "family": family,
        "problem": problem,
        "target": "cpu",
        "threads": 2,
        "variant": "generated",
        "schedule": schedule,
        "schedule_source": source,
        "kernels": [
            {
                "name": name.replace("/", "_"),
                "launches": 1,
                "schedule": schedule,
                "schedule_source": source,
                "variant": "generated",
            }
        ],
        "status": "ok",
        "mode": "warm",
        "batch": max(1, int(1e7 / median)),
        "samples_ns": times,
        "rounds": rounds,
        "machine_samples": [machine(rng) for _ in rounds],
        "dropped": [
            {
                "round": number,
                "ns": round(median * rng.uniform(1.1, 1.6), 1),
                "anchor": 0.8 * CEILINGS[judge][1],
                "machine": machine(rng, 0.8),
            }
            for number in dropped
        ],
        "dropped_rounds": len(dropped),
        "median_ns": median,
        "mad_ns": statistics.median(abs(t - median) for t in times),
        "trusted": True,
        "flops": flops,
        "bytes": size,
        "gflops": flops / median,
        "gb_per_s": size / median,
        "pct_roofline": 100 * ideal * 1e9 / median,
        "bound": bound,
        "anchor": judge,
        "anchor_samples": [per_round[r]["values"][judge] for r in rounds],
        "accuracy": accuracy(rng, problem.get("m", 1) * problem.get("n", 576)),
        "resources": {"code_bytes": rng.randrange(2000, 9000), "spill_bytes": 0},
        "code_hash": f"{rng.getrandbits(64):016x}",
        "compile_ms": rng.uniform(20, 120),
    }
    if family == "matmul":
        row["vendors"] = []
        # A ratio is of rounds that both have.
        both = [number for number in rounds if number < ROUNDS]
        ours = statistics.median(t for t, number in zip(times, rounds) if number < ROUNDS)
        for vendor, low, high in (("vendor:openblas", 0.8, 2.6), ("vendor:onednn", 0.75, 1.9)):
            theirs = samples(rng, median * 1e-9 * rng.uniform(low, high), noise, range(ROUNDS))
            time = statistics.median(theirs[number] for number in both)
            row["vendors"].append(
                {
                    "variant": vendor,
                    "status": "ok",
                    "samples_ns": theirs,
                    "median_ns": time,
                    "ratio": ours / time,
                }
            )
        row["vendor_ratio"] = max(vendor["ratio"] for vendor in row["vendors"])
    return row


def failed(row, status, error):
    """The row as it is where it gave no result."""
    kept = ("name", "family", "problem", "target", "threads", "variant", "schedule_source", "mode")
    return {**{key: row[key] for key in kept}, "status": status, "error": error}


def anchors(rng):
    per_round = []
    for number in range(ROUNDS + MADE_UP):
        values = {name: value * (1 + rng.gauss(0, 0.004)) for name, (_, value) in CEILINGS.items()}
        off = []
        if number == 7:
            values["read_memory"] *= 0.81
            off = ["read_memory"]
        per_round.append({"round": number, "values": values, "off": off})
    return {
        "units": {name: unit for name, (unit, _) in CEILINGS.items()},
        "before": per_round[0]["values"],
        "after": per_round[-1]["values"],
        "per_round": per_round,
        "usual": machine(rng),
        "spare_s": 0.8,
    }


def sample_report(seed=1):
    """A report of about 25 rows: most ran, some failed, one was disturbed."""
    rng = random.Random(seed)
    ceilings = anchors(rng)
    rows = [measured(rng, *problem, ceilings["per_round"]) for problem in problems()]
    by_name = {row["name"]: i for i, row in enumerate(rows)}
    noisy = rows[by_name["llama-3.2-1b/qkv/m8"]]
    noisy.update(trusted=False, why_untrusted="samples scatter by 12 %")
    noisy["samples_ns"] = [t * (1 + 0.3 * (i % 3 == 0)) for i, t in enumerate(noisy["samples_ns"])]
    rows[by_name["smollm2/q_proj/m8"]]["problem"].update(transpose=True, epilogue="bias,gelu")
    alone = rows[by_name["llama-3.2-1b/qkv/m1"]]
    del alone["vendor_ratio"]
    for vendor, status, error in zip(
        alone["vendors"],
        ("wrong_result", "unavailable"),
        ("l2_rel 0.02 is above the tolerance 0.0001", "libdnnl.so.3 is not here (/usr/lib)"),
    ):
        for key in ("samples_ns", "median_ns", "ratio"):
            del vendor[key]
        vendor.update(status=status, error=error)
    for name, status, error in (
        (
            "llama-3-8b/ffn_up/m512",
            "timeout",
            "kernel was stopped (llama-3-8b/ffn_up/m512): it ran longer than 60 s; raise --timeout",
        ),
        (
            "smollm2/ffn_down/m8",
            "wrong_result",
            "result is wrong (smollm2/ffn_down/m8): l2_rel 0.31 is above the tolerance 0.0001",
        ),
        (
            "llama-3-8b/attention/t1",
            "unsupported",
            "kernel cannot be built (llama-3-8b/attention/t1): head_dim 128 needs AVX-512",
        ),
    ):
        rows[by_name[name]] = failed(rows[by_name[name]], status, error)
    rows[by_name["smollm2/ffn_down/m8"]]["accuracy"] = accuracy(rng, 4608, passed=False)
    return {
        "schema_version": 1,
        "run_id": f"{rng.getrandbits(64):016x}",
        "created": "2026-01-31T12:00:00Z",
        "suite": "transformer",
        "partial": False,
        "kernelforge": {
            "version": "0.1.0",
            "git_commit": "1d3eea94c0ffee",
            "build_id": f"{rng.getrandbits(160):040x}",
            "llvm": "19.1.7",
            "build_type": "Release",
        },
        "host": {
            "cpu": "Imagined CPU of no maker",
            "isa": ["avx2", "fma", "f16c", "avx512f"],
            "cores_used": 2,
            "caches": CACHES,
            "memory_bytes": 16 << 30,
            "os": "Debian 12",
        },
        "device": {"target": "cpu", "cpu": "znver4", "features": "+avx2,+fma,+f16c,+avx512f"},
        "settings": {
            "threads": 2,
            "affinity": "cores",
            "seed": 0,
            "mode": "warm",
            "rounds": ROUNDS,
            "warmup": 3,
            "batch_s": 0.01,
            "timed": True,
            "bitwise": False,
            "vendors": True,
            "records": True,
            "filter": "",
            "suite_hash": f"{rng.getrandbits(64):016x}",
        },
        "anchors": ceilings,
        "rows": rows,
    }


def compared_report(seed=2):
    """A report with a comparison in it: rows of each verdict, some on one side only."""
    rng = random.Random(seed)
    report = sample_report()
    rows = []
    for i, row in enumerate(r for r in report["rows"] if r["status"] == "ok"):
        ratio = rng.gauss(1, 0.012) * {3: 0.81, 6: 1.16, 11: 1.09, 14: 0.9}.get(i, 1)
        half = 0.12 if i == 9 else rng.uniform(0.006, 0.025)
        low, high = ratio * (1 - half), ratio * (1 + half)
        p = math.erfc(abs(ratio - 1) / half * 1.4)
        verdict, why = "same", "the interval lies within the threshold"
        if i == 9:
            verdict, why = (
                "inconclusive",
                "the interval reaches over the threshold; more samples are needed",
            )
        elif low > 1.0 and ratio > 1.07:
            verdict, why = "regressed", "slower beyond the threshold, p below alpha"
        elif high < 1.0 and ratio < 1 / 1.07:
            verdict, why = "improved", "faster beyond the threshold, p below alpha"
        rows.append(
            {
                "name": row["name"],
                "a_median_ns": row["median_ns"] / ratio,
                "b_median_ns": row["median_ns"],
                "ratio": ratio,
                "ci95": [low, high],
                "p_value": p,
                "p_adjusted": min(1.0, p * 4),
                "samples": 25,
                "samples_needed": 90 if i == 9 else 18,
                "verdict": verdict,
                "why": why,
            }
        )
    report["comparison"] = {
        "kind": "stored",
        "a": {
            "run_id": "0123456789abcdef",
            "created": "2026-01-24T12:00:00Z",
            "git_commit": "2c9063f0c0ffee",
        },
        "b": {
            "run_id": report["run_id"],
            "created": report["created"],
            "git_commit": report["kernelforge"]["git_commit"],
        },
        "threshold": 0.07,
        "alpha": 0.05,
        "rows": rows,
        "geomean_ratio": math.exp(statistics.mean(math.log(row["ratio"]) for row in rows)),
        "verdict": "regressed",
        "fidelity_changed": [
            {"name": "smollm2/ffn_down/m8", "what": "accuracy: passed before, fails now"}
        ],
        "only_a": ["smollm2/logits/m1"],
        "only_b": ["llama-3-8b/norm/t128"],
    }
    return report


def live_report():
    """Two programs that ran in turns: nothing was kept but the comparison."""
    report = compared_report()
    comparison = report["comparison"]
    comparison.update(
        kind="live",
        a={"binary": "old/kernelforge", "git_commit": "0123456789ab"},
        b={"binary": "new/kernelforge", "git_commit": "ba9876543210"},
        threshold=0.03,
    )
    kept = ("schema_version", "suite", "created")
    return {**{field: report[field] for field in kept}, "rows": [], "comparison": comparison}


def empty_report():
    """Nothing ran."""
    report = sample_report()
    report.update(rows=[], partial=True)
    report["anchors"].update(before=None, after=None, per_round=[])
    return report
