"""Noise table: which group counts, and the file as it is read and written."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from perfgate.judge import noise_table
from perfgate.judge.noise_table import (
    BadNoiseTable,
    GroupNoise,
    NoiseTable,
    Spread,
)

ITL = "itl_median_ms"
SHIPPED = Path(__file__).resolve().parents[3] / "baselines"


def group(cv):
    """A group that is known by its CV."""
    spread = Spread(cv=cv, degrees_of_freedom=10.0)
    return GroupNoise(launches=spread, series=4)


CHAIN = (f"one-gpu/{ITL}/closed", f"gpu/{ITL}/closed", "one-gpu/itl", "gpu/itl")


@pytest.mark.parametrize("first", range(len(CHAIN)))
def test_find_takes_the_narrowest_group(first):
    """The metric under that load, on as many GPUs and on any; then its family."""
    groups = {}
    for number, name in enumerate(CHAIN[first:], 1):
        groups[name] = group(number / 100)
    table = NoiseTable(learned="2026-11-28", launches=9, groups=groups)

    assert groups[CHAIN[first]] == table.find("one-gpu", ITL, "closed")


def test_find_knows_neither_other_platforms_nor_other_families():
    """What GPUs do says nothing of CPUs, an ITL nothing of a TTFT."""
    groups = dict.fromkeys(CHAIN, group(0.01))
    table = NoiseTable(learned="2026-11-28", launches=9, groups=groups)

    assert table.find("cpu", ITL, "closed") is None
    assert table.find_ratio("cpu", ITL, "closed", "closed") is None
    assert table.find("one-gpu", "ttft_median_ms", "closed") is None
    assert group(0.01) == table.find("several-gpus", ITL, "closed")


def test_a_ratio_has_a_group_of_its_own_or_the_noise_of_two_loads():
    """Independent ones: sqrt(2) times that of one; machines as well."""
    spread = Spread(cv=0.01, degrees_of_freedom=10.0)
    single = GroupNoise(launches=spread, machines=spread, series=4)
    table = NoiseTable(
        learned="2026-11-28", launches=9, groups={"gpu/itl": single}
    )
    own = NoiseTable(
        learned="2026-11-28",
        launches=9,
        groups={
            "gpu/itl": single,
            "gpu/itl_median_ms/closed/ratio": group(0.003),
        },
    )

    found = table.find_ratio("one-gpu", ITL, "closed", "closed")

    assert 0.01 * math.sqrt(2) == pytest.approx(found.launches.cv)
    assert 0.01 * math.sqrt(2) == pytest.approx(found.machines.cv)
    assert 10.0 == found.launches.degrees_of_freedom
    assert group(0.003) == own.find_ratio("one-gpu", ITL, "closed", "closed")


def test_a_ratio_varies_like_both_of_its_loads():
    """Not like ratios of the family, nor twice like the load above."""
    groups = {
        "gpu/itl_median_ms/steady": group(0.03),
        "gpu/itl_median_ms/single": group(0.04),
        "gpu/itl/ratio": group(0.003),
    }
    table = NoiseTable(learned="2026-11-28", launches=9, groups=groups)

    found = table.find_ratio("one-gpu", ITL, "steady", "single")
    family = table.find_ratio("one-gpu", ITL, "closed", "closed")

    assert 0.05 == pytest.approx(found.launches.cv)
    assert group(0.003) == family


def test_a_load_of_unknown_arrivals_has_the_noise_of_its_family():
    """A group of one kind of load is not taken for another."""
    groups = {CHAIN[0]: group(0.01), CHAIN[3]: group(0.02)}
    table = NoiseTable(learned="2026-11-28", launches=9, groups=groups)

    assert group(0.02) == table.find("one-gpu", ITL, None)
    assert group(0.02) == table.find("one-gpu", ITL, "open")


@pytest.mark.parametrize(
    ("label", "platform"),
    [
        ("h200x1", "one-gpu"),
        ("h200x2", "several-gpus"),
        ("h100x8", "several-gpus"),
        ("cpu-amd-epyc-avx2-x1", "cpu"),
    ],
)
def test_platform_by_label(label, platform):
    """A CPU is one, whatever number its label ends with."""
    assert platform == noise_table.platform_of(label)


def test_a_table_is_read_as_it_was_written(tmp_path):
    """With sorted keys, so that two tables can be compared line by line."""
    groups = {name: group(0.01) for name in reversed(CHAIN)}
    table = NoiseTable(learned="2026-11-28", launches=12, groups=groups)
    path = tmp_path / noise_table.FILE

    noise_table.write(path, table)

    assert table == noise_table.read(path)
    written = json.loads(path.read_text())
    assert sorted(written["groups"]) == list(written["groups"])


def test_no_file_is_no_table(tmp_path):
    """A store need not have one."""
    assert noise_table.read(tmp_path / noise_table.FILE) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"launches": "many"}, "$.launches"),
        ({"schema": 2}, "$.schema"),
        ({"more": 1}, "more"),
        ({"groups": {"gpu/itl": {"series": 3}}}, "launches"),
        (
            {
                "groups": {
                    "gpu/itl": {
                        "launches": {"cv": 0.0, "degrees_of_freedom": 3.0},
                        "series": 3,
                    }
                }
            },
            "groups.gpu/itl",
        ),
    ],
    ids=["type", "schema", "unknown-field", "missing-field", "zero"],
)
def test_an_error_names_file_and_field(tmp_path, change, said):
    """And the command that makes the table anew."""
    tree = {"schema": 1, "learned": "2026-11-28", "launches": 9, "groups": {}}
    path = tmp_path / noise_table.FILE
    path.write_text(json.dumps(tree | change))

    with pytest.raises(BadNoiseTable) as caught:
        noise_table.read(path)

    assert str(path) in caught.value.tried
    assert said in caught.value.seen
    assert "perfgate noise --update" in caught.value.remedy


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe"], ids=["json", "utf-8"])
def test_what_is_no_json_is_named(tmp_path, content):
    """Also bytes that are no text."""
    path = tmp_path / noise_table.FILE
    path.write_bytes(content)

    with pytest.raises(BadNoiseTable, match=r"noise\.json"):
        noise_table.read(path)


def test_a_folder_in_its_place_is_named(tmp_path):
    """With the error of the system."""
    path = tmp_path / noise_table.FILE
    path.mkdir()

    with pytest.raises(BadNoiseTable, match="IsADirectoryError"):
        noise_table.read(path)


def test_the_shipped_table_knows_rates_and_latencies_of_gpus_and_cpus():
    """Every CV is a positive fraction."""
    table = noise_table.read(SHIPPED / noise_table.FILE)

    for platform in ("one-gpu", "several-gpus", "cpu"):
        for metric in ("output_throughput", ITL, "ttft_median_ms"):
            found = table.find(platform, metric, "closed")
            assert 0.0 < found.launches.cv < 0.5
    assert all(
        math.isfinite(row.launches.degrees_of_freedom)
        for row in table.groups.values()
    )
