"""Which metrics can fail a run: by the file and by the platform."""

import pytest

from perfgate.cases import Case, Load
from perfgate.study import BadStudy, study_of
from perfgate.study.judged import check_metrics, judged_metrics
from tests.perf.test_workloads import each_model, model_over_reference
from tests.support.studies import PLATFORMS
from tests.support.studies import study_of as shipped_study
from tests.support.study_files import read_small

METRICS = ("itl_median_ms", "itl_mean_ms", "ttft_median_ms", "ready_s")


@pytest.mark.parametrize(
    ("file_keys", "platform_keys", "expected"),
    [
        ("", "", METRICS),
        ('report_only = ["itl", "ready_s"]', "", ("ttft_median_ms",)),
        (
            'report_only = ["itl"]',
            'report_only = ["ready_s"]\n',
            ("ttft_median_ms",),
        ),
        ('only = ["itl_median_ms"]', "", ("itl_median_ms",)),
        (
            'only = ["itl"]\nreport_only = ["itl_mean_ms"]',
            "",
            ("itl_median_ms",),
        ),
        ("only = []", "", ()),
    ],
)
def test_metrics_and_families_are_named(
    tmp_path, file_keys, platform_keys, expected
):
    """A platform reports what the file does, and more; the rest stays as the question says."""
    change = ('workloads = "short"\n', f'workloads = "short"\n{platform_keys}')
    file = read_small(tmp_path, change, more=f"[judged]\n{file_keys}\n")
    server = study_of(file, "cpu", "vllm").model
    judged = judged_metrics(file, "cpu")
    hard = []
    for metric in METRICS:
        case = Case(
            experiment="E1", metric=metric, numerator=Load(server=server)
        )
        if judged.apply(case).gate == "hard":
            hard.append(metric)

    check_metrics(file)
    assert expected == tuple(hard)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ('report_only = ["itl_medain_ms"]', "[judged]: report_only"),
        ('only = ["itl_medain_ms"]', "[judged]: only"),
    ],
)
def test_an_unknown_name_is_refused(tmp_path, keys, expected):
    """With the nearest metric or family."""
    file = read_small(tmp_path, more=f"[judged]\n{keys}\n")

    with pytest.raises(BadStudy) as caught:
        check_metrics(file)

    assert expected in str(caught.value)
    assert "did you mean itl_median_ms?" in str(caught.value)


def test_an_unknown_name_of_a_platform_is_refused(tmp_path):
    """The message names the platform's table."""
    change = (
        'workloads = "short"\n',
        'workloads = "short"\nreport_only = ["x"]\n',
    )

    with pytest.raises(BadStudy, match=r"\[platforms.cpu\]: report_only"):
        check_metrics(read_small(tmp_path, change))


def test_a_workload_names_what_is_judged(tmp_path):
    """Of each model, and as the ratio of the pair; a misspelt metric is refused."""
    change = ("num_prompts = 4", 'num_prompts = 4\njudged = ["ttft_p95_ms"]')
    study = study_of(read_small(tmp_path, change), "cpu", "vllm")
    cases = [*each_model(study), *model_over_reference(study)]

    assert [
        "vllm-sparse-tp2/closed/ttft_p95_ms",
        "vllm-dense-tp2/closed/ttft_p95_ms",
        "vllm-sparse-tp2--over--vllm-dense-tp2/closed/ttft_p95_ms",
    ] == [case.id for case in cases]
    misspelt = (change[0], change[1].replace("p95", "p59"))
    with pytest.raises(BadStudy, match=r"\[workloads.short.closed\]: judged"):
        check_metrics(read_small(tmp_path, misspelt))


def test_the_shipped_study_asks_no_further_workload():
    """All of its workloads have roles."""
    for platform in PLATFORMS:
        assert [] == list(each_model(shipped_study(platform, "vllm")))
