"""Benchmarks: how fast, how exact and how often wrong the parts of this suite are."""

from perfgate.models.catalogue import register
from perfgate.study import read_study
from perfgate.study.shipped import shipped

register(read_study(shipped().study).models.values())
