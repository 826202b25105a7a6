"""Figure of cost: a million tokens by throughput, GPUs and price; energy where it is counted."""

import math

import msgspec

from perfgate.report.figures.cost import costs, pictures
from perfgate.results.samples import RunIndex
from tests.support import builders as m


def index(load=m.MOE_LOAD, **figures):
    """A run of one load with these figures."""
    values = {name: [value] for name, value in figures.items()}
    return RunIndex(m.run({load: values}, ()))


def test_a_million_tokens_take_the_hours_of_all_gpus():
    """1,000 tok/s on two GPUs: 1,000 s, twice, at 3.60 an hour."""
    (cost,) = costs(index(output_throughput=1000.0), 3.6)

    assert math.isclose(2.0, cost.price)
    assert cost.energy_j is None
    assert ("-", "-") == cost.row[4:6]


def test_energy_is_in_kilowatt_hours():
    """3.6 J a token are 1 kWh a million."""
    (cost,) = costs(
        index(output_throughput=1000.0, energy_per_output_token_j=3.6), 1.0
    )

    assert ("3.6", "1") == cost.row[4:6]


def test_the_figure_says_at_which_price():
    """Of all loads, in the table and as bars."""
    (picture,) = pictures(index(output_throughput=1000.0), "", 3.6)

    assert "3.6 for a GPU-hour" in picture.caption
    assert picture.svg is not None
    assert 1 == len(picture.rows)


def test_nothing_is_shown_without_a_price_or_gpus():
    """Pages of other runs are as before."""
    on_cpu = msgspec.structs.replace(m.MOE_LOAD, server=m.MOE_CPU)

    assert [] == pictures(index(output_throughput=1000.0), "", None)
    assert [] == pictures(index(on_cpu, output_throughput=1000.0), "", 3.6)
