"""Posting: the comment of a pull or merge request, written once and then replaced.

GitHub and GitLab each have one address for a request's comments and one for a comment.
The comment with the marker is replaced; where there is none, one is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from perfgate import web
from perfgate.errors import NOT_JSON, Failure
from perfgate.report.comment import MARKER

TIMEOUT_S: Final = 30.0
# Comments of one page, and pages that are searched for the marker.
PAGE: Final = 100
MOST_PAGES: Final = 20
SERVICES: Final = ("github", "gitlab")
NEEDED: Final = {
    "github": ("GITHUB_REPOSITORY", "GITHUB_TOKEN"),
    "gitlab": ("CI_API_V4_URL", "CI_PROJECT_ID", "GITLAB_TOKEN"),
}


class CannotPost(Failure):
    """The comment could not be written."""


class _Request(msgspec.Struct, frozen=True):
    """A pull request or an issue, as far as it is read."""

    number: int


class _Event(msgspec.Struct, frozen=True):
    """What started a job on GitHub; one of them, or neither."""

    pull_request: _Request | None = None
    issue: _Request | None = None


class _Comment(msgspec.Struct, frozen=True):
    """A comment, as far as it is read."""

    id: int
    body: str | None = None


@dataclass(frozen=True)
class Thread:
    """The comments of one request.

    Attributes:
        comments: address of all of them: GET lists, POST adds.
        comment: address of one, followed by its number: `method` replaces its text.
    """

    comments: str
    comment: str
    method: str
    authorization: str


def thread_of(
    service: str, number: int | None, environment: Mapping[str, str]
) -> Thread:
    """The request's comments, by the variables that the service sets in a job.

    Args:
        service: one of `SERVICES`.
        number: of the request; None takes that of the job.

    Raises:
        CannotPost: a variable is missing.
    """
    missing = [name for name in NEEDED[service] if not environment.get(name)]
    if missing:
        raise CannotPost(
            tried=f"finding the pull request on {service}",
            seen=f"not set: {', '.join(missing)}",
            remedy="run it in a job of the service, and pass a token that may comment",
        )
    if number is None:
        number = _number_of_job(service, environment)
    if service == "github":
        return _github(number, environment)
    return _gitlab(number, environment)


def _github(number: int, environment: Mapping[str, str]) -> Thread:
    api = environment.get("GITHUB_API_URL", "https://api.github.com")
    issues = f"{api}/repos/{environment['GITHUB_REPOSITORY']}/issues"
    return Thread(
        comments=f"{issues}/{number}/comments",
        comment=f"{issues}/comments",
        method="PATCH",
        authorization=f"Bearer {environment['GITHUB_TOKEN']}",
    )


def _gitlab(number: int, environment: Mapping[str, str]) -> Thread:
    project = quote(environment["CI_PROJECT_ID"], safe="")
    api = environment["CI_API_V4_URL"]
    notes = f"{api}/projects/{project}/merge_requests/{number}/notes"
    return Thread(
        comments=notes,
        comment=notes,
        method="PUT",
        authorization=f"Bearer {environment['GITLAB_TOKEN']}",
    )


def _number_of_job(service: str, environment: Mapping[str, str]) -> int:
    """The request that the job belongs to."""
    if service == "gitlab":
        text = environment.get("CI_MERGE_REQUEST_IID", "")
    else:
        text = _number_of_event(environment.get("GITHUB_EVENT_PATH", ""))
    if not text.isdecimal():
        raise CannotPost(
            tried=f"finding the pull request on {service}",
            seen="this job belongs to none",
            remedy="name it: add --number N",
        )
    return int(text)


def _number_of_event(file_name: str) -> str:
    """The number in the file that GitHub writes for a job; "" where it has none."""
    try:
        content = Path(file_name).read_bytes()
        event = msgspec.json.decode(content, type=_Event)
    except (OSError, *NOT_JSON):
        return ""
    request = event.pull_request or event.issue
    return "" if request is None else str(request.number)


def post(thread: Thread, text: str) -> bool:
    """Replace the marked comment, or add one; returns whether one was replaced.

    Raises:
        NoAnswer: the service refused, or did not answer.
        CannotPost: its answer is no list of comments.
    """
    number = _marked(thread)
    method, address = "POST", thread.comments
    if number is not None:
        method, address = thread.method, f"{thread.comment}/{number}"
    web.send_json(
        method,
        address,
        {"body": text},
        timeout_s=TIMEOUT_S,
        authorization=thread.authorization,
    )
    return number is not None


def _marked(thread: Thread) -> int | None:
    """The number of the comment with the marker; None where there is none."""
    for page in range(1, MOST_PAGES + 1):
        comments = _page(thread, page)
        for comment in comments:
            if (comment.body or "").startswith(MARKER):
                return comment.id
        if len(comments) < PAGE:
            break
    return None


def _page(thread: Thread, page: int) -> list[_Comment]:
    """The comments of one page.

    Raises:
        CannotPost: something else answers.
    """
    answer = web.get_json(
        f"{thread.comments}?per_page={PAGE}&page={page}",
        timeout_s=TIMEOUT_S,
        authorization=thread.authorization,
    )
    try:
        return msgspec.convert(answer, list[_Comment])
    except msgspec.ValidationError as error:
        raise CannotPost(
            tried=f"reading the comments at {thread.comments}",
            seen=f"the answer is no list of comments: {error}",
            remedy="correct the service's address: GITHUB_API_URL or CI_API_V4_URL",
        ) from error
