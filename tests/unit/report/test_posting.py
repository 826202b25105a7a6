"""Posting: one comment for a request, replaced by each later run."""

import json

import pytest

from perfgate.report import posting
from perfgate.report.comment import MARKER
from perfgate.report.posting import CannotPost
from perfgate.web import NoAnswer
from tests.support.comment_api import comment_api


@pytest.fixture
def api():
    """A code host without comments."""
    with comment_api() as served:
        yield served


def github(api):
    """What GitHub sets in a job."""
    return {
        "GITHUB_API_URL": api.url,
        "GITHUB_REPOSITORY": "vllm-project/vllm",
        "GITHUB_TOKEN": "secret",
    }


def gitlab(api):
    """What GitLab sets in a job, and a token."""
    return {
        "CI_API_V4_URL": api.url,
        "CI_PROJECT_ID": "group/engine",
        "CI_MERGE_REQUEST_IID": "7",
        "GITLAB_TOKEN": "secret",
    }


def test_the_first_run_writes_and_the_next_replaces(api):
    """Comments of people stay as they are."""
    api.comments = {1: "Nice change.", 2: "perfgate is red?"}
    thread = posting.thread_of("github", 12, github(api))

    assert not posting.post(thread, f"{MARKER}\nfirst")
    assert posting.post(thread, f"{MARKER}\nsecond")
    assert {
        1: "Nice change.",
        2: "perfgate is red?",
        3: f"{MARKER}\nsecond",
    } == api.comments
    assert [
        ("POST", "/repos/vllm-project/vllm/issues/12/comments"),
        ("PATCH", "/repos/vllm-project/vllm/issues/comments/3"),
    ] == api.requests
    assert {"Bearer secret"} == api.authorizations


def test_a_merge_request_takes_its_number_from_the_job(api):
    """A project's path is one part of the address."""
    thread = posting.thread_of("gitlab", None, gitlab(api))
    posting.post(thread, f"{MARKER}\nfirst")
    posting.post(thread, f"{MARKER}\nsecond")

    notes = "/projects/group%2Fengine/merge_requests/7/notes"
    assert [("POST", notes), ("PUT", f"{notes}/1")] == api.requests


def test_an_old_comment_is_found_behind_many_others(api):
    """Services answer in pages."""
    api.comments = dict.fromkeys(range(1, 251), "chat")
    api.comments[231] = f"{MARKER}\nfirst"

    assert posting.post(
        posting.thread_of("github", 12, github(api)), f"{MARKER}\nsecond"
    )
    assert f"{MARKER}\nsecond" == api.comments[231]


def test_a_pull_request_is_found_by_the_event(api, tmp_path):
    """GitHub writes a file for each job."""
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"pull_request": {"number": 34}}))
    environment = github(api) | {"GITHUB_EVENT_PATH": str(event)}

    thread = posting.thread_of("github", None, environment)

    assert thread.comments.endswith("/issues/34/comments")


@pytest.mark.parametrize("service", posting.SERVICES)
def test_outside_of_a_job_it_says_what_is_missing(service):
    """Each variable is named."""
    with pytest.raises(CannotPost) as failure:
        posting.thread_of(service, 1, {})

    assert all(name in str(failure.value) for name in posting.NEEDED[service])


@pytest.mark.parametrize("event", ["{}", "no JSON", None])
def test_a_job_without_a_request_says_how_to_name_one(api, tmp_path, event):
    """A push has no pull request; the file may be damaged, or not there."""
    path = tmp_path / "event.json"
    if event is not None:
        path.write_text(event)

    with pytest.raises(CannotPost, match="--number N"):
        posting.thread_of(
            "github", None, github(api) | {"GITHUB_EVENT_PATH": str(path)}
        )


def test_a_refusal_is_an_error(api):
    """A token that may not comment writes nothing."""
    api.status = 403

    with pytest.raises(NoAnswer, match="HTTP 403"):
        posting.post(
            posting.thread_of("github", 12, github(api)), f"{MARKER}\nfirst"
        )
    assert {} == api.comments


@pytest.mark.parametrize(
    "answer",
    [None, {"message": "moved"}, ["x"], [{"body": MARKER}], [{"id": "x"}]],
)
def test_what_is_no_list_of_comments_is_refused(api, monkeypatch, answer):
    """A proxy may answer anything, and nothing is written then."""
    monkeypatch.setattr(posting.web, "get_json", lambda *_, **__: answer)
    thread = posting.thread_of("github", 12, github(api))

    with pytest.raises(CannotPost, match="no list of comments"):
        posting.post(thread, MARKER)

    assert [] == api.requests


@pytest.mark.parametrize(
    "event",
    ["null", "[]", "x", '{"issue": 3}', '{"pull_request": {"number": null}}'],
)
def test_an_event_without_a_request_names_none(api, tmp_path, event):
    """Whatever the file holds."""
    file = tmp_path / "event.json"
    file.write_text(event)
    environment = github(api) | {"GITHUB_EVENT_PATH": str(file)}

    with pytest.raises(CannotPost, match="this job belongs to none"):
        posting.thread_of("github", None, environment)
