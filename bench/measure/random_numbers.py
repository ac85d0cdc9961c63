"""Check random numbers: their distribution, and each number if the generator is known.

On the CPU, the generator gives random integers too, from which a factory makes its numbers. Another
version of PyTorch may make them in another way, so a few numbers of another operation show first
whether this one uses the known way. If not, and on other devices, only the distribution is checked.

Chance exceeds no bound more often than once in ten million checks.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import ndtr

from bench.measure.answer import Answer, judge, layout
from bench.measure.arguments import CPU
from bench.measure.arrays import Array, accumulator, numbers, stored, ulp
from bench.measure.references import Reference

#: Numbers that show if an operation follows the generator as it is known.
SAMPLE = 64
#: From so many numbers on, moments are nearly normal. Six standard deviations: two in 1e9.
MANY, SIGMAS = 1_000, 6


def _generator(state: torch.Tensor) -> torch.Generator:
    generator = torch.Generator()
    generator.set_state(state)
    return generator


def _uniform(state: torch.Tensor, count: int, dtype: torch.dtype) -> Reference:
    """Return integers of 53 bits for float64, of 24 for others, as numbers below 1, rounded."""
    steps = 2**53 if dtype == torch.float64 else 2**24
    values = numbers(torch.randint(steps, (count,), generator=_generator(state))) / steps
    rounding = ulp(values, dtype) / 2 if dtype.itemsize == 2 else 0.0
    values[values >= 1 - torch.finfo(dtype).eps / 4] = 0  # what rounds to 1 becomes 0
    return Reference(values, dtype, rounding)


def _normal(state: torch.Tensor, count: int, dtype: torch.dtype) -> Reference:
    """Return pairs by G. E. P. Box and M. E. Muller (Ann. Math. Stat. 29(2), 1958), eight apart."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    drawn = np.asarray(_uniform(state, count, wide).values).reshape(-1, 2, 8)
    radius, angle = np.sqrt(-2 * np.log1p(-drawn[:, :1])), 2 * np.pi * drawn[:, 1:]
    pairs = radius * np.concatenate([np.cos(angle), np.sin(angle)], 1)
    rounding = ulp(pairs, dtype) / 2 if dtype.itemsize == 2 else 0.0
    # The angle and its cosine, the logarithm, the root and the product have some roundings each.
    bound = np.broadcast_to(16 * accumulator(dtype) * radius, pairs.shape) + rounding
    return Reference(pairs.reshape(-1), dtype, bound.reshape(-1))


@dataclass(frozen=True)
class Law:
    """A distribution: its function, range and moments, and its numbers from the generator.

    `kurtosis` is the mean fourth power of the deviation over the squared variance; `alike` fills a
    tensor with such numbers, by another operation than the one that is timed.
    """

    cumulative: Callable[[Array], Array]
    low: float
    high: float
    mean: float
    deviation: float
    kurtosis: float
    numbers: Callable[[torch.Tensor, int, torch.dtype], Reference]
    alike: Callable[..., torch.Tensor]

    def quotients(self, flat: Array, eps: float) -> list[tuple[str, float, float]]:
        """Return what is measured of random numbers, how far it is off, and the bound.

        The largest distance of two distribution functions exceeds d with a probability below
        2 exp(-2 n d**2) (P. Massart, Ann. Probab. 18(3), 1990). Rounding moves all by up to `eps`.
        """
        count = len(flat)
        steps = np.arange(count + 1) / count
        model = self.cumulative(np.sort(flat).astype(np.float64))
        off = float(np.maximum(steps[1:] - model, model - steps[:-1]).max())
        found = [("distribution", off, math.sqrt(math.log(2 / 1e-7) / (2 * count)) + eps)]
        if count < MANY:
            return found
        standard = (flat.astype(np.float64) - self.mean) / self.deviation
        lag = float(np.mean(standard[1:] * standard[:-1]))
        off = math.sqrt(np.square(standard).mean()) - 1
        spread = math.sqrt(self.kurtosis - 1) / 2
        unit = SIGMAS / math.sqrt(count)
        return [
            *found,
            ("mean", abs(float(standard.mean())), unit + eps),
            ("standard deviation", abs(off), spread * unit + eps),
            ("correlation of neighbours", abs(lag), unit + eps),
        ]

    def follows(self, state: torch.Tensor, dtype: torch.dtype) -> bool:
        """Return whether the numbers of another operation are those of `numbers`."""
        made = self.alike(torch.empty(SAMPLE, dtype=dtype), generator=_generator(state))
        return not judge(made, self.numbers(state, SAMPLE, dtype), CPU).fault


UNIFORM = Law(
    lambda x: x.clip(0, 1), 0, 1, 0.5, 1 / math.sqrt(12), 1.8, _uniform, torch.Tensor.uniform_
)
NORMAL = Law(ndtr, -math.inf, math.inf, 0, 1, 3, _normal, torch.Tensor.normal_)


def with_state(operation: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return the state of the CPU's generator before a call, and its result."""
    return torch.get_rng_state(), operation(*args, **kwargs)


def repeats(result: torch.Tensor) -> bool:
    """Return whether a run of numbers occurs twice: by chance once in 5e8 checks.

    A run has more than 64 random bits. Those that begin in the first 2**18 numbers are compared, as
    sums modulo 2**64 with random factors.
    """
    raw = stored(result).reshape(-1)
    digits = 1 - round(math.log2(torch.finfo(result.dtype).eps))
    width, bits = 64 // digits + 2, raw.view(f"u{raw.itemsize}")[: 2**18].astype(np.uint64)
    factors = np.random.default_rng(2147).integers(2**63, size=width, dtype=np.uint64) * 2 + 1
    count = max(0, len(bits) - width + 1)
    mixed = np.zeros(count, np.uint64)
    for k, factor in enumerate(factors):
        mixed += factor * bits[k : k + count]
    mixed = np.sort(mixed)
    return bool((mixed[1:] == mixed[:-1]).any())


def drawn(
    law: Law, *size: int, dtype: torch.dtype, device: torch.device
) -> dict[str, Callable[..., Any]]:
    """Return how a cell calls and checks a factory of random numbers: `trial` and `check`."""
    layout_of, before = layout(*size, dtype=dtype, device=device), [np.empty(0)]

    def check(given: tuple[torch.Tensor, torch.Tensor], *_: object, **__: object) -> Answer:
        state, result = given
        if fault := layout_of(result).fault:
            return Answer(fault=fault)
        flat = numbers(result).reshape(-1)
        low, high = float(flat.min()), float(flat.max())
        if not (law.low <= low <= high <= law.high and math.isfinite(high - low)):
            return Answer(math.inf, 0.0, f"the random numbers go from {low:.3g} to {high:.3g}")
        found = law.quotients(flat, torch.finfo(dtype).eps)
        what, off, allowed = max(found, key=lambda one: one[1] / one[2])
        if off > allowed:
            return Answer(off, allowed, f"the {what} of the random numbers is off by {off:.2g}")
        half = len(flat) // 2
        same = np.array_equal(flat[:half], flat[half : 2 * half])
        if same or np.array_equal(flat, before[0]) or repeats(result):
            return Answer(off, allowed, "the random numbers repeat themselves")
        before[0] = flat
        if device == CPU and len(flat) % 16 == 0 and law.follows(state, dtype):
            return judge(result, law.numbers(state, len(flat), dtype), device)
        return Answer(off, allowed)

    return {"trial": with_state, "check": check}


def _kept(state: torch.Tensor, like: torch.Tensor, p: float) -> Array:
    chosen = torch.empty_like(like).bernoulli_(1 - p, generator=_generator(state))
    return np.not_equal(numbers(chosen), 0)


def _dropout_follows(state: torch.Tensor, p: float) -> bool:
    ones = torch.ones(SAMPLE)
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(state)
        kept = numbers(torch.nn.functional.dropout(ones, p)) != 0
    return np.array_equal(kept, _kept(state, ones, p))


def dropped() -> Callable[..., Answer]:
    """Return a check of ``dropout`` with p = 1/2, after `with_state`: twice the value or zero.

    The share of zeros is within 6 standard deviations, as is that of neighbours, of places in both
    halves, and of those in the call before that agree. Where the generator is known, so is each
    zero.
    """
    last = [np.empty(0)]

    def check(
        given: tuple[torch.Tensor, torch.Tensor], x: torch.Tensor, p: float, *_: Any
    ) -> Answer:
        state, result = given
        before, after = numbers(x), numbers(result)
        kept = after != 0
        if result.dtype != x.dtype or after.shape != before.shape or result.device != x.device:
            return Answer(fault=f"{result.dtype}, {tuple(result.shape)} on {result.device}")
        if not np.array_equal(after[kept], before[kept] / (1 - p)):
            return Answer(fault="a value that is kept is not divided by 1 - p")
        flat = kept.reshape(-1)
        half = flat.size // 2
        pairs = [flat, flat[:half] == flat[half : 2 * half], flat[1:] == flat[:-1]]
        pairs += [flat == last[0]] if last[0].size else []
        last[0] = flat
        for share, count in ((one.mean(), one.size) for one in pairs):
            if abs(share - 0.5) > SIGMAS / 2 / math.sqrt(count):
                return Answer(fault=f"a share of {share:.3f} is kept or repeated, not 0.5")
        known = x.device == CPU and _dropout_follows(state, p)
        other = known and not np.array_equal(kept, _kept(state, x, p))
        return Answer(0.0, 0.0, "other values are zero than the generator chose" if other else "")

    return check
