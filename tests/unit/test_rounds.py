"""Is everything warmed up that must be, and nothing twice?"""

from fixtures.load.workload import Workload
from fixtures.rounds import warming

ONE, MANY = (Workload(name=f"at-{n}", num_prompts=64, max_concurrency=n) for n in (1, 32))
RATE = Workload(name="rate-2", num_prompts=8, request_rate=2.0)


def test_every_workload_is_warmed_up_on_gpus():
    """Graphs and kernels are made for one size, so each workload's own sizes are sent."""
    assert [ONE, MANY, RATE] == warming([ONE, MANY, RATE], "cuda")


def test_the_largest_batch_warms_a_cpu_up():
    """Steps of every size run the same code there; a server that is sent nothing is not warmed up."""
    assert [MANY] == warming([ONE, MANY, RATE], "cpu")
    assert [RATE] == warming([RATE], "cpu")
    assert [] == warming([], "cpu")
