"""Expert shares: from a run whose routing was measured, or from a file."""

import json

import msgspec
import pytest

from perfgate.models.routing import RoutingUnreadable
from perfgate.results import schema
from perfgate.results.expert_shares import recorded_shares
from tests.support import builders
from tests.support.model_configs import shape_of
from tests.support.routings import varied
from tests.support.studies import SHIPPED

MIXTRAL = SHIPPED.models["mixtral-8x7b"].architecture
SMALL = msgspec.structs.replace(MIXTRAL, num_hidden_layers=2)
EVEN = [[1] * 8, [1] * 8]


def written(tmp_path, content):
    """A JSON file."""
    path = tmp_path / "shares.json"
    path.write_text(json.dumps(content))
    return path


def test_counts_become_shares(tmp_path):
    """Of each layer's choices, whatever they sum up to."""
    path = written(tmp_path, [[6, 2, 0, 0, 0, 0, 0, 0], [1] * 8])

    shares = recorded_shares(path, SMALL)

    assert ((0.75, 0.25, *(0.0,) * 6), (0.125,) * 8) == shares


def test_one_list_stands_for_all_layers(tmp_path):
    """A popularity that is known as a mean alone."""
    assert ((0.125,) * 8,) == recorded_shares(
        written(tmp_path, [[2] * 8]), SMALL
    )


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        ([[1] * 7, [1] * 7], "lists of .7. numbers, for 8 experts"),
        ([[1] * 8] * 3, "3 lists, for 2 sparse layers"),
        ([[0] * 8] * 2, "layer 0 has no choices"),
        ([[-1, 2, 1, 1, 1, 1, 1, 1], [1] * 8], "layer 0 has no choices"),
        ([], "lists of .. numbers"),
        ([[1e308] * 8] * 2, "layer 0 has too large numbers"),
        ({"shares": 1}, "Expected `array`"),
        ([1] * 8, "Expected `array`"),
    ],
)
def test_another_shape_is_refused(tmp_path, content, seen):
    """With what it has and what the model has."""
    with pytest.raises(RoutingUnreadable, match=seen):
        recorded_shares(written(tmp_path, content), SMALL)


def test_deep_json_is_refused(tmp_path):
    """As any file of something else."""
    path = tmp_path / "shares.json"
    path.write_text("[" * 100_000)

    with pytest.raises(RoutingUnreadable, match="recursion"):
        recorded_shares(path, SMALL)


def test_a_dense_model_has_no_shares(tmp_path):
    """And a missing file is named."""
    with pytest.raises(RoutingUnreadable, match="no experts"):
        recorded_shares(written(tmp_path, EVEN), shape_of("qwen3.5-27b"))
    with pytest.raises(RoutingUnreadable, match=r"nowhere\.json"):
        recorded_shares(tmp_path / "nowhere.json", SMALL)


@pytest.fixture
def recorded(tmp_path):
    """The folder of a run with a measured routing."""
    measured = varied(requests=4, layers=2, experts=8)
    row = builders.measurement(0, builders.repetition(0, {}))
    results = builders.bare_run(
        hardware=builders.hardware(),
        servers={
            row.server: schema.Server(
                config=builders.MOE_CPU, python="p", versions={}
            )
        },
        workloads={row.workload: builders.CLOSED},
        launches=(builders.launched(0),),
        measurements=(msgspec.structs.replace(row, routing=measured),),
    )
    (tmp_path / "results.json").write_text(schema.to_json(results))
    return tmp_path, measured


def test_a_runs_routing_counts(recorded):
    """All requests of all launches together, as shares of each layer's choices."""
    folder, measured = recorded

    shares = recorded_shares(folder, SMALL)

    chosen = [request.counts[1][3] for request in measured.requests]
    choices = [sum(request.counts[1]) for request in measured.requests]
    assert sum(chosen) / sum(choices) == pytest.approx(shares[1][3])
    assert shares == recorded_shares(folder / "results.json", SMALL)


def test_a_run_of_another_model_is_refused(recorded):
    """The layers and experts that are looked for are named."""
    folder, _ = recorded

    with pytest.raises(RoutingUnreadable, match="32 layers with 8 experts"):
        recorded_shares(folder, MIXTRAL)
