"""Study: models, pairs, servers, workloads and platforms as data, as the questions use them.

`shipped` finds the study that comes with the package, `reader` reads a study file,
`building` makes a study of it, and `study` is that argument of a question. In a wheel
the shipped study, its perf tests and its baselines are in this folder; in a checkout
they are ``fixtures/study.toml``, ``tests/perf`` and ``baselines``.
"""

from perfgate.study.building import ServerChoices, study_of
from perfgate.study.reader import StudyFile, read_study
from perfgate.study.selection import Subject, subjects_of
from perfgate.study.study import (
    Study,
    Versus,
    check_unique,
    servers_of,
    throughput_of,
)
from perfgate.study.toml_file import BadStudy

__all__ = [
    "BadStudy",
    "ServerChoices",
    "Study",
    "StudyFile",
    "Subject",
    "Versus",
    "check_unique",
    "read_study",
    "servers_of",
    "study_of",
    "subjects_of",
    "throughput_of",
]
