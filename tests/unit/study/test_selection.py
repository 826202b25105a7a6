"""Pairs and single models of a session: by platform, by --pair and by --model."""

import pytest

from perfgate.study import BadStudy, study_of
from perfgate.study.selection import Subject, select, subjects_of
from perfgate.study.study import SingleModel
from tests.support.studies import SHIPPED
from tests.support.study_files import read_small

THREE = """
[models.other]
like = "dense"
[models.unserved]
like = "dense"
served = false
[pairs.twins]
model = "other"
reference = "dense"
"""


def test_a_platform_names_pairs_and_single_models(tmp_path):
    """`pair` is one of them; `pairs` and `models` are several."""
    single = read_small(tmp_path)
    several = read_small(
        tmp_path,
        ('pair = "both"', 'pairs = ["twins", "both"]\nmodels = ["other"]'),
        more=THREE,
    )

    both = Subject("both", ("sparse", "dense"))
    assert (both,) == subjects_of(single, "cpu")
    assert (
        Subject("twins", ("other", "dense")),
        both,
        Subject("other", ("other",)),
    ) == subjects_of(several, "cpu")


def test_options_name_declared_pairs_any_two_models_and_single_ones(tmp_path):
    """Two models that the file pairs have the pair's name; nothing is selected twice."""
    file = read_small(tmp_path, more=THREE)

    selected = select(
        file, ["both", "sparse:dense", "dense:sparse"], ["other", "other"]
    )

    assert (
        Subject("both", ("sparse", "dense")),
        Subject("dense:sparse", ("dense", "sparse")),
        Subject("other", ("other",)),
    ) == selected


@pytest.mark.parametrize(
    ("pairs", "models", "expected"),
    [
        (["bot"], [], ["--pair bot", "did you mean both?", "MODEL:REFERENCE"]),
        (["sparse:dens"], [], ["--pair sparse:dens", "did you mean dense?"]),
        (["dense:dense"], [], ["with itself", "--model dense"]),
        ([], ["sparze"], ["--model sparze", "did you mean sparse?"]),
        ([], ["unserved"], ["--model unserved", "served = false"]),
    ],
)
def test_mistakes_are_named(tmp_path, pairs, models, expected):
    """An unknown name is refused with the nearest one, before anything is collected."""
    file = read_small(tmp_path, more=THREE)

    with pytest.raises(BadStudy) as caught:
        select(file, pairs, models)

    for text in expected:
        assert text in str(caught.value)


def test_a_single_model_has_no_reference():
    """Its servers are asked alone; a comparison is refused, and says what to ask first."""
    (subject,) = select(SHIPPED, [], ["mixtral-8x7b"])
    study = study_of(SHIPPED, "h200", "vllm", subject=subject)

    assert ("vllm-mixtral-8x7b-tp2",) == tuple(s.key for s in study.models)
    assert (study.models, None) == (study.sparse, study.dense_tp1)
    assert not study.is_pair
    with pytest.raises(SingleModel, match="is_pair"):
        study.reference.key  # noqa: B018
