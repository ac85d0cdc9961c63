"""The files that GitHub reads say what it understands, and name commands that exist."""

import configparser
import itertools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

from bench.cli import main

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize(
    ("schema", "paths"),
    [("vendor.github-workflows", WORKFLOWS), ("vendor.github-actions", [ROOT / "action.yml"])],
)
def test_they_keep_to_their_schema(schema, paths):
    pytest.importorskip("check_jsonschema", reason="an extra of development")
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *paths]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def pages():
    yield from (ROOT / "docs").glob("*.md")
    yield from (*WORKFLOWS, ROOT / "action.yml", ROOT / "README.md", ROOT / "CONTRIBUTING.md")


def test_every_option_that_a_page_gives_a_command_exists():
    """`bench NAME --option`, as far as the options are the command's own."""
    commands = get_command(main.app).commands
    seen = 0
    for page in pages():
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for name, rest in re.findall(r"(?:^|[ `/(])bench (\w[\w-]*)([^`\n#|;]*)", text, re.M):
            if name not in commands:
                continue
            command = commands[name]
            for word in rest.split()[:1]:  # a command of a group, as in `bench tune loader`
                command = getattr(command, "commands", {}).get(word, command)
            known = {
                option for one in command.params for option in (*one.opts, *one.secondary_opts)
            }
            passes_on = command.context_settings.get("ignore_unknown_options")
            for option in re.findall(r"(?<=\s)(--[a-z][\w-]*)", rest):
                seen += 1
                assert passes_on or option in known, (page.name, name, option)
    assert seen > 40


def test_the_tests_run_with_the_lowest_versions_that_are_promised():
    """Only they show whether a bound is true; without one, the oldest release of all is tried."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    for requirement in itertools.chain(project["dependencies"], *extras):
        assert ">=" in requirement or requirement.startswith(project["name"] + "["), requirement
    jobs = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    made = re.search(r"--python (\S+) --resolution lowest-direct -e '\.\[dev\]'\n", jobs)
    assert f"{made[1]}/bin/python -m pytest tests" in jobs[made.end() :]


def test_timing_needs_none_of_the_extras():
    """An extra may have no wheel for the newest Python; the suite does not need it."""
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini")
    assert "extras" not in tox["testenv:bench"]
    assert "tox" not in tox["testenv:bench"]["commands"].split()
