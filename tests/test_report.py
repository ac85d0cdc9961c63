"""The HTML report: in a real browser where there is one."""

import json
import re
import shutil

import pytest
from test_compare import HOSTILE, store
from truths import Machine
from typer.testing import CliRunner

from bench import cli
from bench.compare import files
from bench.records import reader
from bench.records.schema import Row
from bench.records.writer import Writer
from bench.report import html, plots


def a_machine(name="a model"):
    """A machine with two devices, and something for every picture."""
    machine = Machine(name=name, runs=2).crossing(96)
    for dtype, factor in (("float32", 1.0), ("float16", 40.0)):
        for n in (64, 256, 1024):
            known = {"benchmark": "matmul", "dtype": dtype, "params": f"n={n}"}
            machine.cell(factor * 1e-9 * n**2, **known, flop=2 * n**3, bytes=12 * n**2, items=n)
    machine.cell(1e-2, benchmark="copy", params="form=in_place;n=33554432", bytes=2.7e8)
    for workers, seconds in ((0, 0.2), (2, 0.1)):
        known = {"family": "loading", "benchmark": "loader", "items": 256}
        machine.cell(seconds, params=f"batch=64;workers={workers}", **known)
    for part in ("load", "forward", "whole"):
        known = {"family": "training", "benchmark": "step_part", "params": f"part={part}"}
        machine.cell(1e-3, **known)
    return machine.fault("wrong", HOSTILE, benchmark="linear", params="form=module")


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "x.csv"
    writer = Writer(path)
    for columns in a_machine().frame().to_dict("records"):
        plain = {name: None if value != value else value for name, value in columns.items()}
        writer.append(Row(**plain))
    writer.close()
    return path


def test_the_report_is_one_small_file_with_every_picture(stored, tmp_path):
    out, pictures = tmp_path / "report.html", tmp_path / "png"
    words = ["report", str(stored), "-o", str(out), "--png", str(pictures)]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, done.output
    text = out.read_text()
    assert len(text) < 3_000_000
    names = {path.stem for path in pictures.iterdir()}
    assert names == {"heatmap", "size-step", "size-matmul", "loading", "step", "roofline-cpu"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures.iterdir())
    assert text.count("<svg") == len(names)
    assert "mps overtakes cpu at batch" in text
    # Nothing is fetched: the only addresses are the names of XML's own vocabularies.
    addresses = set(re.findall(r"https?://[^\s\"'<>]+", text)) - {"http://e.vil)|`a`@user"}
    assert all(
        "w3.org" in a
        or "purl.org" in a
        or "creativecommons" in a
        or "matplotlib" in a
        or "e.vil" in a
        for a in addresses
    ), addresses
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_ids_of_pictures_do_not_clash(stored):
    frame = files.read([str(stored)])
    ids = [set(re.findall(r'id="(p[0-9a-f]{10}|m[0-9a-f]{10})"', p.svg())) for p in plots.of(frame)]
    assert sum(map(len, ids)) == len(set().union(*ids)) > 0


def test_machines_without_figures_have_a_report_too(tmp_path):
    path = store(tmp_path / "x.csv", {"status": "error", "median_s": None, "reason": "broken"})
    page, pictures = html.page(files.read([path]))
    assert pictures == []
    assert "broken" in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing to write: give -o report.html, --png DIR or --markdown"),
        (["-o", "/proc/nowhere/x.html"], "cannot write /proc/nowhere/x.html"),
    ],
)
def test_bad_input_is_one_line(stored, words, said):
    done = CliRunner().invoke(cli.app, ["report", str(stored), *words])
    assert done.exit_code == 2
    assert said in done.output
    assert len(done.output.strip().splitlines()) == 1


def test_the_markdown_digest_is_short_and_folded(stored):
    done = CliRunner().invoke(cli.app, ["report", str(stored), "--markdown"])
    assert done.exit_code == 0
    assert "<details><summary>" in done.output
    assert "<script>" not in done.output
    assert len(done.output) < 65_536


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium, where it and its driver are installed."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no Chromium and chromedriver here")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for word in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "no-first-run",
    ):
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    opened = webdriver.Chrome(options=options, service=service)
    yield opened
    opened.quit()


def test_in_a_browser_it_sorts_filters_and_fetches_nothing(browser, stored, tmp_path):
    out = tmp_path / "report.html"
    CliRunner().invoke(cli.app, ["report", str(stored), "-o", str(out)])
    browser.get(out.as_uri())
    assert browser.find_elements("css selector", "figure svg path")
    for svg in browser.find_elements("css selector", "figure svg"):
        assert svg.size["width"] > 200

    def column(number):
        cells = browser.find_elements("css selector", f"#cells tbody tr td:nth-child({number})")
        return [cell.get_attribute("data-key") for cell in cells if cell.is_displayed()]

    median = browser.find_elements("css selector", "#cells th button")[5]
    median.click()
    values = [float(key) for key in column(6) if key]
    assert values == sorted(values)
    assert column(6)[-1] == ""  # what has no time comes last
    median.click()
    values = [float(key) for key in column(6) if key]
    assert values == sorted(values, reverse=True)
    browser.find_element("id", "filter").send_keys("matmul float16")
    assert len(column(6)) == 3
    assert browser.find_element("id", "count").text.startswith("3 of ")
    # Hostile text is text: no element was made of it, nothing ran.
    assert not browser.find_elements("css selector", "td script, td a, li script, li a")
    assert [e for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [
        m["params"]["request"]["url"] for m in sent if m["method"] == "Network.requestWillBeSent"
    ]
    assert {url for url in urls if not url.startswith("data:")} == {out.as_uri()}


@pytest.mark.parametrize("width", [400, 1280])
def test_on_a_phone_nothing_hangs_over(browser, stored, tmp_path, width):
    out = tmp_path / "report.html"
    CliRunner().invoke(cli.app, ["report", str(stored), "-o", str(out)])
    browser.set_window_size(max(width, 500), 900)
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    browser.get(out.as_uri())
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    assert wide <= width


def test_rows_of_the_report_are_those_of_the_file(stored):
    page, _ = html.page(files.read([str(stored)]))
    cells = reader.read(stored).drop_duplicates(
        ["family", "benchmark", "device", "dtype", "params"]
    )
    assert page.count("<tr>") == 1 + len(cells)
