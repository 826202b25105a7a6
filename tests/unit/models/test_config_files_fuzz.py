"""config.json with impossible values: always a message with the field, never a traceback."""

import copy
import functools

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perfgate.machine.datasheets import by_name
from perfgate.models.catalogue import UnknownArchitecture, parse_config
from perfgate.models.estimate import CannotSplit, Question, estimate
from tests.support.model_configs import MODELS

H200 = by_name("h200")
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-3, max_value=300),
    st.sampled_from([2**31, 2**63, -(2**40), 10**9]),
    st.floats(allow_nan=True),
    st.text(max_size=8),
)
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=3),
    st.dictionaries(st.text(max_size=4), SCALARS, max_size=3),
)
WORDS = st.sampled_from(
    ["fp8", "modelopt", "NVFP4", "MIXED_PRECISION", "re:(", "gptq", "auto"]
)


def places(value, path=()):
    """The path of each field, inside of tables and lists too."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key)
            yield from places(inner, (*path, key))


@functools.cache
def paths(name):
    """Those of one model."""
    return sorted(places(MODELS[name]["config"]))


@st.composite
def damaged(draw):
    """A published configuration with one to three fields replaced or removed."""
    name = draw(st.sampled_from(sorted(MODELS)))
    config = copy.deepcopy(MODELS[name]["config"])
    for _ in range(draw(st.integers(min_value=1, max_value=3))):
        *way, last = draw(st.sampled_from(paths(name)))
        table = config
        for key in way:
            table = table.get(key) if isinstance(table, dict) else None
        if not isinstance(table, dict):
            continue
        if draw(st.booleans()):
            table[last] = draw(st.one_of(VALUES, WORDS))
        else:
            table.pop(last, None)
    return config


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
@given(config=damaged(), ranks=st.sampled_from([1, 2, 3, 8]))
def test_nothing_but_a_message(config, ranks):
    """Whatever stands in a file, it is estimated or refused with what was seen."""
    try:
        architecture = parse_config(config, "x/config.json")
        found = estimate("x", architecture, Question(gpu=H200, ranks=ranks))
    except (UnknownArchitecture, CannotSplit):
        return
    assert 0 < found.active_parameters <= found.parameters
    assert found.weights_bytes > 0
    assert 0 <= found.cache.bytes_per_sequence
