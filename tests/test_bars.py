"""The small pictures of ratios."""

import re

from bench.report import bars
from bench.stats.ratios import Ratio
from bench.verdicts.finding import Finding, Subject


def finding(low, high, **subject):
    ratio = Ratio((low * high) ** 0.5, low, high)
    return Finding(topic="x", subject=Subject(device="cpu", **subject), ratio=ratio)


def test_labels_have_what_the_rows_do_not_share():
    made = bars.of([finding(0.2, 0.3, benchmark="<b>"), finding(2, 3, benchmark="cat")])
    assert re.findall(r'end">([^<]*)<', made)[:2] == ["&lt;b&gt;", "cat"]


def test_what_is_slower_lies_right_of_one():
    made = bars.of([finding(0.2, 0.25, benchmark="a"), finding(4, 5, benchmark="b")])
    quick, slow = (float(x) for x in re.findall(r'cx="([\d.]+)"', made))
    middle = float(re.search(r'x1="([\d.]+)"', made)[1])
    assert quick < middle < slow
    assert abs((middle - quick) - (slow - middle)) < 0.2
    assert "5.0x slower" in made


def test_one_ratio_and_an_open_interval_need_no_axis_of_their_own():
    assert bars.of([finding(1, 2)]) == ""
    made = bars.of([finding(1, 2, benchmark="a"), finding(1, float("inf"), benchmark="b")])
    assert "inf" not in made
    assert "nan" not in made


def test_a_label_that_does_not_fit_ends_with_an_ellipsis():
    made = bars.of([finding(1, 2, benchmark="b" * 40), finding(3, 4, benchmark="a" * bars.FITS)])
    assert re.findall(r'end">([^<]*)<', made)[:2] == ["b" * (bars.FITS - 1) + "…", "a" * bars.FITS]
