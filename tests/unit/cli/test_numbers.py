"""Options that are numbers: what no computation can use is a usage error."""

import pytest


@pytest.mark.parametrize(
    "words",
    [
        ["accept", "run", "--target-effect"],
        ["report", "run", "--gpu-hour-price"],
        ["fleet", "run", "--limit"],
        ["fleet", "run", "--host-wait"],
        ["crosscheck", "--tolerance"],
    ],
)
@pytest.mark.parametrize("number", ["nan", "inf", "-1", "x"])
def test_a_number_that_is_none_is_refused(perfgate, words, number):
    """Nan is in every range, and inf above every minimum."""
    result = perfgate(*words, number)

    assert 2 == result.exit_code
    assert f"Invalid value for '{words[-1]}'" in result.output


@pytest.mark.parametrize(
    "words",
    [
        ["--num-prompts", "0"],
        ["--max-concurrency", "-1"],
        ["--lengths", "0", "4"],
        ["--lengths", "4", "-4"],
    ],
)
def test_a_load_has_requests_and_tokens(perfgate, words):
    """No number of them is below one."""
    result = perfgate("crosscheck", *words)

    assert 2 == result.exit_code
    assert f"Invalid value for '{words[0]}'" in result.output
