#!/usr/bin/env python3
"""Replays the tuner's `model` strategy with other cost models than its ridge regression.

The loop is that of kernelforge/autotune (History, LearningStrategy, ModelStrategy, Replay), ported
with its random numbers: with the ridge regression a seed proposes the same schedules as
`kernelforge tune --replay`, up to rounding. XGBoost takes the regression's place: the same
observations, features and analytic prediction, the same ranking of all schedules. A figure is
the number of trials until the best schedule found is within 95 % of the space's best.

With --records N each search also has N trials of every other space of the same kernel, those that
a search by ridge regression made there. `ridge` takes 32 of them, evenly spread, and believes that
knobs do the same in all kernels; `ridge-shared`, which is what the tuner does, takes 192 and
believes half of that; XGBoost takes all. Without records the two regressions are the same, up to
96 trials.

Needs numpy, scipy and XGBoost, here in the version of Debian 12:

  python3 -m venv .venv-xgboost
  .venv-xgboost/bin/pip install numpy scipy xgboost==1.7.4
  .venv-xgboost/bin/python bench/tuning/cost_models.py bench/data/sapphirerapids/*.json
"""

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Protocol

import numpy as np
import xgboost
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular
from scipy.special import erfc

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

# Those of History.h and LearningStrategy.cpp.
SAMPLED_COMBINATIONS = 1 << 17
FOUNDERS = 6
RANDOM_SHARE = 0.1
WORST = 0.35
WORTHWHILE = 0.02
BOLDNESS = 0.7
TEMPERATURE = 2
MAX_OBSERVATIONS = 96
RECORD_NOISE = 4.0

# Random bits, as in CounterRandom.h ---------------------------------------------------------------

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
FACTORS = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def mix_bits(x: int) -> int:
    x = (x ^ x >> 30) * FACTORS[0] & MASK
    x = (x ^ x >> 27) * FACTORS[1] & MASK
    return x ^ x >> 31


def random_uniform(seed: int, counter: int) -> float:
    bits = mix_bits((mix_bits((seed + GOLDEN) & MASK) + (counter + 1) * GOLDEN) & MASK)
    return (bits >> 11) * 2.0**-53


def random_bits(seed: int, counters: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (counters + np.uint64(1)) * np.uint64(GOLDEN) + np.uint64(mix_bits((seed + GOLDEN) & MASK))
    x = (x ^ x >> np.uint64(30)) * np.uint64(FACTORS[0])
    x = (x ^ x >> np.uint64(27)) * np.uint64(FACTORS[1])
    return x ^ x >> np.uint64(31)


def random_order(size: int, seed: int) -> Indices:
    """0 .. size - 1 in the order of RandomOrder."""
    half = 1
    while half < 32 and (size - 1) >> (2 * half):
        half += 1
    shift, mask = np.uint64(half), np.uint64((1 << half) - 1)
    order = np.arange(size, dtype=np.uint64)
    outside = np.ones(size, dtype=bool)
    while outside.any():
        left, right = order[outside] >> shift, order[outside] & mask
        for step in range(6):
            mixed = left ^ (random_bits(seed, right << np.uint64(3) | np.uint64(step)) & mask)
            left, right = right, mixed
        order[outside] = left << shift | right
        outside = order >= size
    return order.astype(np.int64)


# Recorded spaces ----------------------------------------------------------------------------------


@dataclass
class Points:
    """Schedules as a cost model sees them, in the scales of the space that is searched."""

    powers: Array  # logarithms of the knobs' values
    logs: Array  # the same in [-1, 1]
    steps: Array  # positions of the values among those that are tried
    log_predicted: Array
    kernel: Indices  # 0 is the one that is searched

    def __getitem__(self, rows: Indices) -> "Points":
        parts = (self.powers, self.logs, self.steps, self.log_predicted, self.kernel)
        return Points(*(part[rows] for part in parts))


def joined(parts: Sequence[Points]) -> Points:
    names = ("powers", "logs", "steps", "log_predicted", "kernel")
    return Points(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def signed_log2(values: Array) -> Array:
    magnitude = np.log2(np.abs(values) + (values == 0)) + 1
    return np.sign(values) * magnitude


class Space:
    """A recorded space; its schedules are called by their place in the file."""

    def __init__(self, path: Path) -> None:
        text = json.loads(path.read_text())
        self.name = path.stem
        self.kernel = text["kernel"]
        self.knobs = [np.array(knob["values"], dtype=float) for knob in text["knobs"]]
        rows = np.array(
            [[math.inf if value is None else value for value in row] for row in text["points"]]
        )
        self.values, self.seconds, self.predicted = rows[:, :-2], rows[:, -2], rows[:, -1]
        self.best = self.seconds.min()
        self.size = math.prod(len(values) for values in self.knobs)
        steps = [np.searchsorted(knob, self.values[:, k]) for k, knob in enumerate(self.knobs)]
        combination = np.ravel_multi_index(steps, [len(values) for values in self.knobs])
        self.by_combination = np.full(self.size, -1)
        self.by_combination[combination] = np.arange(len(rows))
        self.by_steps = {key: i for i, key in enumerate(zip(*(s.tolist() for s in steps)))}
        self.shuffled = cache(self.shuffled)

    def shuffled(self, seed: int) -> tuple[Indices, Indices]:
        """All schedules in random order, and those of them that the strategy ranks as a pool."""
        order = self.by_combination[random_order(self.size, seed)]
        pool = order[:SAMPLED_COMBINATIONS]
        return order[order >= 0], pool[pool >= 0]

    def points(self, values: Array, predicted: Array, center: float, kernel: int = 0) -> Points:
        powers = signed_log2(values)
        logs, steps = np.zeros_like(powers), np.zeros_like(powers)
        for k, knob in enumerate(self.knobs):
            low, high = signed_log2(knob[[0, -1]])
            if high > low:
                logs[:, k] = np.clip(2 * (powers[:, k] - low) / (high - low) - 1, -1.5, 1.5)
            above = np.minimum(np.searchsorted(knob, values[:, k]), len(knob) - 1)
            below = np.maximum(above - 1, 0)
            nearer_below = values[:, k] - knob[below] < np.abs(knob[above] - values[:, k])
            steps[:, k] = np.where(nearer_below, below, above)
        kernels = np.full(len(values), kernel)
        return Points(powers, logs, steps, np.log(predicted) - center, kernels)

    def neighbours(self, place: int) -> Iterator[int]:
        """Schedules one step of a knob away."""
        steps = [int(np.searchsorted(v, x)) for v, x in zip(self.knobs, self.values[place])]
        for k in range(len(steps)):
            for other in (steps[k] - 1, steps[k] + 1):
                found = self.by_steps.get((*steps[:k], other, *steps[k + 1 :]))
                if found is not None:
                    yield found


# Cost models --------------------------------------------------------------------------------------


@dataclass
class Observations:
    points: Points
    log_times: Array
    noise: Array  # variance, in units of that of an ordinary trial


class CostModel(Protocol):
    max_observations: int
    max_records: int

    def scores(self, seen: Observations, points: Points, draw: float) -> Array:
        """How much each of `points` promises, after what was seen; `draw` in [0, 1) is chance."""
        ...


def expected_improvement(mean: Array, deviation: Array) -> Array:
    """Logarithm of the expected improvement on the best, as LearningStrategy::score."""
    deviation = BOLDNESS * deviation + 1e-9
    margin = (-WORTHWHILE - mean) / deviation
    below = erfc(-margin / math.sqrt(2)) / 2
    density = np.exp(-(margin**2) / 2) / math.sqrt(2 * math.pi)
    # Far below, the improvement is nil in floating point; the order still matters.
    improvement = np.where(margin < -6, 1, deviation * (margin * below + density) + 1e-300)
    return np.where(margin < -6, -1000 + margin, np.log(improvement))


@dataclass
class Ridge:
    """CostModel.cpp: ridge regression in its kernel form, one of six priors by their evidence."""

    max_observations: int = MAX_OBSERVATIONS
    max_records: int = 32
    shared: float = 1  # how far what the knobs do is expected to be the same in other kernels
    assumptions = ((1, 1), (1, 0.2), (1, 5), (0, 1), (0, 0.2), (0, 5))  # trust, scale

    def covariances(self, a: Points, b: Points) -> tuple[Array, Array]:
        """What the knobs share, and what offset and prediction share."""
        linear = a.logs @ b.logs.T
        knobs = linear + 0.5 * (a.logs**2) @ (b.logs**2).T + 0.2 * linear**2
        distance = np.zeros_like(linear)
        for k in range(a.steps.shape[1]):
            distance += np.abs(a.steps[:, k, None] - b.steps[None, :, k])
        knobs += 100 * np.exp(-distance / 3)
        pairs = list(combinations(range(a.powers.shape[1]), 2))
        for i, j in pairs:
            x = np.exp((a.powers[:, i] + a.powers[:, j]) / 0.6)[:, None]
            y = np.exp((b.powers[:, i] + b.powers[:, j]) / 0.6)[None, :]
            knobs += 80 / len(pairs) * np.minimum(x * (1 / y), (1 / x) * y)
        same = a.kernel[:, None] == b.kernel[None, :]
        knobs *= np.where(same, 1, self.shared)
        return knobs, 1000.0 * same + 50 * np.outer(a.log_predicted, b.log_predicted)

    def scores(self, seen: Observations, points: Points, draw: float) -> Array:
        count = len(seen.log_times)
        if count == 0:
            return -points.log_predicted
        knobs, shared = self.covariances(seen.points, seen.points)
        models = []
        for trust, scale in self.assumptions:
            factor = np.linalg.cholesky(scale * knobs + shared + np.diag(seen.noise))
            target = seen.log_times - trust * seen.points.log_predicted
            explained = float(np.sum(solve_triangular(factor, target, lower=True) ** 2))
            noise = (explained + 0.003 * 4) / (count + 4)
            evidence = -np.log(np.diag(factor)).sum() - 0.5 * (count + 4) * math.log(noise)
            weights = cho_solve((factor, True), target)
            models.append((evidence, trust, scale, factor, weights, noise))
        shares = np.exp((np.array([model[0] for model in models]) - max(models)[0]) / TEMPERATURE)
        chosen = int(np.searchsorted(np.cumsum(shares), draw * shares.sum(), side="right"))
        _, trust, scale, factor, weights, noise = models[min(chosen, len(models) - 1)]

        knobs, shared = self.covariances(seen.points, points)
        covariance = scale * knobs + shared
        mean = trust * points.log_predicted + weights @ covariance
        linear = np.sum(points.logs**2, axis=1)
        own = linear + 0.5 * np.sum(points.logs**4, axis=1) + 0.2 * linear**2 + 80 + 100
        variance = 1000 + 50 * points.log_predicted**2 + scale * own
        variance -= np.sum(solve_triangular(factor, covariance, lower=True) ** 2, axis=0)
        return expected_improvement(mean, np.sqrt(np.maximum(variance, 0) * noise))


@dataclass
class Trees:
    """XGBoost on log(time), begun from the prediction, which is also a feature.

    The other features are the logarithms of the knobs and the sums and products of two, which are
    the regression's: trees find squares and steps by themselves. `bags` > 1 fits that many models
    to samples of the observations and takes their spread for the deviation; a single one has none
    and its best guess is proposed.
    """

    trees: int
    depth: int
    eta: float
    objective: str = "reg:squarederror"
    trust: float = 1  # part of log(predicted) that is begun from
    doubt: float = 0  # how probably a model is begun from nothing instead
    bags: int = 1
    max_observations: int = 1 << 30
    max_records: int = 1 << 30

    def features(self, points: Points) -> Array:
        columns = [*points.logs.T, points.log_predicted]
        for i, j in combinations(range(points.logs.shape[1]), 2):
            columns.append(points.powers[:, i] + points.powers[:, j])
            columns.append(points.logs[:, i] * points.logs[:, j])
        return np.stack(columns, axis=1)

    def scores(self, seen: Observations, points: Points, draw: float) -> Array:
        if not np.any(seen.points.kernel == 0) and self.trust:
            return -points.log_predicted
        known, candidates = self.features(seen.points), self.features(points)
        varying = candidates.min(axis=0) < candidates.max(axis=0)
        known, candidates = known[:, varying], candidates[:, varying]
        generator = np.random.default_rng(int(draw * 2**53))
        guesses = []
        for _ in range(self.bags):
            weights = 1 / seen.noise
            if self.bags > 1:
                weights = weights * generator.exponential(size=len(weights))
            trust = self.trust if generator.random() >= self.doubt else 0
            guesses.append(self.guess(seen, known, weights, points, candidates, trust))
        if self.bags > 1:
            return expected_improvement(np.mean(guesses, axis=0), np.std(guesses, axis=0))
        return -guesses[0]

    def guess(
        self,
        seen: Observations,
        known: Array,
        weights: Array,
        points: Points,
        candidates: Array,
        trust: float,
    ) -> Array:
        """Logarithm of the time of each point; in ranking, up to an offset and a factor."""
        ranks = self.objective.startswith("rank:")
        start = trust * seen.points.log_predicted
        begin = trust * points.log_predicted
        parameters = {
            "objective": self.objective,
            "max_depth": self.depth,
            "eta": self.eta,
            # Sums of second derivatives, which are small in ranking.
            "min_child_weight": 0.05 if ranks else 0.5,
            "nthread": 1,
            "verbosity": 0,
        }
        train = xgboost.DMatrix(known, nthread=1)
        test = xgboost.DMatrix(candidates, nthread=1)
        if ranks:
            _, groups = np.unique(seen.points.kernel, return_counts=True)  # kernels are together
            train.set_info(label=WORST - seen.log_times, base_margin=-start, group=groups)
            test.set_info(base_margin=-begin)
        else:
            rest = seen.log_times - start
            for kernel in np.unique(seen.points.kernel):
                own = seen.points.kernel == kernel
                offset = np.average(rest[own], weights=weights[own])
                start[own] += offset
                if kernel == 0:
                    begin = begin + offset
            train.set_info(label=seen.log_times, base_margin=start, weight=weights)
            test.set_info(base_margin=begin)
        booster = xgboost.train(parameters, train, self.trees)
        guess = booster.predict(test, output_margin=True).astype(float)
        return -guess if ranks else guess


MODELS: dict[str, CostModel] = {
    "ridge": Ridge(),
    "ridge-shared": Ridge(288, 192, shared=0.5),
    "trees-50": Trees(50, 3, 0.3),
    "trees-100": Trees(100, 4, 0.2),
    "trees-300": Trees(300, 6, 0.1),
    "no-prior": Trees(100, 4, 0.2, trust=0),
    "mixed": Trees(100, 4, 0.2, doubt=0.5),
    "rank": Trees(100, 4, 0.2, objective="rank:pairwise"),
    "bagged": Trees(50, 4, 0.2, bags=8),
}

# The search ---------------------------------------------------------------------------------------


@dataclass
class Search:
    """The `model` strategy, told its own proposals one at a time."""

    space: Space
    model: CostModel
    seed: int
    records: list[tuple[Space, list[int]]] = field(default_factory=list)
    told: list[int] = field(default_factory=list)
    fit_seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.order, self.pool = self.space.shuffled(self.seed)
        self.complete = self.space.size <= SAMPLED_COMBINATIONS
        self.center = float(np.log(self.space.predicted[self.pool]).mean())
        self.points = self.space.points(self.space.values, self.space.predicted, self.center)

    def trials(self) -> Iterator[int]:
        """Proposals without end, until the space is exhausted."""
        while len(self.told) < len(self.order):
            place = self.propose()
            yield place
            self.told.append(place)

    def first_random(self) -> int:
        return next(int(place) for place in self.order if place not in self.told)

    def propose(self) -> int:
        count = len(self.told)
        stream = mix_bits(self.seed) ^ mix_bits(~count & MASK)
        at_random = count % 2 == 1 if count < FOUNDERS else random_uniform(stream, 0) < RANDOM_SHARE
        if at_random:
            return self.first_random()
        seen = self.observations()
        begin = time.perf_counter()
        scores = self.model.scores(seen, self.points, random_uniform(stream, 1))
        if count > 0:
            self.fit_seconds.append(time.perf_counter() - begin)
        candidates = [int(place) for place in self.pool if place not in self.told]
        if not self.complete:
            for place in self.ranking()[:3]:
                near = self.space.neighbours(int(place))
                candidates += [other for other in near if other not in self.told]
        if not candidates:
            return self.first_random()
        return candidates[int(np.argmax(scores[candidates]))]

    def ranking(self) -> Indices:
        told = np.array(self.told, dtype=np.int64)
        return told[np.argsort(self.space.seconds[told], kind="stable")]

    def observations(self) -> Observations:
        """Trials of other kernels and this one, each as log(time) above its kernel's best."""
        points, log_times, noise = [], [], []
        room = self.model.max_observations
        total = sum(len(places) for _, places in self.records)
        spread = math.ceil(total / self.model.max_records)
        for kernel, (other, places) in enumerate(self.records, start=1):
            best = other.seconds[places].min()
            places = np.array(places)[::spread]
            values, predicted = other.values[places], other.predicted[places]
            points.append(self.space.points(values, predicted, self.center, kernel))
            log_times.append(np.log(other.seconds[places] / best))
            noise.append(np.full(len(places), RECORD_NOISE))
            room -= len(places)
        order = self.ranking()
        best = self.space.seconds[order[0]] if len(order) else math.inf
        if math.isfinite(best):
            # The best half of what the model takes, and of the others evenly spread ones.
            ranks, half = np.arange(min(len(order), room)), room // 2
            if len(order) > room:
                rest = half + (ranks - half) * (len(order) - half) // (room - half)
                ranks = np.where(ranks < half, ranks, rest)
            points.append(self.points[order[ranks]])
            log_times.append(np.log(self.space.seconds[order[ranks]] / best))
            noise.append(np.ones(len(ranks)))
        if not points:
            nothing = np.zeros(0)
            return Observations(self.points[np.zeros(0, dtype=np.int64)], nothing, nothing)
        times = np.minimum(np.concatenate(log_times), WORST)
        return Observations(joined(points), times, np.concatenate(noise))


def replay(search: Search, limit: int) -> int:
    """Trials until a schedule is within 95 % of the space's best; limit + 1 where none was."""
    for count, place in enumerate(search.trials(), start=1):
        if search.space.seconds[place] <= search.space.best / 0.95:
            return count
        if count == limit:
            break
    return limit + 1


def recorded_trials(space: Space, seed: int, count: int) -> list[int]:
    """What a search by ridge regression measures, good or not."""
    return [place for _, place in zip(range(count), Search(space, Ridge(), seed).trials())]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("spaces", nargs="+", type=Path, help="recorded spaces")
    parser.add_argument("--seeds", type=int, default=50, help="searches of each model and space")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--records", type=int, default=0, help="trials of each other space")
    parser.add_argument("--limit", type=int, default=200, help="trials after which one gives up")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    spaces = [Space(path) for path in arguments.spaces]
    made = cache(lambda i, seed: recorded_trials(spaces[i], seed, arguments.records))
    times: dict[str, list[float]] = {name: [] for name in arguments.models}
    print("median / 90th percentile of trials")
    print(f"{'space':12}" + "".join(f"{name:>14}" for name in arguments.models))
    for place, space in enumerate(spaces):
        others = [
            i
            for i, other in enumerate(spaces)
            if arguments.records and i != place and other.kernel == space.kernel
        ]
        line = f"{space.name:12}"
        for name in arguments.models:
            trials = []
            for seed in range(arguments.seeds):
                records = [(spaces[i], made(i, seed)) for i in others]
                search = Search(space, MODELS[name], seed, records)
                trials.append(replay(search, arguments.limit))
                times[name] += search.fit_seconds
            trials.sort()
            figures = trials[(len(trials) - 1) // 2], trials[(len(trials) * 9 + 9) // 10 - 1]
            cells = (f">{arguments.limit}" if n > arguments.limit else str(n) for n in figures)
            line += f"{' / '.join(cells):>14}"
        print(line, flush=True)
    line = f"{'fit, ms':12}"
    for name in arguments.models:
        line += f"{1e3 * float(np.median(times[name])) if times[name] else 0:>14.1f}"
    print(line + "   median; of a proposal with the ranking of the whole space, one thread")


if __name__ == "__main__":
    main()
