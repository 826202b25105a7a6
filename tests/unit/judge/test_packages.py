"""Packages: what an environment holds, and what a baseline of before does not say."""

from perfgate.judge.packages import (
    OTHERS,
    are_unknown,
    comparable,
    fields,
    is_package,
)

INSTALLED = {
    "vllm": "0.26.0",
    "nvidia-nccl-cu13": "2.28.3",
    "triton": "3.6.0",
    "rich": "14.0",
    "click": "8.1",
}


def test_what_can_change_a_speed_is_a_field():
    """What the context has already is left out, the rest is one field."""
    context = fields(INSTALLED, known=("vllm", "triton"))

    assert {"package nvidia-nccl-cu13", OTHERS} == context.keys()
    assert context[OTHERS].startswith("2, ")


def test_any_other_package_changes_the_last_field():
    """It says that something differs, not what."""
    other = fields(INSTALLED | {"rich": "14.1"})

    assert fields(INSTALLED)[OTHERS] != other[OTHERS]


def test_environment_that_was_not_read_has_no_fields():
    """No number and no hash stand for nothing."""
    assert {} == fields({})


def test_baseline_without_packages_is_unknown_and_no_difference():
    """On the side of a ratio that lacks them alone."""
    known = fields(INSTALLED)
    new = {"driver": "1"} | {
        f"{side}{name}": value
        for side in ("numerator.", "denominator.")
        for name, value in known.items()
    }
    old = {name: value for name, value in new.items() if "denom" not in name}

    current, recorded = comparable(new, old)

    assert current == recorded == old
    assert are_unknown(new, {"driver": "1"})
    assert not are_unknown(new, old)
    assert all(map(is_package, set(new) - {"driver"}))
