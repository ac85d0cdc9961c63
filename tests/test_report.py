"""The HTML report: in a real browser where there is one."""

import base64
import csv
import hashlib
import json
import re
import shutil

import pytest

from bench.compare import cells, files
from bench.records import reader
from bench.records.schema import Row
from bench.records.writer import Writer
from bench.report import digest, html, picture, plots
from bench.report.heatmap import heatmap
from tests.helpers.command import run_bench
from tests.helpers.frames import HOSTILE, frame, store
from tests.helpers.truths import Machine, a_machine


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "x.csv"
    writer = Writer(path)
    for columns in a_machine().frame().to_dict("records"):
        plain = {name: None if value != value else value for name, value in columns.items()}
        writer.append(Row(**plain))
    writer.close()
    return path


@pytest.mark.integration
def test_the_report_is_one_small_file_with_every_picture(stored, tmp_path):
    out, pictures = tmp_path / "report.html", tmp_path / "png"
    words = ["report", str(stored), "-o", str(out), "--png", str(pictures)]
    done = run_bench(*words)
    assert done.exit_code == 0, done.output
    text = out.read_text()
    assert len(text) < 4_000_000
    names = {path.stem for path in pictures.iterdir()}
    assert names == {"heatmap", "size-step", "size-matmul", "loading", "step", "roofline-cpu"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures.iterdir())
    assert text.count("<figure") == len(names)
    assert "mps is faster than cpu from batch" in text
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


@pytest.mark.parametrize("machines", [["a"], ["a", "b"]], ids=["one", "compared"])
def test_the_policy_names_the_script_of_the_page(machines, tmp_path):
    """One script, by hash: a browser runs no other, whatever is in the results."""
    rows = [{"machine": name, "run_id": name, "reason": HOSTILE} for name in machines]
    page, _ = html.page(files.read([store(tmp_path / "a.csv", *rows)]))
    assert ('id="ratios"' in page) == (len(machines) > 1)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy"\s+content="(.*?)"', page)
    rules = dict(rule.split(maxsplit=1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{digest}'"


def frame_of(*machines):
    return frame(*(row for machine in machines for row in machine.rows)).assign(file="x")


@pytest.mark.integration
def test_pictures_of_two_machines_have_names_of_their_own(tmp_path):
    for name in ("A.b", "a-b"):
        writer = Writer(tmp_path / f"{name}.csv")
        for columns in a_machine(name).frame().to_dict("records"):
            writer.append(Row(**{k: None if v != v else v for k, v in columns.items()}))
        writer.close()
    words = ["report", *map(str, tmp_path.glob("*.csv")), "--png", str(tmp_path / "png")]
    done = run_bench(*words)
    assert done.exit_code == 0, done.output
    names = {path.stem for path in (tmp_path / "png").iterdir()}
    assert len(names) == 12
    assert {"a-b-heatmap", "a-b-heatmap-2", "a-b-roofline-cpu", "a-b-roofline-cpu-2"} <= names


def test_two_versions_of_torch_on_a_machine_are_two_parts_of_the_report():
    old, new = Machine(name="m", runs=2).crossing(96), Machine(name="m", runs=2).crossing(20)
    for row in new.rows:
        row |= {"torch": "2.15.0", "run_id": f"new-{row['run_id']}"}
    page, pictures = html.page(frame_of(old, new))
    assert re.findall("<h1>(.*)</h1>", page) == ["PyTorch on m"]
    headings = re.findall("<h2>(.*)</h2>", page)
    assert headings[0] == "What differs?"
    assert [heading.partition(" <")[0] for heading in headings[1:3]] == [
        "m, torch 2.11.0, 4 threads",
        "m, torch 2.15.0, 4 threads",
    ]
    assert len(re.findall("<li>step in float32: mps is faster than cpu", page)) == 2
    assert [picture.name for picture in pictures] == [
        *("m-torch-2-11-0-4-threads-heatmap", "m-torch-2-11-0-4-threads-size-step"),
        *("m-torch-2-15-0-4-threads-heatmap", "m-torch-2-15-0-4-threads-size-step"),
    ]
    assert "<button>torch</button>" in page
    assert "<button>threads</button>" not in page
    assert page.count("<td>2.15.0</td>") == page.count("<td>2.11.0</td>") == 14
    # What the two differ in is compared, not only listed.
    assert "torch 2.15.0 against torch 2.11.0: geometric means and 95 % intervals" in page
    assert '<table id="ratios"' in page


def test_names_of_pictures_are_those_of_files_everywhere():
    machine = Machine(runs=1).cell(1e-2, benchmark="copy", device="../a:b", bytes=2.7e8)
    for n in (1, 2, 3):
        known = {"benchmark": "matmul", "device": "../a:b", "params": f"n={n}"}
        machine.cell(1e-3, **known, bytes=n, flop=n * n)
    names = [picture.name for picture in plots.of(machine.frame())]
    assert "roofline-a-b" in names
    (drawn, *_) = plots.of(machine.frame())
    for owner in ("CON", 300 * "x", "机器", "a/../b"):
        (named,) = picture.named([drawn], owner, ["size-matmul"])
        assert re.fullmatch(r"[a-z0-9-]{1,200}", named.name)
        assert named.name != "size-matmul"


def test_a_table_that_was_cut_has_a_note(monkeypatch):
    machine = Machine(runs=2)
    for n in range(7):
        machine.cell(1e-3, params=f"n={n}")
    page, _ = html.page(frame_of(machine))
    assert "2 runs, 7 cells; median" in page
    monkeypatch.setattr(html, "MAX_ROWS", 5)
    page, _ = html.page(frame_of(machine))
    assert page.count("<tr id=") == 5
    assert "2 runs, 5 of 7 cells, the rest is in the CSV; median" in page


def test_cells_of_a_benchmark_are_beside_each_other_whenever_they_were_timed():
    machine = Machine(runs=1)
    for benchmark, n in (("cat", 16), ("neg", 16), ("cat", 4)):
        machine.cell(1e-3, benchmark=benchmark, params=f"n={n}")
    page, _ = html.page(frame_of(machine))
    found = re.findall(r'<tr id="tensors/(\w+)/cpu/float32/n=(\d+)"', page)
    assert found == [("cat", "4"), ("cat", "16"), ("neg", "16")]


def test_the_peak_memory_has_a_column_if_a_cell_has_it():
    machine = Machine(runs=1).cell(1e-3)
    assert "peak memory" not in html.page(frame_of(machine))[0]
    page, _ = html.page(frame_of(machine.cell(1e-3, benchmark="neg", peak_bytes=2**21)))
    assert "<button>peak memory</button>" in page
    assert '<td class="number" data-key="2097152">2.00 MiB</td>' in page
    assert page.count('<td class="number" data-key=""></td>') > 1


@pytest.mark.integration
def test_a_page_without_pictures_of_all_has_a_note(monkeypatch):
    machines = [Machine(name=name, runs=1).crossing(96) for name in "ab"]
    assert "pictures of" not in html.page(frame_of(*machines))[0]
    monkeypatch.setattr(html, "MAX_PICTURED", 1)
    page, pictures = html.page(frame_of(*machines))
    assert "95 % interval; pictures of the first 1 of 2 parts." in page
    assert {picture.name for picture in pictures} == {"a-heatmap", "a-size-step"}


def drawn_texts(machine):
    """The texts of the heat map of a machine."""
    (picture,) = heatmap(cells.of(machine.frame()))
    return [text.get_text() for text in picture.figure.axes[0].texts]


def test_the_heatmap_divides_times_of_the_same_size():
    machine = Machine(noise=0)
    for n, seconds in ((16, 1e-3), (256, 4e-3), (1024, 9e-3)):
        machine.cell(seconds, params=f"n={n}", items=n)
    for n, seconds in ((16, 1e-3), (256, 2e-3)):
        machine.cell(seconds, params=f"n={n}", items=n, device="mps")
    assert drawn_texts(machine) == ["1.00x", "0.50x"]
    machine.fault("oom", "x", params="n=1024", items=1024, device="mps")
    assert drawn_texts(machine) == ["1.00x", "0.50x"]


def test_the_heatmap_has_all_rows_and_its_colours_end_where_the_ratios_do():
    machine = Machine(noise=0)
    for n in range(60):
        for dtype, seconds in (("float32", 1e-3), ("float16", 0.47e-3 if n else 4e-3)):
            machine.cell(seconds, benchmark=f"op{n}", dtype=dtype)
    (picture,) = heatmap(cells.of(machine.frame()))
    figure, axes = picture.figure, picture.figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"op{n}" for n in range(60)]
    assert len(axes.texts) == 120
    norm = axes.images[0].norm
    # From the least range of the colours, a factor of 2, to the largest ratio, a factor of 4.
    assert (2**norm.vmin, 2**norm.vmax) == pytest.approx((0.47, 4), rel=1e-3)
    assert figure.axes[1].get_ylabel() == "times as long: red is slower"


def test_a_roofline_has_a_roof_for_each_dtype(stored):
    drawn = {picture.name: picture for picture in plots.of(files.read([str(stored)]))}
    legend = drawn["roofline-cpu"].figure.axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["float32", "float16", "matmul"]


@pytest.mark.integration
def test_ids_of_pictures_do_not_clash(stored):
    frame = files.read([str(stored)])
    ids = [set(re.findall(r'id="(p[0-9a-f]{10}|m[0-9a-f]{10})"', p.svg())) for p in plots.of(frame)]
    assert sum(map(len, ids)) == len(set().union(*ids)) > 0


def test_machines_without_figures_have_a_report_too(tmp_path):
    path = store(tmp_path / "x.csv", {"status": "error", "median_s": None, "reason": "broken"})
    page, pictures = html.page(files.read([path]))
    assert pictures == []
    assert "broken" in page


@pytest.mark.integration
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to write: give -o report.html, --png DIR or --markdown"),
        (
            ["-o", "/proc/nowhere/x.html"],
            "bench: /proc/nowhere/x.html: No such file or directory",
        ),
    ],
)
def test_bad_input_is_one_line(stored, words, message):
    done = run_bench("report", str(stored), *words)
    assert done.exit_code == 2
    assert message in done.output
    assert len(done.output.strip().splitlines()) == 1


@pytest.mark.integration
def test_large_reports_stay_within_what_can_be_shown():
    """Twelve machines with long names, whose faults have reasons as long as the reader takes."""
    rows = []
    for number in range(12):
        machine = Machine(name=f"machine-{number}-{30 * 'x'}", runs=1)
        for size in range(500):
            machine.cell(1e-3, benchmark="softmax", params=f"form=out_of_place;n={size}")
        for size in range(20):
            known = {"benchmark": f"linear{size}", "params": f"n={size}"}
            machine.fault("error", 9000 * "y", **known)
        rows += machine.rows
    whole = frame(*rows).assign(file="x")
    assert len(digest.markdown(whole)) <= digest.MOST
    assert len(html.page(whole)[0]) < 4_000_000


def test_the_markdown_digest_is_short_and_folded(stored):
    done = run_bench("report", str(stored), "--markdown")
    assert done.exit_code == 0
    assert "<details><summary>" in done.output
    assert "<script>" not in done.output
    assert len(done.output) < 65_536


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium, where it and its driver are installed."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    service = pytest.importorskip("selenium.webdriver.chrome.service")
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
    opened = webdriver.Chrome(options=options, service=service.Service(executable_path=driver))
    yield opened
    opened.quit()


@pytest.mark.integration
def test_in_a_browser_it_sorts_filters_and_fetches_nothing(browser, stored, tmp_path):
    out = tmp_path / "report.html"
    run_bench("report", str(stored), "-o", str(out))
    browser.get(out.as_uri())
    assert browser.find_elements("css selector", "figure svg path")
    for svg in browser.find_elements("css selector", "figure svg"):
        assert svg.size["width"] > 200

    def column(number):
        cells = browser.find_elements("css selector", f"#cells tbody tr td:nth-child({number})")
        return [cell.get_attribute("data-key") for cell in cells if cell.is_displayed()]

    median = browser.find_elements("css selector", "#cells th button")[2]
    median.click()
    values = [float(key) for key in column(3) if key]
    assert values == sorted(values)
    assert column(3)[-1] == ""  # what was not measured comes last
    median.click()
    values = [float(key) for key in column(3) if key]
    assert values == sorted(values, reverse=True)
    browser.find_element("css selector", "input[type=search]").send_keys("matmul float16")
    assert len(column(3)) == 3
    assert browser.find_element("class name", "count").text.startswith("3 of ")
    browser.find_element("css selector", "#cells tr:not([hidden]) a").click()
    assert "interval from" in browser.find_element("css selector", "tr.more").text
    # A cell that is linked to opens with its details.
    browser.refresh()
    assert "interval from" in browser.find_element("css selector", "tr:target + tr.more").text
    # What is shown is saved, numbers as numbers.
    browser.execute_script(
        "URL.createObjectURL = blob => { window.saved = blob.text(); return 'data:,'; };"
        "HTMLAnchorElement.prototype.click = () => {};"
    )
    browser.find_element("class name", "save").click()
    saved = list(csv.DictReader(browser.execute_script("return window.saved").splitlines()))
    assert len(saved) == len(column(3))
    assert {float(one["median"]) for one in saved if one["median"]} == set(
        map(float, filter(None, column(3)))
    )
    # Hostile text is text: no element was made of it, nothing ran.
    assert not browser.find_elements(
        "css selector", "td script, td a:not([href^='#']), li script, li a"
    )
    assert [e for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [
        m["params"]["request"]["url"] for m in sent if m["method"] == "Network.requestWillBeSent"
    ]
    assert {url for url in urls if not url.startswith("data:")} == {out.as_uri()}


@pytest.mark.integration
@pytest.mark.parametrize("width", [400, 1280])
def test_on_a_phone_nothing_hangs_over(browser, stored, tmp_path, width):
    out = tmp_path / "report.html"
    run_bench("report", str(stored), "-o", str(out))
    browser.set_window_size(max(width, 500), 900)
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    browser.get(out.as_uri())
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    assert wide <= width
    # The heat map scrolls: at half its size it could not be read.
    shown, drawn = browser.execute_script(
        "const map = document.querySelector('figure.large svg');"
        "return [map.getBoundingClientRect().width, parseFloat(map.getAttribute('width')) / 0.75];"
    )
    assert shown > 0.6 * drawn


def test_rows_of_the_report_are_those_of_the_file(stored):
    page, _ = html.page(files.read([str(stored)]))
    cells = reader.read(stored).drop_duplicates(
        ["family", "benchmark", "device", "dtype", "params"]
    )
    assert page.count("<tr id=") == len(cells)
    long = next(name for name in cells.benchmark if "_" in name)
    assert f"<a>{long.replace('_', '_<wbr>')}</a>" in page  # where a narrow column breaks it
