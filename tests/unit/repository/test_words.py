"""A newcomer finds a module by the word of the field that an engineer would type.

One search, without regard to case, for words that begin so, in the first paragraphs of
the modules' docstrings.
"""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[3] / "perfgate"
MOST_MODULES = 4  # that one can look at
# Word -> the module, in perfgate/, that does it.
WORDS = {
    # What a client measures.
    "TTFT": "load/request_times",
    "inter-token latency": "load/request_times",
    "TPOT": "load/request_times",
    "percentile": "load/formulas",
    "goodput": "load/formulas",
    "throughput": "load/formulas",
    "HTTP client": "load/http",
    "SSE": "load/response",
    "server-sent events": "load/response",
    "timeout": "load/client",
    "prompt": "load/prompts",
    "ShareGPT": "load/prompts",
    "arrival": "load/workload",
    "Poisson": "load/workload",
    "concurrency": "load/workload",
    "warm-up": "load/warmup",
    "crosscheck": "load/crosscheck",
    "invalid": "load/validity",
    "stall": "load/validity",
    "/metrics": "load/server_metrics",
    # The machine and its servers.
    "NVML": "machine/nvml",
    "telemetry": "machine/telemetry",
    "throttling": "run/probes/gpu",
    "GPU memory": "machine/memory",
    "lease": "machine/leases",
    "file lock": "machine/leases",
    "affinity": "engines/cpu_affinity",
    "health check": "servers/health",
    "port": "run/launch_planner",
    "SIGTERM": "servers/supervisor/processes",
    "daemon": "servers/supervisor/daemon",
    "shared memory": "servers/supervisor/cleanup",
    "--attach": "servers/external",
    # Models and engines.
    "tensor parallel": "engines/base",
    "KV cache": "models/architecture",
    "mxfp4": "models/shapes/formats",
    "latent attention": "models/shapes/attention",
    "Mamba": "models/shapes/recurrent",
    "expert routing": "models/routing",
    "bytes per decode step": "models/architecture",
    "tokenizer": "models/made",
    "random weights": "models/made",
    "config.json": "models/config_files",
    "quantization": "models/quantization",
    "memory bandwidth": "results/bandwidth",
    "injection": "engines/injection",
    # A session.
    "environment variable": "config/parsing",
    "pyproject.toml": "config/project",
    "skip": "perf_tests",
    "retries": "run/launcher",
    "escalation": "run/escalation",
    "resume": "run/resume",
    "xdist": "run/xdist",
    "single flight": "run/single_flight",
    "results.json": "results/schema",
    "JSON Schema": "cli/schema",
    # The verdict.
    "threshold": "judge/recorded",
    "noise": "judge/noise",
    "noise table": "judge/noise_table",
    "target effect": "judge/policy",
    "regression": "judge/recorded",
    "A/B": "judge/paired",
    "baseline store": "judge/baseline_store",
    "baseline file": "judge/baseline_schema",
    "published": "judge/baseline_schema",
    "verdict": "results/verdict",
    "exit code": "judge/run_status",
    # What one reads afterwards.
    "GitHub": "report/summary",
    "annotation": "report/summary",
    "CI job": "report/summary",
    "JUnit": "report/junit",
    "HTML": "report/page",
    "SVG": "report/figures/svg",
    "CSV": "history/exports",
    "OpenMetrics": "history/exports",
    "SQLite": "history/store",
    "change point": "history/series",
}


def first_paragraphs():
    """The first paragraph of each module's docstring, by its path in perfgate/."""
    texts = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        text = (ast.get_docstring(module) or "").partition("\n\n")[0]
        name = path.relative_to(PACKAGE).with_suffix("").as_posix()
        texts[name] = " ".join(text.split())
    return texts


TEXTS = first_paragraphs()


@pytest.mark.parametrize("word", WORDS)
def test_a_word_of_the_field_finds_its_module(word):
    """It is among the modules found, and those are few."""
    pattern = re.compile(rf"(?<!\w){re.escape(word)}", re.IGNORECASE)

    found = [name for name, text in TEXTS.items() if pattern.search(text)]

    assert WORDS[word] in found
    assert MOST_MODULES >= len(found), found


def test_a_first_line_is_a_statement():
    """A question names no term to search for."""
    questions = [name for name, text in TEXTS.items() if text.endswith("?")]

    assert [] == questions
    assert [] == [name for name, text in TEXTS.items() if not text]
