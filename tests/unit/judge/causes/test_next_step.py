"""Next step: a command that can be copied, for what a diagnosis says."""

import dataclasses

import msgspec

from perfgate.judge.causes.finding import Finding
from perfgate.judge.causes.next_step import again, back_of, command
from perfgate.judge.causes.symptoms import Choice, ServerSymptoms
from tests.support import builders as m

SERVER = ServerSymptoms(
    key="vllm-a-tp1",
    engine="vllm",
    model="a",
    is_sparse=True,
    layers=32,
    ranks=1,
    gpus=1,
    injected="",
    moved=(),
    changed=(Choice("moe_backend", "TRITON", "FLASHINFER_CUTLASS"),),
    decoding=(),
)
CHOSEN = Finding("expert-path", "decode", (), by_choice=True)
TIMED = Finding("expert-path", "decode", ())
RUN = msgspec.structs.replace(
    m.bare_run(), command=("pytest", "-m", "h200", "--run-dir=/r", "-k", "a b")
)


def test_choice_is_put_back():
    """By the engine's own argument, in the same command."""
    assert (
        "pytest -m h200 -k 'a b' --inject-arg 'a=--moe-backend triton'"
        == command(RUN, [(SERVER, CHOSEN)])
    )


def test_without_a_choice_builds_are_compared():
    """In turn with one that is known to be good."""
    assert command(RUN, [(SERVER, TIMED)]).endswith(
        "--against-engine vllm=PYTHON_OF_A_GOOD_BUILD"
    )


def test_injected_run_goes_on_without_the_injection():
    """Its command would inject again."""
    injected = dataclasses.replace(SERVER, injected="a delay")

    assert "" == command(RUN, [(injected, TIMED)])


def test_only_the_choice_that_stands_for_the_cause_is_put_back():
    """Another one changed as well, and explains nothing."""
    both = (Choice("max_num_seqs", "256", "16"), *SERVER.changed)
    server = dataclasses.replace(SERVER, changed=both)

    assert "--moe-backend triton" == back_of(server, "expert-path").argument
    assert "--max-num-seqs 256" == back_of(server, "batch-cap").argument
    assert None is back_of(server, "attention")


def test_words_that_name_the_run_are_left_out():
    """With their values."""
    assert "pytest -q" == again(["pytest", "--run-dir", "/r", "-q", "--resume"])


def test_pairs_are_launched_more_often_by_one_option():
    """The number of launches that the run had is not given a second time."""
    paired = msgspec.structs.replace(
        RUN,
        command=("pytest", "--launches", "3", "-k", "a", "--launches=4"),
        mode="paired",
    )

    assert "pytest -k a --launches 6" == command(paired, [(SERVER, TIMED)])


def test_pairs_after_a_screen_are_launched_more_often():
    """The base build is named already: all rows in pairs, and more of them."""
    key = m.ITL.numerator.server.key
    base = m.ITL.base.numerator.server
    screened = m.bare_run(
        command=("pytest", "--against-engine", "vllm=/b", "--pairs=suspect"),
        mode="screened",
        cases=(m.ITL,),
        launches=(m.launched(0, base),),
    )
    server = dataclasses.replace(SERVER, key=key)

    assert (
        "pytest --against-engine vllm=/b --pairs all --launches 6"
        == command(screened, [(server, TIMED)])
    )


def test_row_of_a_screen_without_pairs_asks_for_a_good_build():
    """Its base build did not start, or its engine has none."""
    screened = msgspec.structs.replace(RUN, mode="screened")

    assert command(screened, [(SERVER, TIMED)]).endswith(
        "--against-engine vllm=PYTHON_OF_A_GOOD_BUILD"
    )
