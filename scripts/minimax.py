#!/usr/bin/env python3
"""Prints the polynomial coefficients of kernelforge/codegen/cpu/VectorMath.cpp.

Each is a weighted minimax fit, by Lawson's iteratively reweighted least squares over a dense grid
of values from mpmath. Coefficients are rounded to f32 from the lowest up, and those above are
fitted again each time. Needs numpy and mpmath; nothing in the build or the tests runs it.
"""
import mpmath as mp
import numpy as np

mp.mp.dps = 40


def lawson(columns, values, weight):
    """Coefficients that minimise max |weight * (columns @ c - values)|."""
    w = np.ones(len(values)) / len(values)
    best, best_error = None, np.inf
    for _ in range(400):
        scaled = (np.sqrt(w) * weight)[:, None]
        c = np.linalg.lstsq(columns * scaled, values * scaled[:, 0], rcond=None)[0]
        error = np.abs(weight * (columns @ c - values))
        if error.max() < best_error:
            best, best_error = c, error.max()
        w = w * error
        w /= w.sum()
    return best


def fit(name, f, weight, low, high, degree):
    t = np.cos(np.linspace(0, np.pi, 1500))
    x = low + (high - low) * (t + 1) / 2
    x = x[x != 0]
    values = np.array([float(f(mp.mpf(v))) for v in x])
    w = np.array([float(weight(mp.mpf(v))) for v in x])
    # Columns are scaled to 1 at the end of the interval, for the condition of the fit.
    size = max(abs(low), abs(high))
    fixed, rest = [], values.copy()
    for first in range(degree + 1):
        columns = np.stack([(x / size) ** i for i in range(first, degree + 1)], axis=1)
        c = lawson(columns, rest, w)[0] / size**first
        fixed.append(float(np.float32(c)))
        rest = rest - fixed[-1] * x**first
    print(f"{name}: weighted error {np.abs(w * rest).max():.2e}")
    print("  " + ", ".join(f"{c:.9g}" for c in fixed))


# exp(r) = 1 + r + r^2 q(r), relative error.
half = float(mp.log(2) / 2) * 1.001
fit("exp", lambda r: (mp.expm1(r) - r) / r**2, lambda r: r**2 / mp.exp(r), -half, half, 4)
# tanh(x) = x + x s p(s), s = x^2, relative error.
fit("tanh", lambda s: (mp.tanh(mp.sqrt(s)) / mp.sqrt(s) - 1) / s,
    lambda s: s * mp.sqrt(s) / mp.tanh(mp.sqrt(s)), 0.0, 0.625**2, 4)
# erf(x) = x + x p(s), s = x^2, relative error.
fit("erf, small", lambda s: mp.erf(mp.sqrt(s)) / mp.sqrt(s) - 1,
    lambda s: mp.sqrt(s) / mp.erf(mp.sqrt(s)), 0.0, 0.875**2, 5)
# erfc(a) = exp(-a^2) p(t), t = 1 / (1 + a / 2), relative error.
def scaled_complement(t):
    a = 2 / t - 2
    return mp.erfc(a) * mp.exp(a * a)


fit("erfc", scaled_complement, lambda t: 1 / scaled_complement(t), 1 / (1 + 9.3 / 2),
    1 / (1 + 0.875 / 2), 7)
