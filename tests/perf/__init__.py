"""Perf tests of the study, one question a file; a wheel has them as perfgate.study.tests."""
