"""Estimate: agreement with measured and published figures, and checks of the answers."""

import msgspec
import pytest

from perfgate.machine.datasheets import by_name
from perfgate.machine.memory import MemoryUnknown
from perfgate.models.catalogue import CATALOGUE
from perfgate.models.estimate import (
    CannotSplit,
    Question,
    communication,
    estimate,
    step_ratio,
    weights_values,
)
from perfgate.models.shapes.split import Split
from perfgate.study.claims import claims
from tests.support.model_configs import shape_of
from tests.support.studies import SHIPPED

MIXTRAL, LLAMA, LLAMA_70B = (
    CATALOGUE[name].architecture
    for name in ("mixtral-8x7b", "llama-3.1-8b", "llama-3.1-70b")
)
H200 = by_name("h200")
# Of 46,702,792,704 parameters every rank holds the routers (32 x 4096 x 8) and
# norms (65 x 4096), and half of the rest: (1,314,816 + 46,701,477,888 / 2) x 2
# bytes
MIXTRAL_TP2 = 46_704_107_520


def asked(ranks=1, gpu="h200", **more):
    """A question about so many GPUs."""
    return Question(gpu=by_name(gpu), ranks=ranks, **more)


def test_room_for_the_kv_cache_is_what_the_engine_found():
    """The KV cache of Mixtral on one H200 as vLLM 0.26 logged it; the reserve is from there."""
    assert 319_264 == pytest.approx(
        estimate("m", MIXTRAL, asked()).kv_tokens, rel=0.01
    )


def test_mixtral_on_two_gpus():
    """93.4 GB, half of it on each; what is on both is 1,314,816 parameters."""
    seen = estimate("m", MIXTRAL, asked(2))

    assert [93.4, 46.7] == [
        round(n / 1e9, 1)
        for n in (seen.weights_bytes, seen.weights_bytes_per_gpu)
    ]
    # routers 32 x 4096 x 8, norms 65 x 4096, 2 bytes each
    assert 2 * (32 * 4096 * 8 + 65 * 4096) == seen.copied_bytes_per_gpu
    assert 3.2 == round(seen.data_parallel_copied_bytes / 1e9, 1)
    assert (True, None) == (seen.fits, seen.why_not)


@pytest.mark.parametrize(
    ("architecture", "gpu", "ranks", "fits"),
    [
        (MIXTRAL, "h100", 1, False),
        (MIXTRAL, "h100", 2, True),
        (MIXTRAL, "h200", 1, True),
        (LLAMA, "a100-40gb", 1, True),
        (LLAMA_70B, "h200", 1, False),
        (LLAMA_70B, "h200", 2, True),
    ],
)
def test_whether_it_fits(architecture, gpu, ranks, fits):
    """Mixtral in bfloat16 fits one H200 and not one H100; what does not fit says by how much."""
    seen = estimate("m", architecture, asked(ranks, gpu))

    assert fits == seen.fits
    assert (seen.kv_tokens > 0) == fits
    if not fits:
        assert (
            f"{architecture.parameters * 2 / 1e9:.1f} GB of weights"
            in seen.why_not
        )


def test_floor_of_a_step():
    """On one H200 a single token takes at least 5.3 ms of Mixtral and 3.1 ms of Llama."""
    floors = [
        estimate("m", a, asked()).steps[0].floor_ms for a in (MIXTRAL, LLAMA)
    ]

    assert [5.3, 3.1] == [round(floor, 1) for floor in floors]


def test_two_gpus_halve_the_floor():
    """Nearly: routers and norms are read by both."""
    one, two = (
        estimate("m", MIXTRAL, asked(ranks)).steps[-1].floor_ms
        for ranks in (1, 2)
    )

    assert 2 == pytest.approx(one / two, rel=1e-3)


def test_line_of_the_ratio():
    """Bytes per step over the dense model's, over the batches of the study."""
    line = [
        round(step_ratio(MIXTRAL, LLAMA, batch, 1, "bfloat16"), 1)
        for batch in (1, 2, 4, 8, 32, 64)
    ]

    assert [1.7, 2.8, 4.3, 5.6, 6.2, 6.2] == line


def test_long_contexts_bring_the_models_together():
    """The KV cache is the same for both, so that it takes the ratio down."""
    short, long = (
        step_ratio(MIXTRAL, LLAMA, 32, 1, "bfloat16", context)
        for context in (0, 8000)
    )

    assert 1 < long < short


def test_communication_of_mixtral():
    """Two sums of 4,096 x 2 bytes a layer; two experts both ways, half on the other rank."""
    sent = communication(MIXTRAL, 2, "bfloat16")

    # 32 layers x 2 x 8 KiB
    assert 512 * 1024 == sent.all_reduce
    # 32 layers x 2 ways x 2 experts x 1/2 x 8 KiB
    assert 512 * 1024 == sent.all_to_all
    # both experts on one's own rank: C(4,2) / C(8,2) = 6/28
    assert 512 * 1024 * (1 - 6 / 28) == pytest.approx(sent.all_to_all_once)


def test_one_rank_exchanges_nothing():
    """There is nobody to talk to, and a dense model has no experts to send to."""
    assert {0.0} == set(
        msgspec.structs.astuple(communication(MIXTRAL, 1, "bfloat16"))
    )
    assert 0 == communication(LLAMA, 2, "bfloat16").all_to_all


def test_published_claims_that_are_wrong_are_named():
    """Of the study's five, two hold; each has its figure."""
    found = {
        claim.claim.split()[0]: claim
        for claim in claims(SHIPPED, MIXTRAL, LLAMA)
    }

    assert [True, True] == [
        claim.holds for claim in claims(SHIPPED, MIXTRAL, LLAMA) if claim.holds
    ]
    wrong = [
        claim for claim in claims(SHIPPED, MIXTRAL, LLAMA) if not claim.holds
    ]
    assert ["3.2 GB", "5.8 times", "512 KiB"] == [
        text
        for text, claim in zip(
            ("3.2 GB", "5.8 times", "512 KiB"), wrong, strict=True
        )
        if text in claim.arithmetic
    ]
    assert "46.7" in found["46.7"].arithmetic
    assert () == claims(SHIPPED, LLAMA, MIXTRAL)


@pytest.mark.parametrize(
    ("ranks", "expert_parallel", "what"),
    [(3, False, "heads"), (16, True, "experts is 8")],
)
def test_what_cannot_be_split_is_refused(ranks, expert_parallel, what):
    """Heads, and experts where they are spread whole, must divide."""
    with pytest.raises(CannotSplit, match=what):
        estimate(
            "mixtral", MIXTRAL, asked(ranks, expert_parallel=expert_parallel)
        )


def test_weights_against_the_arithmetic():
    """The fullest rank counts, as bytes and over parameters x bytes / ranks."""
    values = weights_values(
        (MIXTRAL_TP2 * 1.02, MIXTRAL_TP2 * 1.0), MIXTRAL, 2, "bfloat16"
    )

    assert {
        "weights_bytes_per_rank",
        "weights_over_arithmetic",
    } == values.keys()
    assert MIXTRAL_TP2 * 1.02 == values["weights_bytes_per_rank"]
    assert 1.02 == pytest.approx(values["weights_over_arithmetic"])


def test_unsplit_weights_are_seen():
    """Ranks that hold the whole model each show as twice the arithmetic."""
    whole = 2.0 * MIXTRAL.parameters

    values = weights_values((whole, whole), MIXTRAL, 2, "bfloat16")

    assert 2.0 == pytest.approx(values["weights_over_arithmetic"], rel=1e-3)


@pytest.mark.parametrize(
    ("answers", "seen"),
    [
        ((), "0 answers"),
        ((46e9,), "1 answers"),
        ((46e9, 46e9, 46e9), "3 answers"),
        ((46e9, 0.0), r"2 answers: \(46000000000.0, 0.0\)"),
    ],
    ids=["none", "fewer", "more", "empty"],
)
def test_every_rank_must_answer(answers, seen):
    """Too few or too many ranks, or one that holds nothing, is an error with the answers."""
    with pytest.raises(MemoryUnknown, match=seen) as error:
        weights_values(answers, MIXTRAL, 2, "bfloat16")
    assert "each of 2 ranks" in error.value.tried
    assert "--tp" in error.value.remedy


def test_groups_without_tensor_parallelism_sum_nothing():
    """Data parallel attention sends tokens to experts and back, and sums no vectors."""
    sent = communication(MIXTRAL, Split(data_parallel=2), "bfloat16")

    assert 0 == sent.all_reduce
    assert 512 * 1024 == sent.all_to_all


def test_layers_of_one_part_sum_one_vector():
    """Of Nemotron's 88 layers each is an attention, a state or experts; these are latent."""
    sent = communication(shape_of("nemotron-3-super-nvfp4"), 2, "bfloat16")

    assert 88 * 4096 * 2 == sent.all_reduce
    # 40 layers, there and back, 22 experts of which half are elsewhere, 1,024 wide
    assert 40 * 2 * 22 / 2 * 1024 * 2 == sent.all_to_all


def test_experts_without_weights_are_never_elsewhere():
    """Of LongCat's 12 choices 8 have weights; 2 of 3 experts may be chosen by no token."""
    sent = communication(shape_of("longcat-flash"), 2, "bfloat16")
    few = communication(
        shape_of(
            "longcat-flash", n_routed_experts=2, zero_expert_num=10, moe_topk=5
        ),
        2,
        "bfloat16",
    )

    assert 28 * 2 * 8 / 2 * 6144 * 2 == sent.all_to_all
    assert few.all_to_all_once < few.all_reduce


def test_room_depends_on_the_length_where_a_state_is_fixed():
    """Qwen3.5's sequences keep 64 MB each: short ones have room for fewer tokens."""
    shape = shape_of("qwen3.5-35b-a3b")
    short, long = (
        estimate("m", shape, asked(context_tokens=tokens)).kv_tokens
        for tokens in (1000, 100_000)
    )

    # 20,480 bytes a token, and 64,389,120 for each sequence
    assert (20_480 + 64_389.12) / (20_480 + 643.8912) == pytest.approx(
        long / short, rel=1e-3
    )
