"""Figure of cost: energy and price of a million output tokens, by the price of a GPU-hour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfgate.report.figures.figure import Picture, number
from perfgate.report.figures.svg import SERIES, axis
from perfgate.results.samples import RunIndex, mean_of, values_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SECONDS_PER_HOUR = 3600.0
TOKENS = 1e6
J_PER_KWH = 3.6e6
MOST_BARS = 12
Y = "price of a million output tokens"
COLUMNS = (
    "server",
    "workload",
    "output tok/s",
    "GPUs",
    "J per output token",
    "kWh per million",
    "price per million",
)


@dataclass(frozen=True)
class Cost:
    """What a million output tokens of one load cost.

    Attributes:
        energy_j: of one output token; None where it is not counted.
        price: in the currency of the GPU-hour.
    """

    server: str
    workload: str
    throughput: float
    gpus: int
    energy_j: float | None
    price: float

    @property
    def row(self) -> tuple[str, ...]:
        """The cells of the table."""
        energy = kwh = "-"
        if self.energy_j is not None:
            energy = number(self.energy_j)
            kwh = number(self.energy_j * TOKENS / J_PER_KWH)
        return (
            self.server,
            self.workload,
            number(self.throughput),
            str(self.gpus),
            energy,
            kwh,
            number(self.price),
        )


def costs(index: RunIndex, gpu_hour_price: float) -> list[Cost]:
    """Of every load on GPUs with a throughput."""
    found = []
    for server, workload in index.loads:
        gpus = index.results.servers[server].config.gpu_count
        throughput = _mean(index, server, workload, "output_throughput")
        if not gpus or throughput is None:
            continue
        hours = TOKENS / throughput / SECONDS_PER_HOUR
        cost = Cost(
            server=server,
            workload=workload,
            throughput=throughput,
            gpus=gpus,
            energy_j=_mean(
                index, server, workload, "energy_per_output_token_j"
            ),
            price=gpu_hour_price * gpus * hours,
        )
        found.append(cost)
    return found


def _mean(
    index: RunIndex, server: str, workload: str, metric: str
) -> float | None:
    """By the launches that count; None where none has it."""
    values = values_of(index.samples_of(server, workload, metric))
    if not values:
        return None
    return mean_of(values)


def pictures(
    index: RunIndex, prefix: str, gpu_hour_price: float | None
) -> list[Picture]:
    """The figure; none without a price, and where nothing ran on GPUs."""
    if gpu_hour_price is None:
        return []
    found = costs(index, gpu_hour_price)
    if not found:
        return []

    def paint(figure: Figure) -> None:
        _paint(figure, found[:MOST_BARS])

    texts = []
    for cost in found:
        texts.append(f"{cost.server}, {cost.workload}: {number(cost.price)}")
    picture = Picture(
        key=f"{prefix}cost",
        title="Price and energy of a million output tokens",
        caption=(
            f"At {number(gpu_hour_price)} for a GPU-hour. A single stream pays for a "
            "GPU that is nearly idle."
        ),
        description=f"{Y}. {'; '.join(texts)}.",
        columns=COLUMNS,
        rows=tuple(cost.row for cost in found),
    )
    return [picture.with_drawing(paint)]


def _paint(figure: Figure, found: Sequence[Cost]) -> None:
    axes = axis(figure, "", Y)
    positions = list(range(len(found)))
    prices = [cost.price for cost in found]
    axes.bar(positions, prices, 0.6, color=SERIES[0])
    labels = [f"{cost.server}\n{cost.workload}" for cost in found]
    axes.set_xticks(positions, labels, rotation=30, ha="right")
    axes.grid(visible=False, axis="x")
