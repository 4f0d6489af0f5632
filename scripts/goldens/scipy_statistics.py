#!/usr/bin/env python3
"""Writes tests/golden/data/statistics.json: values with the p values that scipy gives for them.

Needs scipy, which nothing else here does:

    python3 -m venv .venv-scipy && .venv-scipy/bin/pip install scipy
    .venv-scipy/bin/python scripts/goldens/scipy_statistics.py
"""
import json
from pathlib import Path

import numpy as np
import scipy
from scipy.stats import mannwhitneyu, wilcoxon

OUTPUT = Path(__file__).resolve().parents[2] / "tests" / "golden" / "data" / "statistics.json"


def wilcoxon_cases(random):
    """Differences: few and many, with and without ties and zeros."""
    for n, shift in [(1, 1), (3, 0), (6, 1), (11, 0.5), (25, 0.4), (25, 0), (50, 0.2), (51, 0.3), (125, 0.1)]:
        yield random.normal(shift, 1, n)
    yield np.array([1.0, -1, 2, 2, 3, 3, 3, -4, 5, 6])
    yield np.array([0.0, 0, 1.5, 2, -0.5, 3, 4, 5, 6])
    yield np.round(random.normal(0.3, 1, 40), 1)
    yield np.arange(1.0, 26)


def mannwhitney_cases(random):
    for m, n, shift in [(1, 1, 0), (3, 4, 2), (7, 7, 1), (11, 11, 0.5), (25, 25, 0.6), (11, 9, 0), (30, 31, 0.4), (100, 20, 0.2)]:
        yield random.normal(0, 1, m), random.normal(shift, 1, n)
    yield np.array([1.0, 2, 2, 3, 4]), np.array([2.0, 3, 5, 5, 6, 7])
    yield np.round(random.normal(0, 1, 20), 1), np.round(random.normal(0.4, 1, 20), 1)
    yield np.arange(11.0), np.arange(11.0) + 100


def golden_wilcoxon(values):
    kept = values[values != 0]
    exact = len(kept) <= 50 and len(np.unique(np.abs(kept))) == len(kept)
    # Zeros are dropped beforehand: the exact method of scipy takes none.
    result = wilcoxon(kept, correction=not exact, method="exact" if exact else "asymptotic")
    return {
        "differences": values.tolist(),
        "statistic": float(result.statistic),
        "p": float(result.pvalue),
        "exact": exact,
    }


def golden_mannwhitney(a, b):
    both = np.concatenate([a, b])
    exact = len(both) <= 50 and len(np.unique(both)) == len(both)
    result = mannwhitneyu(a, b, method="exact" if exact else "asymptotic")
    return {
        "a": a.tolist(),
        "b": b.tolist(),
        "statistic": float(result.statistic),
        "p": float(result.pvalue),
        "exact": exact,
    }


def main():
    random = np.random.default_rng(31)
    golden = {
        "scipy": scipy.__version__,
        "wilcoxon": [golden_wilcoxon(values) for values in wilcoxon_cases(random)],
        "mann_whitney": [golden_mannwhitney(a, b) for a, b in mannwhitney_cases(random)],
    }
    OUTPUT.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
