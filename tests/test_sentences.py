"""The words of findings, in one place: each sentence with its figures."""

import math

import pytest

from bench.report import groups
from bench.report.phrases import LONGEST, listed, times
from bench.report.sentences import WORDS, sentence
from bench.stats.ratios import Ratio
from bench.verdicts.by_benchmark import ByBenchmark
from bench.verdicts.calls import Compiled, Memory
from bench.verdicts.crossover import Crossover
from bench.verdicts.finding import (
    Alternatives,
    Fault,
    Finding,
    Overhead,
    Refusal,
    Subject,
    Sweep,
    Unsettled,
)
from bench.verdicts.grouped import Several
from bench.verdicts.use import Use

CELL = Subject("cpu", "float16", "matmul", {"n": "512"})
SLOWER, FASTER = Ratio(2.0, 1.9, 2.1), Ratio(0.5, 0.4, 0.6)


def loader(batch, workers):
    return Subject("cpu", "float32", "loader", {"batch": str(batch), "workers": str(workers)})


def optimizer(name):
    params = {"implementation": name, "optimizer": "adam"}
    return Subject("cpu", "float32", "optimizer_step", params)


def plain(topic, benchmark, **counts):
    return ByBenchmark(
        topic=topic,
        subject=Subject("mps", "float32", benchmark),
        rival=Subject("cpu", "float32", benchmark),
        amount=0.42,
        best=(Subject("mps", "float32", "matmul", {"n": "512"}), FASTER),
        worst=(Subject("mps", "float32", "sum", {"dim": "0"}), SLOWER),
        **counts,
    )


def sweep(advice, crossover=None, at=4096, ties=()):
    return Sweep(
        topic="device",
        subject=Subject("mps", "float32", "step", {"mode": "a"}),
        rival=Subject("cpu"),
        advice=advice,
        ratio=FASTER,
        param="batch",
        smallest=1,
        largest=4096,
        at=at,
        ties=ties,
        crossover=crossover,
    )


def loading(best, rival, advice="best", ratio=FASTER, alike=(), **unmeasured):
    return Alternatives(
        topic="loading",
        subject=best,
        advice=advice,
        ratio=ratio,
        amount=2560.4,
        rival=rival,
        alike=alike,
        unmeasured=unmeasured,
        total=4,
    )


def unclear(group, ratio):
    return Several(
        topic="dtype group",
        subject=Subject("cpu", "float16"),
        rival=Subject("cpu", "float32"),
        advice="unclear",
        ratio=ratio,
        n=4,
        total=4,
        group=group,
        best=None,
        worst=None,
        exceeded=False,
    )


COPY = Subject("cpu", "float32", "copy", {"n": "9"})
FINDINGS = {
    "float16 on cpu: matrix products 2.0x slower (1.9 to 2.1) than float32 (3 of 4 cells); "
    "the worst known: matmul n=512 at least 1.50x slower; relative error 4.0e-04": (
        Several(
            topic="dtype group",
            subject=Subject("cpu", "float16"),
            rival=Subject("cpu", "float32"),
            advice="slower",
            ratio=SLOWER,
            n=3,
            total=4,
            group="matrix products",
            best=None,
            worst=(CELL, Ratio(2.0, 1.5, math.inf)),
            exceeded=True,
            error=4e-4,
        )
    ),
    "float16 on cpu: optimizers 2.0x the time of float32 (0.80 to 5.0), no clear difference "
    "(4 of 4 cells)": unclear("optimizers", Ratio(2.0, 0.8, 5.0)),
    "float32 on mps: training not precise enough to compare with cpu (0 of 4 cells)": Several(
        topic="device group",
        subject=Subject("mps", "float32"),
        rival=Subject("cpu"),
        advice="unclear",
        n=0,
        total=4,
        group="training",
        best=None,
        worst=None,
        exceeded=True,
    ),
    "train with cpu, bfloat16, batch 1024: 1,000 samples/s, 2.0x faster (1.7 to 2.5) per sample "
    "than the plain default (cpu, float32, batch 64, foreach optimizer, no workers). Avoid "
    "float16: training is 2.0x slower (1.9 to 2.1) than in float32. Based on 3 of 3 training "
    "steps": (
        Use(
            topic="use",
            subject=Subject("cpu", "bfloat16", "step", {"batch": "1024"}),
            advice="use",
            ratio=FASTER,
            amount=1000,
            rival=Subject("cpu", "float32", "step", {"batch": "64"}),
            n=3,
            total=3,
            avoid={"float16": SLOWER},
        )
    ),
    "matmul n=512 in float16 on cpu: wrong: off by 0.3": Fault(
        topic="fault", subject=CELL, advice="wrong", reason="off by 0.3"
    ),
    "matmul n=512 in float16 on cpu: oom in 2 of 5 runs: full": Fault(
        topic="fault", subject=CELL, advice="ok", reason="oom in 2 of 5 runs: full"
    ),
    "unsupported on cpu in float16: to_numpy, lambda (start=a) and bmm (n=5 and n=9); "
    "reason: x": Refusal(
        topic="unsupported",
        subject=CELL,
        dtypes=("float16",),
        reason="x",
        refused={
            "to_numpy": {},
            "lambda": {"start": ("a",)},
            "bmm": ((("n", "5"),), (("n", "9"),)),
        },
    ),
    "3 of 1,633 cells are not settled: 2 lost CPU time to other programs, 1 ran while the machine "
    "was slower than at its best": Unsettled(
        topic="unstable", subject=Subject(), n=3, total=1633, stolen=2, slowed=1
    ),
    "1 of 2 cells is not settled": Unsettled(
        topic="unstable", subject=Subject(), n=1, total=2, stolen=0, slowed=0
    ),
    "step mode=a in float32: mps is faster than cpu from batch 96 (between 64 and 256) on; at "
    "4,096 it is 2.0x faster (1.7 to 2.5)": sweep("above", Crossover(96.2, 64, 256, True)),
    "step mode=a in float32: mps is slower than cpu from batch 96 (between 64 and 256) on": sweep(
        "below", Crossover(96.2, 64, 256, False), at=1024
    ),
    "step mode=a in float32: mps is faster than cpu (measured: batch 1 to 4,096)": (
        sweep("always", at=1024)
    ),
    "step mode=a in float32: mps is never faster than cpu (measured: batch 1 to 4,096)": sweep(
        "never", at=1024
    ),
    "adam on cpu: fused is the fastest, 2.0x faster (1.7 to 2.5) than single": Alternatives(
        topic="optimizer",
        subject=optimizer("fused"),
        advice="fastest",
        ratio=FASTER,
        rival=optimizer("single"),
        unmeasured={},
    ),
    "adam on cpu: fused is 2.0x faster (1.7 to 2.5) than single; foreach may be about as fast; "
    "other was not measured (oom)": Alternatives(
        topic="optimizer",
        subject=optimizer("fused"),
        advice="faster",
        ratio=FASTER,
        rival=optimizer("single"),
        alike=(optimizer("foreach"),),
        unmeasured={"other": "oom"},
    ),
    "JPEG images: workers=2 batch=64 is best, 2,560 images/s, 2.0x faster (1.7 to 2.5) than "
    "without workers": loading(loader(64, 2), loader(64, 0)),
    "JPEG images: workers=0 batch=64 is best, 2,560 images/s, 2.0x faster (1.7 to 2.5) than the "
    "best with workers, workers=2 batch=64; 1 of 4 settings was not settled": loading(
        loader(64, 0), loader(64, 2), a="oom"
    ),
    "JPEG images: workers=2 batch=64 is among the best, 2,560 images/s; no notable difference "
    "without workers; workers=4 batch=64 may be about as fast": loading(
        *(loader(64, 2), loader(64, 0), "among the best", None, (loader(64, 4),))
    ),
    "neither is clearly the bottleneck on cpu: FashionMNIST gives an uncertain number of images/s "
    "without workers, training on them uses an uncertain number of samples/s (float32, batch=64)": (
        Finding(
            topic="bottleneck",
            subject=loader(64, 2),
            advice="unclear",
            rival=Subject("cpu", "float32", "step", {"batch": "64"}),
        )
    ),
    "loading is the bottleneck on mps: FashionMNIST gives 9,915 images/s without workers, "
    "training on them uses 19,830 samples/s (float32, batch=64); loading is 2.0x slower (1.9 to "
    "2.1)": (
        Finding(
            topic="bottleneck",
            subject=loader(64, 2),
            advice="loading",
            ratio=SLOWER,
            amount=9915,
            rival=Subject("mps", "float32", "step", {"batch": "64"}),
            rival_amount=19830,
        )
    ),
    "copy n=9 on cpu: in place is 2.0x faster (1.7 to 2.5)": Finding(
        topic="in place",
        subject=Subject("cpu", "float32", "copy", {"form": "in_place", "n": "9"}),
        ratio=FASTER,
    ),
    "torch.tensor(array) copies the data in 600 us (n=9), from_numpy shares the memory in 600 "
    "ns": Finding(topic="copy", subject=COPY, amount=6e-4, rival_amount=6e-7),
    "the best copy on cpu moves 27.0 GB/s (n=9 in float32)": Finding(
        topic="bandwidth", subject=COPY, amount=2.7e10
    ),
    "matmul n=512 in float16 on cpu reaches 10% of this bandwidth": Finding(
        topic="far below", subject=CELL, amount=2.7e9, rival_amount=2.7e10
    ),
    "the best float16 matmul on cpu: 270 GFLOP/s (n=512)": Finding(
        topic="arithmetic", subject=CELL, amount=2.7e11
    ),
    "a small call costs 1.00 us on cpu (add n=9); one with about 15,700 elements takes twice "
    "as long": Overhead(topic="overhead", subject=COPY, amount=1e-6, negligible_from=15708.2),
    "a small call costs 1.00 us on cpu (add n=9)": Overhead(
        topic="overhead", subject=COPY, amount=1e-6, negligible_from=None
    ),
    "cpu: 3 of 40 cells take longer to launch than to run (medians: launch 5.00 us, work "
    "9.00 us); larger batches or torch.compile need fewer launches": Finding(
        topic="launch",
        subject=COPY,
        advice="fewer calls",
        amount=5e-6,
        rival_amount=9e-6,
        n=3,
        total=40,
    ),
    "cpu: the first call takes 2.0 times as long as a later one (1.9 to 2.1, median of 40 cells); "
    "the slowest one takes 1.50 s (copy n=9 in float32)": Finding(
        topic="first call", subject=COPY, ratio=SLOWER, amount=1.5, n=40
    ),
    "forward and backward with torch.compile on cpu, batch 64, float32: 2.0x faster (1.7 to 2.5); "
    "the first call takes 10.0 s, which pays off after 1,230 calls (1,000 to 1,500)": (
        Compiled(
            topic="compiled",
            subject=Subject("cpu", "float32", "compiled", {"batch": "64"}),
            ratio=FASTER,
            amount=10.0,
            calls=(1234.5, 1000, 1500),
        )
    ),
    "float16 on cuda: training takes 0.50 to 0.90 times the memory of float32 (5 cells); step "
    "batch=64 takes 1.00 MiB instead of 2.00 MiB": Memory(
        topic="memory",
        subject=Subject("cuda", "float16", "step", {"batch": "64"}),
        amount=2**20,
        rival_amount=2**21,
        least=0.5,
        most=0.9,
        n=5,
    ),
    "m1 mps trains best with float16 batch=64: 1,000 samples/s, 2.0x faster (1.7 to 2.5) than "
    "amx": Finding(
        topic="machine",
        subject=Subject("m1 mps", "float16", "step", {"batch": "64"}),
        ratio=FASTER,
        amount=1000,
        unit="samples/s",
        rival=Subject("amx", "float32", "step", {"batch": "64"}),
    ),
    "amx cpu loads JPEG images best with workers=2: 1,000 images/s": Finding(
        topic="machine loading",
        subject=Subject("amx cpu", "float32", "loader", {"workers": "2"}),
        amount=1000,
        unit="images/s",
        rival=Subject("amx"),
    ),
    "loader_to_device on cuda: pin_memory=yes is 2.0x faster (1.7 to 2.5) than "
    "pin_memory=no": Finding(
        topic="loader option",
        subject=Subject("cuda", "float32", "loader_to_device", {"pin_memory": "yes"}),
        ratio=FASTER,
        rival=Subject("cuda", "float32", "loader_to_device", {"pin_memory": "no"}),
    ),
    "sum in float32: mps takes 0.42 times as long as cpu (geometric mean): 2 of 3 cells slower; "
    "2.0x faster (n=512) to 2.0x slower (dim=0)": plain(
        "benchmark", "sum", faster=0, slower=2, n=3
    ),
    "step mode=a in float32: mps is slower than cpu (measured: batch 1 to 4,096); no notable "
    "difference at 64; at 16 it is 2.0x faster (1.7 to 2.5)": sweep("slower", at=16, ties=(64,)),
}


@pytest.mark.parametrize("text", FINDINGS)
def test_a_finding_in_words(text):
    assert sentence(FINDINGS[text]) == text


def test_every_topic_is_tested():
    assert {finding.topic for finding in FINDINGS.values()} == WORDS.keys()


def test_lists_and_reasons_are_cut():
    assert listed(["a"]) == "a"
    assert listed([*"abcdefg"]) == "a, b, c and 4 more"
    fault = Fault(topic="fault", subject=CELL, advice="oom", reason=1000 * "x")
    assert len(sentence(fault)) < LONGEST + 100


def test_a_ratio_is_given_in_the_direction_in_which_it_is_above_1():
    assert times(Ratio(2.41, 2.3, 2.5)) == "2.4x slower (2.3 to 2.5)"
    assert times(Ratio(0.5, 0.25, 0.8)) == "2.0x faster (1.2 to 4.0)"
    assert times(Ratio(800, 1.9, 3.4e5)) == "at least 1.9x slower"
    assert times(Ratio(0.01, 1e-4, 0.4)) == "at least 2.5x faster"
    assert times(Ratio(2, 0.5, 8)) == "2.0x slower (0.50 to 8.0)"
    assert times(Ratio(0.5, 0, 0.8)) == "at least 1.25x faster"
    assert times(Ratio(2.0, 1.5, math.inf)) == "at least 1.50x slower"
    assert times(Ratio(0.5, 0, 2)) == "2.0x faster (0.50 to inf)"


def test_groups_without_a_clear_difference_show_what_is_known():
    several = unclear("training", Ratio(0.9, 0.4, 2.0)), unclear("optimizers", Ratio(2.0, 0.8, 5.0))
    text = "No clear difference: training (0.40x to 2.00x the time), optimizers (0.80x to 5.0x)"
    assert text in groups.together(several)
