"""Recipes in docs/ci: their commands are run, and leave what a reviewer looks at."""

from __future__ import annotations

import json

import pytest

from perfgate.report.comment import MARKER
from perfgate.results.schema import load
from tests.support import recipes
from tests.support.comment_api import comment_api
from tests.support.recipes import Checkout

FILES = ("results.json", "report.html", "summary.md", "junit.xml")
JOB = "https://ci.example/job/1"


@pytest.fixture
def checkout(tmp_path):
    """A checkout of a small project, as a job finds it."""
    return Checkout(tmp_path)


def missing(folder):
    """What a run should have left, and has not."""
    return [name for name in FILES if not (folder / name).is_file()]


def test_a_pull_request_on_github(checkout):
    """Merge base and head are launched in turn; the request has one comment with the link."""
    checkout.copy("compare-builds.sh", ".github/perfgate/compare-builds.sh")
    event = checkout.notes / "event.json"
    event.write_text(json.dumps({"pull_request": {"number": 7}}))
    expressions = {
        "github.event.pull_request.base.sha": checkout.base,
        "github.event.pull_request.head.sha": checkout.head,
        "secrets.GITHUB_TOKEN": "secret",
        "github.server_url": "https://ci.example",
        "github.repository": "a/engine",
        "github.run_id": "1",
    }
    steps = list(
        recipes.of_github("engine-pull-request.yml", "compare", expressions)
    )
    summary = checkout.notes / "summary"
    with comment_api() as api:
        done = checkout.run(
            steps,
            GITHUB_ACTIONS="true",
            GITHUB_STEP_SUMMARY=str(summary),
            GITHUB_API_URL=api.url,
            GITHUB_REPOSITORY="a/engine",
            GITHUB_EVENT_PATH=str(event),
        )

    assert 0 == done.returncode, done.stdout + done.stderr
    assert [] == missing(checkout.folder / "perfgate-run")
    results = load(checkout.folder / "perfgate-run")
    assert results.is_paired
    assert results.verdicts
    (comment,) = api.comments.values()
    assert comment.startswith(MARKER)
    assert "https://ci.example/a/engine/actions/runs/1" in comment
    assert len(comment.splitlines()) <= 40
    assert summary.read_text().startswith("## ")


def test_a_merge_request_on_gitlab(checkout):
    """The same, by the variables of its jobs."""
    checkout.copy("compare-builds.sh", "compare-builds.sh")
    steps = list(
        recipes.of_gitlab("engine-merge-request.yml", "perfgate-compare")
    )
    with comment_api() as api:
        done = checkout.run(
            steps,
            CI_MERGE_REQUEST_DIFF_BASE_SHA=checkout.base,
            CI_COMMIT_SHA=checkout.head,
            CI_JOB_URL=JOB,
            CI_API_V4_URL=api.url,
            CI_PROJECT_ID="3",
            CI_MERGE_REQUEST_IID="7",
            GITLAB_TOKEN="secret",
        )

    assert 0 == done.returncode, done.stdout + done.stderr
    assert [] == missing(checkout.folder / "perfgate-run")
    (comment,) = api.comments.values()
    assert JOB in comment


def test_a_merged_result_on_gitlab_compares_the_source_branch(checkout):
    """What the target branch gained meanwhile is not of the request."""
    checkout.copy("compare-builds.sh", "compare-builds.sh")
    (step, _) = recipes.of_gitlab(
        "engine-merge-request.yml", "perfgate-compare"
    )
    script = step.script.replace("./compare-builds.sh", "echo > compared")
    checkout.run(
        [recipes.Step(script)],
        CI_MERGE_REQUEST_DIFF_BASE_SHA=checkout.base,
        CI_MERGE_REQUEST_SOURCE_BRANCH_SHA=checkout.head,
        CI_COMMIT_SHA="merged",
    )

    words = (checkout.folder / "compared").read_text().split()
    assert ["vllm", checkout.base, checkout.head] == words[:3]


def test_no_comment_is_posted_for_a_fork():
    """Its token may not, and a refusal would fail the job."""
    steps = recipes.document("engine-pull-request.yml")["jobs"]["compare"]
    (comment,) = [
        step
        for step in steps["steps"]
        if "perfgate comment" in step.get("run", "")
    ]

    assert "pull_request.head.repo.full_name ==" in comment["if"]


def step_of_buildkite(checkout, **variables):
    """Run the step as for a pull request into the branch "target"."""
    checkout.copy("compare-builds.sh", ".buildkite/compare-builds.sh")
    checkout.git("remote", "add", "origin", str(checkout.folder))
    checkout.git("branch", "target", checkout.base)
    return checkout.run(
        [recipes.of_buildkite("buildkite.yml")],
        BUILDKITE_PULL_REQUEST_BASE_BRANCH="target",
        **variables,
    )


def test_a_step_of_buildkite(checkout):
    """The annotation is the comment; the step ends as the run did."""
    done = step_of_buildkite(checkout)

    assert 0 == done.returncode, done.stdout + done.stderr
    assert [] == missing(checkout.folder / "perfgate-run")
    assert "annotate --context perfgate" in checkout.note("buildkite-agent")
    assert checkout.note("buildkite-agent-input").startswith(MARKER)


def test_a_build_that_fails_annotates_nothing(checkout):
    """The step's exit status is that of the build."""
    done = step_of_buildkite(checkout, PERFGATE_INSTALL="exit 7")

    assert 7 == done.returncode, done.stdout + done.stderr
    assert not checkout.note("buildkite-agent")


@pytest.mark.parametrize(
    ("gate", "record", "status"),
    [("required", "", 1), ("advisory", "--baseline-record", 0)],
)
def test_main_on_github(checkout, gate, record, status):
    """Required, a main without baselines fails; a recording leaves a proposal."""
    expressions = {
        "matrix.hardware": "h200",
        "(github.event_name == 'pull_request' || inputs.record) && "
        "'advisory' || 'required'": gate,
        "inputs.record && '--baseline-record' || ''": record,
    }
    steps = list(recipes.of_github("github-actions.yml", "gate", expressions))
    steps = [step for step in steps if "doctor" not in step.script]
    done = checkout.run(steps)

    run = checkout.folder / "run-h200"
    assert status == done.returncode, done.stdout + done.stderr
    assert "-r requirements.txt" in checkout.note("pip")
    assert [] == missing(run)
    assert gate == load(run).gate
    proposal = run / "proposed-baselines" / "diff.md"
    assert bool(record) == proposal.is_file()


@pytest.mark.parametrize(
    ("job", "status"), [("perfgate-main", 1), ("perfgate-record", 0)]
)
def test_main_on_gitlab(checkout, job, status):
    """Likewise."""
    done = checkout.run(
        list(recipes.of_gitlab("gitlab-ci.yml", ".perfgate", job)),
        RECORD="" if status else "--baseline-record",
    )

    assert status == done.returncode, done.stdout + done.stderr
    assert [] == missing(checkout.folder / "run")
    proposal = checkout.folder / "run" / "proposed-baselines" / "diff.md"
    assert (status == 0) == proposal.is_file()


def test_a_slurm_job(checkout):
    """It runs where it was submitted, and its run bears the job's number."""
    checkout.copy("slurm.sh", "docs/ci/slurm.sh")
    step = recipes.Step("bash docs/ci/slurm.sh")
    done = checkout.run(
        [step],
        SLURM_JOB_ID="12",
        SLURM_SUBMIT_DIR=str(checkout.folder),
        PERFGATE_GATE="advisory",
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    assert [] == missing(checkout.folder / "runs" / "slurm-12")


def test_a_kubernetes_job(checkout):
    """Its run is on the volume, under the name of the pod."""
    checkout.run([recipes.Step("python3 -m venv .venv")])
    runs = checkout.shared / "runs"
    done = checkout.run(
        [recipes.of_kubernetes("kubernetes.yaml", runs, pod="perfgate-x1")]
    )

    assert 1 == done.returncode, done.stdout + done.stderr
    assert [] == missing(runs / "perfgate-x1")
    assert "required" == load(runs / "perfgate-x1").gate
