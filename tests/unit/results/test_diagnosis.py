"""Diagnosis: kept in results.json as it was made."""

import msgspec

from perfgate.results.diagnosis import Diagnosis, PhaseShare, Split, Worth
from perfgate.results.schema import load, save
from tests.support.builders import bare_run

SPLIT = Split(
    server="s",
    load="closed-c32",
    before_ms=100.0,
    now_ms=112.0,
    shares=(
        PhaseShare(name="queue", ms=14.0),
        PhaseShare(name="decode", ms=-2.0),
    ),
)


def test_shares_add_up():
    """To what the request takes longer."""
    assert SPLIT.added_ms == sum(share.ms for share in SPLIT.shares)


def test_diagnosis_is_stored_with_the_run(tmp_path):
    """Every field comes back."""
    row = Diagnosis(
        servers=("s",),
        who="sparse",
        phase="decode",
        cause="expert-path",
        evidence=("one", "two"),
        splits=(SPLIT,),
        worth=Worth(load="closed-c32", before=2.0, now=1.0, unit="GPU-hour"),
    )
    run = msgspec.structs.replace(bare_run(), diagnoses=(row,))
    save(run, tmp_path)

    assert (row,) == load(tmp_path).diagnoses
