"""Log of a start: the lines that a reader needs."""

from pathlib import Path

import pytest

from perfgate.engines.base import LogPhase, Remedy
from perfgate.servers.log import (
    LINE_LENGTH,
    UNKNOWN,
    LogWatch,
    diagnosis,
    first_error,
    tail,
)


def test_each_phase_is_told_once_and_in_order(tmp_path: Path) -> None:
    """Every rank logs its own loading; the first one counts."""
    log = tmp_path / "log"
    watch = LogWatch(
        log,
        (
            LogPhase("loading weights", "Loading"),
            LogPhase("capturing graphs", "Captur"),
        ),
    )

    assert [] == watch.news()

    log.write_text("INFO Loading rank 0\nINFO Loading rank 1\nCapt")

    assert [("loading weights", "INFO Loading rank 0")] == watch.news()

    with log.open("a") as more:
        more.write("uring graphs: 0%\rCapturing graphs: 50%\r")

    assert [("capturing graphs", "Capturing graphs: 0%")] == watch.news()
    assert [] == watch.news()


def test_broken_utf8_is_survived(tmp_path: Path) -> None:
    """A log may hold anything."""
    log = tmp_path / "log"
    log.write_bytes(b"\xff\xfe Loading\n")

    assert [("loading weights", "\ufffd\ufffd Loading")] == LogWatch(
        log, (LogPhase("loading weights", "Load"),)
    ).news()


def test_tail_is_the_end(tmp_path: Path) -> None:
    """The last lines, however long the log is; and a word when there are none."""
    log = tmp_path / "log"

    assert "(nothing was logged)" == tail(log, 2)

    log.write_text("x" * 400_000 + "\n" + "one\ntwo\nthree\n")

    assert "two\nthree" == tail(log, 2)


# Lines as vLLM 0.26 and 0.32, SGLang 0.5.23 and their libraries print them.
SIGNATURES = {
    (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 "
        "GiB. GPU 0 has"
    ): "do not fit",
    (
        "ValueError: No available memory for the cache blocks. Try "
        "increasing `gpu_memory_utilization`"
    ): "do not fit",
    (
        "[Errno 98] error while attempting to bind on address ('127.0.0.1', "
        "8000): address already in use"
    ): "port",
    (
        "RuntimeError: Insufficient space in /dev/shm for shared-memory message queue: "
        "160 MiB required, 64 MiB free. Increase /dev/shm (e.g. --shm-size or --ipc=host)."
    ): "--shm-size=2g",
    (
        "misc/shmutils.cc:72 NCCL WARN Error: failed to extend /dev/shm/nccl-kQ1 to "
        "33030532 bytes, error: No space left on device (28)"
    ): "--shm-size=2g",
    (
        "OSError: [Errno 28] No space left on device: "
        "'/home/user/.cache/vllm/torch_compile_cache'"
    ): "free space",
    (
        "huggingface_hub.errors.GatedRepoError: 401 Client Error. Cannot "
        "access gated repo for url"
    ): "licence",
    "The checkpoint has model type `foo` but Transformers does not recognize this architecture": (
        "does not know the model"
    ),
    (
        "Model architectures ['FooForCausalLM'] are not supported for now. "
        "Supported architectures: []"
    ): ("does not know the model"),
    "RuntimeError: Cannot find any model weights with `/models/empty`": "weights are missing",
    (
        "OSError: /models/none is not a local folder and is not a valid "
        "model identifier"
    ): "weights are missing",
    "api_server.py: error: unrecognized arguments: --no-such-flag": "--help",
    "/usr/bin/python3: No module named vllm": "not installed",
    # One that is only missed by a part of it is no reason to die.
    (
        "OpenAIServingResponses init failed (ModuleNotFoundError: No module "
        "named 'openai_harmony')"
    ): "read the log",
    "RuntimeError: The NVIDIA driver on your system is too old (found version 11040).": "driver",
}


@pytest.mark.parametrize("line", SIGNATURES)
def test_known_signature_has_its_remedy(tmp_path: Path, line: str) -> None:
    """Each known way to fail leads to what helps against it."""
    (tmp_path / "log").write_text(f"INFO 1\nTraceback\n{line}\nINFO the end\n")

    remedy, told = diagnosis(tmp_path / "log", ())

    assert SIGNATURES[line] in remedy
    assert told == ("" if remedy == UNKNOWN else line)


def test_the_engines_own_remedies_come_first(tmp_path: Path) -> None:
    """An engine knows better than the general rule."""
    (tmp_path / "log").write_text("CUDA out of memory")

    assert ("mine", "CUDA out of memory") == diagnosis(
        tmp_path / "log", (Remedy("out of memory", "mine"),)
    )


def test_unknown_signature_says_where_to_look(tmp_path: Path) -> None:
    """There is always something to do."""
    (tmp_path / "log").write_text("hello")

    assert (UNKNOWN, "") == diagnosis(tmp_path / "log", ())


def test_a_warning_and_what_was_before_are_no_cause(tmp_path: Path) -> None:
    """A warning of few descriptors, at each start, is not why a rank died."""
    log = tmp_path / "log"
    text = (
        "WARNING 11-28 Found ulimit of 20000. This can cause errors like "
        "`OSError: [Errno 24] Too many open files`.\n"
        "RuntimeError: CUDA out of memory, tried with less\n"
    )
    died = "Worker proc VllmWorker-0 died unexpectedly (exit code: -9)\n"
    log.write_text(text + died)

    assert (UNKNOWN, "") == diagnosis(log, (), from_byte=len(text))
    assert "do not fit" in diagnosis(log, ())[0]
    assert "mine" == diagnosis(log, (Remedy("Found ulimit", "mine"),))[0]


def test_a_long_line_is_quoted_in_part(tmp_path: Path) -> None:
    """An engine may add half a screen of advice."""
    (tmp_path / "log").write_text(
        f"ValueError: No available memory for the cache blocks. {'Try this. ' * 99}"
    )

    _, line = diagnosis(tmp_path / "log", ())

    assert line.startswith(
        "ValueError: No available memory for the cache blocks. Try this."
    )
    assert line.endswith(" ...")
    assert len(line) <= LINE_LENGTH


def test_the_first_error_is_the_cause(tmp_path):
    """Not what was logged before the given byte, nor a warning that quotes an error."""
    log = tmp_path / "log"
    log.write_text("ImportError: no flash attention\n")
    before = log.stat().st_size
    with log.open("a") as file:
        file.write("WARNING 12:00 retrying after ValueError: odd\n")
        file.write("API disabled: init failed (ImportError: no module)\n")
        file.write("ERROR 12:01 Worker proc VllmWorker-1 died unexpectedly\n")
        file.write("RuntimeError: Engine core initialization failed\n")

    assert "VllmWorker-1 died unexpectedly" in first_error(log, before)
    assert first_error(log).startswith("ImportError")
    assert "" == first_error(tmp_path / "none")
