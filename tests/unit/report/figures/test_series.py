"""Series behind the figures: the measured values."""

import msgspec

from perfgate.cases import Case, Load
from perfgate.report.figures.ratios import model_over_reference
from perfgate.report.figures.series import compared_models, timeline
from perfgate.results.samples import RunIndex
from tests.support.judged_runs import EIGHT, judged


def test_timeline_shows_the_stall():
    """The slice in which all streams stalled holds the longest gap."""
    line = timeline(judged("PASSED").measurements[0].repetitions[0])

    assert line is not None
    assert 500.0 == max(gap for gap in line.longest_ms if gap > 0)
    assert 8 == line.streams.max()


def compared(numerator, denominator):
    """A run with one case: the latency of one server over another's."""
    results = judged("PASSED")
    loads = []
    for key in (numerator, denominator):
        server = results.servers[key].config
        loads.append(Load(server=server, workload=EIGHT))
    case = Case(
        experiment="E2",
        metric="itl_median_ms",
        numerator=loads[0],
        denominator=loads[1],
    )
    return RunIndex(msgspec.structs.replace(results, cases=(case,)))


def test_models_are_compared_as_the_cases_do():
    """Without such a case each sparse model is compared with each dense one."""
    sparse, dense = "vllm-mixtral-8x7b-tp2", "vllm-llama-3.1-8b-tp2"

    assert [(sparse, dense)] == compared_models(RunIndex(judged("PASSED")))
    assert [(sparse, dense)] == compared_models(compared(sparse, dense))
    assert [(dense, sparse)] == compared_models(compared(dense, sparse))


def test_the_figure_says_what_is_compared():
    """Sparse and dense where that is so, else a model and its reference."""
    sparse, dense = "vllm-mixtral-8x7b-tp2", "vllm-llama-3.1-8b-tp2"
    titles = []
    for above, below in ((sparse, dense), (dense, sparse)):
        picture = model_over_reference(compared(above, below), "")
        titles.append(picture.title.partition(",")[0])

    assert ["Sparse / dense", "Model / reference"] == titles
