"""Study: models, pairs, servers, workloads and platforms as data, as the questions use them.

`shipped` finds the study that comes with the package, `reader` reads a study file, and
`study` is the argument of a question. In a wheel the shipped study, its perf tests and
its baselines are in this folder; in a checkout they are ``fixtures/study.toml``,
``tests/perf`` and ``baselines``.
"""

from perfgate.study.reader import BadStudy, StudyFile, read_study
from perfgate.study.study import Study, Versus, servers_of, study_of

__all__ = [
    "BadStudy",
    "Study",
    "StudyFile",
    "Versus",
    "read_study",
    "servers_of",
    "study_of",
]
