"""Study: models, pairs, servers, workloads and platforms as data, and the questions' view of them.

`shipped` finds the study that comes with the package, `reader` reads a study file,
`study` has what a question sees. In a wheel the shipped study, its perf tests and its
baselines lie in this folder; in a checkout they are ``fixtures/study.toml``,
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
