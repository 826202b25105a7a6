"""Page of a report: the commands that send a run's loads by hand."""

import msgspec

from perfgate.report import page
from perfgate.results.schema import load, save
from tests.support import builders as m

COMMAND = "vllm bench serve --model 'a b' --num-prompts 8"


def run_with_commands():
    """Two launches of one load, each with the command of its address."""
    results = m.run({m.MOE_LOAD: {"output_throughput": [1.0, 1.0]}}, [])
    rows = []
    for number, row in enumerate(results.measurements):
        command = f"{COMMAND} --port {number}"
        rows.append(msgspec.structs.replace(row, vllm_bench_command=command))
    return msgspec.structs.replace(results, measurements=tuple(rows))


def test_each_load_has_its_last_command():
    """Launches have ports of their own; the last one's is shown."""
    expected = (m.MOE.key, "closed-c32", f"{COMMAND} --port 1")

    assert [expected] == page.load_commands(run_with_commands())


def test_the_page_shows_the_command():
    """As text that can be copied."""
    text = page.build(page.Report([run_with_commands()]))

    assert "Commands that send these loads by hand" in text
    assert "<code>vllm bench serve --model &#39;a b&#39;" in text


def test_a_run_without_commands_has_no_section():
    """Such as one of an older version."""
    results = m.run({m.MOE_LOAD: {"output_throughput": [1.0]}}, [])

    assert "by hand" not in page.build(page.Report([results]))


def test_the_command_is_stored(tmp_path):
    """Under the name that it had before."""
    results = run_with_commands()
    path = save(results, tmp_path)

    assert '"by_hand":"vllm bench serve' in path.read_text()
    assert results.measurements == load(tmp_path).measurements
