"""Initial results: what a run says before anything is launched."""

from perfgate.config.config import Config
from perfgate.judge.baseline_store import Store
from perfgate.progress import Progress
from perfgate.run.initial_results import builds_in_pairs, initial_results
from perfgate.study import servers_of
from tests.support import builders as m


def results_of(tmp_path, cases, previous=None, **chosen):
    """The results of a session of these cases at its start, and the lines that it shows."""
    lines = []
    config = Config(
        run_dir=tmp_path, store=Store(tmp_path / "baselines"), **chosen
    )
    tell = Progress(lines.append, rewritable=False)
    results = initial_results(config, m.hardware(), cases, previous, tell)
    return results, "".join(lines)


def test_a_new_run_has_its_cases_and_no_launch(tmp_path):
    """With the workload of each load, by name."""
    results, text = results_of(tmp_path, [m.THROUGHPUT, m.RATIO])

    assert ("sequential", ()) == (results.mode, results.launches)
    assert (m.THROUGHPUT, m.RATIO) == results.cases
    assert {m.CLOSED.name: m.CLOSED} == results.workloads
    assert 1 == len(results.sessions)
    assert "" == text


def test_a_base_build_decides_how_a_run_is_judged(tmp_path):
    """By pairs, or by baselines and pairs of what is suspect."""
    builds = {"vllm": "/base/python"}
    paired, _ = results_of(tmp_path, [m.ITL], base_builds=builds)
    screened, _ = results_of(
        tmp_path, [m.ITL], base_builds=builds, pairs="suspect"
    )

    assert ("paired", "screened") == (paired.mode, screened.mode)
    assert builds == paired.base_builds


def test_both_builds_of_a_pair_have_the_load_of_the_server():
    """Under the key of each build."""
    needs = servers_of([m.ITL])
    _, workloads = needs[m.MOE.key]

    assert {
        m.MOE.base.key: (m.MOE.base, workloads),
        m.MOE.candidate.key: (m.MOE.candidate, workloads),
    } == builds_in_pairs(needs, [m.ITL])
