"""A side of a comparison: its interpreter, its suite, its commit."""

import os
import subprocess
import sys

import pytest

from bench.launch import sides
from bench.launch.command import CannotRun
from bench.launch.sides import Side


@pytest.mark.integration
def test_a_place_finds_its_interpreter_and_its_suite(tmp_path):
    (tmp_path / "made").mkdir()
    prefix = os.path.dirname(os.path.dirname(sys.executable))
    place = sides.prepare(Side(python=prefix, env={"K": "V"}), "candidate", tmp_path / "made")
    assert place.python == os.path.join(prefix, "bin", "python") or os.name == "nt"
    assert place.env["K"] == "V"
    done = subprocess.run(
        [place.python, "-P", "-c", "import bench; print(bench.__file__)"],
        env=place.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(tmp_path / "made") in done.stdout


@pytest.mark.integration
def test_a_python_without_the_suite_s_needs_is_reported(tmp_path, monkeypatch):
    (tmp_path / "made").mkdir()
    monkeypatch.setattr(sides, "_NEEDED", ("no_such_module",))
    with pytest.raises(CannotRun, match=r"the candidate cannot run the suite: .*no_such_module"):
        sides.prepare(Side(python=sys.executable), "candidate", tmp_path / "made")


@pytest.mark.integration
def test_a_ref_brings_its_own_suite_or_its_own_code(tmp_path, monkeypatch):
    def git(*words):
        config = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", *config, *words], cwd=tmp_path / "repo", check=True)

    (tmp_path / "repo").mkdir()
    git("init", "--quiet")
    (tmp_path / "repo" / "mine.py").write_text("VALUE = 1\n")
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    monkeypatch.chdir(tmp_path / "repo")
    monkeypatch.setattr(sides, "_NEEDED", ("pytest",))  # the others take seconds to import
    (tmp_path / "made").mkdir()
    pinned = sides.pinned(Side(ref="HEAD"), "baseline")
    git("commit", "--quiet", "--allow-empty", "-m", "second")
    assert sides.pinned(Side(ref="HEAD~"), "baseline") == pinned != Side(ref="HEAD~")
    place = sides.prepare(pinned, "baseline", tmp_path / "made")
    # A copy of the suite alone: what lies beside the installed one may be what the ref brings.
    assert place.package == tmp_path / "made" / "suite" / "bench"
    done = subprocess.run(
        [place.python, "-P", "-c", "import mine; print(mine.__file__)"],
        env=place.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(tmp_path / "made" / "tree") in done.stdout
    sides.clean(tmp_path / "made")
    assert not (tmp_path / "made").exists()
