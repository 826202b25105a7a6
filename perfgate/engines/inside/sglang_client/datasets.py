"""Stand-in for datasets: SGLang's load client imports it for a data set that is not used.

`sglang.bench_serving` imports the package for its pictures (MMMU) whatever it sends, and
an engine's environment need not have it. This folder is the last place where the client
looks for modules, so that a real package is found before.
"""

from typing import Any


def load_dataset(*_names: Any, **_options: Any) -> Any:
    """What the client would load pictures with."""
    raise RuntimeError(
        "datasets is not installed: this is a stand-in for loads of text "
        "(perfgate/engines/inside/sglang_client)"
    )
