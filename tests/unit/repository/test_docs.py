"""Documentation: it builds, its commands run, its claims hold."""

import argparse
import contextlib
import dataclasses
import functools
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from docs import generated
from perfgate.cli.main import main
from perfgate.config.options import add_options
from perfgate.engines.base import Engine
from perfgate.errors import Failure
from perfgate.history.store import History
from perfgate.load import metrics
from perfgate.study import schema
from perfgate.study.reader import read_study

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
READ_FIRST = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


def console_commands(page: Path) -> list[str]:
    """Commands of a page's console blocks, which a test runs."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)
    return re.findall(r"^\$ (.*)", "\n".join(blocks), re.MULTILINE)


def long_commands(page: Path) -> list[str]:
    """Commands of a page that take minutes, GPUs or a reader's own runs.

    They are in indented blocks, also of a list, in blocks for a shell, and within text.
    """
    text = page.read_text().replace("\\\n", " ")
    blocks = re.findall(r"```(?:sh|bash)\n(.*?)```", text, re.DOTALL)
    lines = re.findall(r"^ {4,8}(\S.*)", text, re.MULTILINE)
    lines += "\n".join(blocks).splitlines()
    lines += re.findall(r"`([^`\n]+)`", text)
    commands = []
    for line in lines:
        command = " ".join(line.partition(" #")[0].split())
        if re.match(r"(pytest|perfgate|make) [^=]", command):
            commands.append(command)
    return commands


COMMANDS = sorted(
    {
        command
        for page in [*PAGES, ROOT / "README.md"]
        for command in console_commands(page)
    }
)
# Pytest only collects, perfgate only reads its options.
LONG = sorted(
    {
        command
        for page in [*PAGES, *READ_FIRST]
        for command in long_commands(page)
    }
)
OWN_TEST = "test_chat"  # that the reader writes
# An engine's Python in the reader's folders; one that exists stands in for it.
ENGINE_PYTHON = re.compile(r"(?<=[a-z]=)[./]\S*/bin/python3?\b")
PROGRAMS = {
    "perfgate": [
        sys.executable,
        "-c",
        "from perfgate.cli.main import main; main()",
    ],
    "pytest": [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"],
}


def test_site_is_built(tmp_path):
    """Mkdocs builds all pages in strict mode, and the generated parts are in them."""
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--site-dir",
        str(tmp_path),
    ]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
        "NO_MKDOCS_2_WARNING": "1",
    }
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    reference = (
        (tmp_path / "reference.html").read_text()
        if done.returncode == 0
        else ""
    )
    measured = (
        (tmp_path / "measured.html").read_text() if done.returncode == 0 else ""
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    assert 4 == measured.count("measured / published")
    assert not (tmp_path / "runs").exists()  # megabytes that no page links to
    fetched = re.findall(r'(?:src|rel="stylesheet" href)="(.*?)"', reference)
    assert fetched
    assert not any(
        "//" in address for address in fetched
    )  # no network is needed
    assert (
        "minimum detectable effect"
        in (tmp_path / "search" / "search_index.json").read_text()
    )
    assert [] == [
        word
        for word in (
            "--inject-delay",
            "perfgate accept",
            "itl_median_ms",
            "Verdict",
            "shipped_baselines",
        )
        if word not in reference
    ]


def test_table_of_options_says_what_help_says():
    """A percent sign is one, as argparse prints it."""
    parser = argparse.ArgumentParser()
    add_options(parser.add_argument)
    formatter = parser._get_formatter()
    printed = {}
    for action in parser._actions:
        if action.help != argparse.SUPPRESS:
            name = action.option_strings[-1]
            printed[name] = formatter._expand_help(action)
    del printed["--help"]
    rows = re.findall(
        r"^\| `(--[\w-]+).*?` \| (.*) \|$",
        "\n".join(generated.options()),
        re.MULTILINE,
    )

    assert printed == dict(rows)


def test_help_of_each_command_is_what_it_prints():
    """The reference shows it as a user sees it, with every name of an option."""
    blocks = re.findall(
        r"^### perfgate ?([^\n]*)\n\n```text\n(.*?)\n```$",
        "\n".join(generated.commands()),
        re.MULTILINE | re.DOTALL,
    )
    wide = {"terminal_width": 110, "max_content_width": 110}
    wrong = []
    for words, shown in blocks:
        done = CliRunner().invoke(
            main, [*words.split(), "--help"], prog_name="perfgate", **wide
        )
        if done.output.strip() != shown:
            wrong.append(words)

    assert "fleet run" in [words for words, _ in blocks]
    assert [] == wrong


@functools.cache
def run_command(command):
    """Run a command of a page in this project, without GPUs; what became of it."""
    return run_in(ROOT, command)


def run_in(folder, command):
    """Run a command of a page in a folder, without GPUs; what became of it."""
    program, *arguments = shlex.split(command)
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "CUDA_VISIBLE_DEVICES": "",
        "COLUMNS": "160",
    }
    return subprocess.run(
        [*PROGRAMS[program], *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_command_runs(command):
    """Each console block's command ends well and prints something.

    Of a stored run with an injection `perfgate judge` says that it fails.
    """
    done = run_command(command)
    good = {0, 1} if command.startswith("perfgate judge") else {0}

    assert done.returncode in good, done.stdout + done.stderr
    assert done.stdout.strip()


def shown_outputs():
    """Each console block that is followed by its output: the page, the command, the lines."""
    for page in [*PAGES, ROOT / "README.md"]:
        pairs = re.findall(
            r"```console\n\$ ([^\n]*)\n```\n(?:\n[^`#]*)?\n```text\n(.*?)```",
            page.read_text(),
            re.DOTALL,
        )
        for command, output in pairs:
            yield pytest.param(
                command, output.splitlines(), id=f"{page.stem}-{command}"
            )


@pytest.mark.parametrize(("command", "lines"), [*shown_outputs()])
def test_output_that_is_shown_is_printed(command, lines):
    """A page shows lines that its command prints today; "..." stands for others."""

    def bare(line):
        return " ".join(re.sub(r"[─│]+", " ", line).split())

    printed = [bare(line) for line in run_command(command).stdout.splitlines()]
    missing = []
    for line in lines:
        start = bare(line.removesuffix("..."))
        if start and not any(each.startswith(start) for each in printed):
            missing.append(line)

    assert [] == missing, "\n".join(printed)


@pytest.mark.parametrize(
    "command",
    [
        line
        for line in LONG
        if re.match(r"pytest.*(-k| tests/)", line) and OWN_TEST not in line
    ],
)
def test_long_command_selects_tests(command):
    """Pytest finds tests for each command that selects some of them."""
    command = ENGINE_PYTHON.sub(sys.executable, command)
    done = run_command(f"{command} --collect-only -q")

    assert 0 == done.returncode, done.stdout + done.stderr
    assert re.search(r"^(tests|perfgate)/.*::", done.stdout, re.MULTILINE), (
        done.stdout
    )


def test_options_of_pytest_that_are_named_exist(pytestconfig):
    """Pytest takes every option that a command names."""
    groups = [pytestconfig._parser._anonymous, *pytestconfig._parser._groups]
    known = {
        name
        for group in groups
        for option in group.options
        for name in option.names()
    }
    words = {
        word.partition("=")[0]
        for line in LONG
        if line.startswith("pytest")
        for word in shlex.split(line)
    }
    named = {word for word in words if word.startswith("-")}

    assert {"--gate", "--baseline-record", "-k"} <= named
    assert set() == named - known


@pytest.mark.parametrize(
    "command", [line for line in LONG if not line.startswith("pytest")]
)
def test_long_command_is_understood(command):
    """Perfgate takes the options of each command that is named, and make has its target."""
    from perfgate.cli.main import main

    program, word, *arguments = shlex.split(command)
    if program == "make":
        makefile = (ROOT / "Makefile").read_text().replace("$(VENV)", ".venv")
        assert re.search(rf"^{re.escape(word)}:", makefile, re.MULTILINE)
        return
    context = click.Context(main)
    asked = main.get_command(context, word)
    if isinstance(asked, click.Group):
        asked = asked.get_command(context, arguments.pop(0))
    _, left, _ = asked.make_parser(click.Context(asked)).parse_args(arguments)
    assert [] == left


def test_files_that_are_named_exist():
    """Each file of the project that a page names is there."""
    pages = [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    folders = "perfgate|fixtures|tests|docs|baselines|benchmarks"
    named = {
        path
        for page in pages
        for path in re.findall(rf"`((?:{folders})/[\w./-]+)`", page.read_text())
    }
    stand_ins = {
        path
        for path in named
        if "NAME" in path or path == "baselines/attached-h100x2/"
    }

    assert [] == sorted(
        path for path in named - stand_ins if not (ROOT / path).exists()
    )


@pytest.mark.parametrize(
    ("heading", "table"),
    [
        ("models.NAME", schema.ModelTable),
        ("models.NAME.server", schema.ModelServer),
        ("pairs.NAME", schema.PairTable),
        ("servers.NAME", schema.ServerTable),
        ("datasets.NAME", schema.DatasetTable),
        ("workloads.SET.NAME", schema.WorkloadTable),
        ("platforms.NAME", schema.PlatformTable),
        ("platforms.NAME.roles", schema.Roles),
        ("platforms.NAME.deep.LOAD", schema.DeepTable),
        ("platforms.NAME.held", schema.HeldTable),
        ("judged", schema.JudgedTable),
        ("[claims]", schema.ClaimTable),
    ],
)
def test_every_key_of_a_study_has_its_row(heading, table):
    """The page of the study file has a row for each key of each table, and for no other."""
    page = (ROOT / "docs" / "study.md").read_text()
    section = re.split(
        r"^##+ ", page.partition(f"# `[{heading}]`")[2], flags=re.MULTILINE
    )[0]
    further = {
        schema.ModelTable: {"like"},
        schema.PairTable: {"sparse", "dense"},
        schema.PlatformTable: {"like", "pair"},
    }

    assert {*table.__struct_fields__, *further.get(table, ())} == set(
        re.findall(r"^\| `(\w+)`", section, re.MULTILINE)
    )


def test_every_role_of_a_slow_engine_is_named():
    """The page says which roles such an engine replaces."""
    page = (ROOT / "docs" / "study.md").read_text()
    section = page.partition("slow_engines]`\n")[2].partition("```")[0]

    assert set(schema.SlowRoles.__struct_fields__) == set(
        re.findall(r"`(\w+)`", section)
    ) - {"roles", "slow_on_cpu"}


def test_fault_of_a_study_is_told_as_shown(tmp_path):
    """The page's fault gives the page's message; "..." stands for the rest of a line."""
    page = (ROOT / "docs" / "study.md").read_text()
    section = page.partition("\n## When something is wrong")[2]
    wrong = re.search(r'`(closed = "[\w-]+")`', section)[1]
    _, *shown = re.search(r"```text\n(.*?)```", section, re.DOTALL)[
        1
    ].splitlines()
    shutil.copytree(ROOT / "fixtures", tmp_path / "fixtures")
    study = tmp_path / "fixtures" / "study.toml"
    text = study.read_text()
    assert 'closed = "closed-c16"' in text
    study.write_text(text.replace('closed = "closed-c16"', wrong, 1))

    with pytest.raises(Failure) as raised:
        read_study(study)

    told = str(raised.value).splitlines()[1:]
    assert len(shown) == len(told)
    for line, printed in zip(shown, told, strict=True):
        assert printed.startswith(line.removesuffix("..."))
        assert line.endswith("...") or line == printed


def test_first_steps_in_a_repository_can_be_taken(tmp_path):
    """After the first step nothing is missing for `perfgate doctor`, then a test is found."""
    page = (ROOT / "docs" / "your-own-repository.md").read_text()
    first = page.partition("\n## Step 1")[2].partition("\n## Step 2")[0]
    second = page.partition("\n## Step 2")[2].partition("\n## Step 3")[0]
    for line in re.search(r"```bash\n(.*?)```", first, re.DOTALL)[
        1
    ].splitlines():
        if not line.startswith("pip "):
            subprocess.run(shlex.split(line), cwd=tmp_path, check=True)
    project = re.search(r"```toml\n(.*?)```", first, re.DOTALL)[1]
    (tmp_path / "perfgate.toml").write_text(
        project.replace("/opt/vllm/bin/python", sys.executable)
    )
    looked = run_in(tmp_path, "perfgate doctor --tp 1")
    question = re.search(r"```python\n# (.*?)\n(.*?)```", second, re.DOTALL)
    (tmp_path / question[1]).write_text(question[2])
    found = run_in(
        tmp_path, "pytest -p perfgate.plugin -m gpu --tp 1 --collect-only -q"
    )

    assert looked.returncode in {0, 1}, looked.stderr
    assert "pytest -m gpu" in looked.stdout
    assert f"{question[1]}::" in found.stdout, found.stdout


def section_of(page, heading):
    """The text of a page below a heading, up to the next one of its level."""
    text = (ROOT / "docs" / page).read_text()
    level = heading.split(" ")[0]
    return text.partition(f"\n{heading}\n")[2].partition(f"\n{level} ")[0]


def test_every_field_of_an_engine_has_its_row():
    """The page has a row for each field, and for no other."""
    rows = re.findall(
        r"^\| (`.*?) \|", section_of("how-to.md", "## An engine"), re.MULTILINE
    )
    named = re.findall(r"`(\w+)[(`]", "".join(rows))

    assert {field.name for field in dataclasses.fields(Engine)} == set(named)


def test_every_table_of_metrics_is_named():
    """Where a new metric is a row."""
    tables = {
        name
        for name, value in vars(metrics).items()
        if re.fullmatch(r"[A-Z]+_METRICS|THROUGHPUTS|LATENCIES", name) and value
    }

    assert tables == set(
        re.findall(r"`([A-Z_]{6,})`", section_of("how-to.md", "## A metric"))
    )


def test_columns_of_the_history_are_named(tmp_path):
    """The reference has each table with its columns."""
    page = " ".join((ROOT / "docs" / "reference.md").read_text().split())
    file = tmp_path / "history.sqlite3"
    assert set() == History(file).runs()
    with contextlib.closing(sqlite3.connect(file)) as database:
        for table in ("runs", "entries"):
            rows = database.execute(f"PRAGMA table_info({table})").fetchall()
            columns = ", ".join(row[1] for row in rows)
            assert f"`{table}` ({columns})" in page


def test_every_family_of_metrics_is_named():
    """The page of a metric of one's own has each that it may have."""
    page = section_of("your-own-repository.md", "### A metric")

    assert set() == set(metrics.FAMILIES) - set(re.findall(r"`(\w+)`", page))


def test_question_of_the_how_to_is_asked(tmp_path):
    """The workload and question of docs/how-to.md give the tests that the page shows."""
    below = (
        (ROOT / "docs" / "how-to.md")
        .read_text()
        .partition("\n## A workload and a question")[2]
    )
    page = below.partition("\n## ")[0]
    workload, question, shown = (
        re.search(rf"```{kind}\n(.*?)```", page, re.DOTALL)[1]
        for kind in ("toml", "python", "text")
    )
    shutil.copytree(ROOT / "fixtures", tmp_path / "fixtures")
    shutil.copy(ROOT / "pytest.ini", tmp_path)
    with (tmp_path / "fixtures" / "study.toml").open("a") as file:
        file.write(f"\n{workload}")
    (tmp_path / "tests" / "perf").mkdir(parents=True)
    (tmp_path / "tests" / "perf" / "test_chat.py").write_text(question)
    (tmp_path / "perfgate.toml").write_text(
        'study = "fixtures/study.toml"\ntests = ["tests/perf"]\n'
    )
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    done = subprocess.run(
        [
            *PROGRAMS["pytest"],
            "-p",
            "perfgate.plugin",
            "-m",
            "cpu",
            "--collect-only",
            "-q",
            "-k",
            "test_chat",
        ],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert sorted(shown.splitlines()) == sorted(
        re.findall(r"^tests/.*", done.stdout, re.MULTILINE)
    ), done.stdout


def test_commands_exist():
    """There are commands to run, of both programs."""
    assert {"perfgate", "pytest"} == {
        command.split()[0] for command in COMMANDS
    }


def test_every_command_of_perfgate_that_is_named_exists():
    """A page names no command that there is not."""
    from perfgate.cli.main import main

    named = {
        command.split()[1]
        for command in [*COMMANDS, *LONG]
        if command.startswith("perfgate")
    }

    assert {"accept", "judge", "history", "report"} <= named
    assert set() == named - main.entries.keys() - {"--help"}
