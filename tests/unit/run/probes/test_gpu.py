"""Is what the GPUs did noted with the launch, and what they do not tell, too?"""

import types

from perfgate.results.recorder import Ledger
from perfgate.run.probes import gpu
from tests.support import builders as m


def test_a_server_without_gpus_has_no_energy(tmp_path):
    """It is looked at by nobody, and the launch says why its energy is lacking."""
    ledger = Ledger(m.bare_run(launches=(m.launched(0),)), tmp_path)

    assert gpu.watch((), m.MOE_CPU.key, 0, ledger, sampled=True) is None
    (launch,) = ledger.results.launches
    assert ("energy: no GPU of this server counts it",) == launch.notes


def test_a_look_that_ended_is_noted_with_the_repetition():
    """Its values stay as they were."""
    watcher = types.SimpleNamespace(since=lambda mark: (), failure="GPU 0 is lost")

    found = gpu.told(m.repetition(0, 100.0), watcher, None)

    assert ("GPU 0 is lost",) == found.notes
    assert {"output_throughput": 100.0} == found.values
