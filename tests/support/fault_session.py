"""A session that is killed, for tests of what happens to its servers.

A stand-in for pytest, small enough to be killed many times: a pool, one server,
requests one after another. It prints what it is at, one word a line:
"starting", "loaded", and for each answer "measured".

    python tests/support/fault_session.py FOLDER PORT LEASE_WAIT_S COMMAND...
"""

import faulthandler
import http.client
import json
import signal
import sys
import time
from pathlib import Path

from perfgate.engines.base import LaunchPlan
from perfgate.machine.leases import CPU, acquire
from perfgate.servers.pool import ServerPool


def say(text: str) -> None:
    """One line on stdout, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def request(port: int) -> None:
    """One completion, read to its end; a broken one is an error."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = {
        "model": "m",
        "prompt": [1, 2, 3],
        "max_tokens": 16,
        "stream": True,
        "ignore_eos": True,
    }
    connection.request(
        "POST",
        "/v1/completions",
        json.dumps(body),
        {"content-type": "application/json"},
    )
    connection.getresponse().read()
    connection.close()


def main() -> None:
    """Lease, launch, ask until told otherwise."""
    folder, port, wait_s, *command = sys.argv[1:]
    plan = LaunchPlan(
        "session",
        tuple(command),
        (),
        "127.0.0.1",
        int(port),
        "/health",
        (),
        (),
        120.0,
    )
    with (
        acquire(
            [CPU],
            1,
            wait_s=float(wait_s),
            hold_s=600,
            progress=say,
            folder=Path(folder, "leases"),
        ) as lease,
        ServerPool(
            log_dir=Path(folder, "logs"), progress=say, lease=lease
        ) as pool,
    ):
        say("starting")
        pool.get(plan)
        say("loaded")
        while True:
            request(int(port))
            with Path(folder, "measured").open("a") as results:
                results.write("measured\n")
            say("measured")
            time.sleep(0.01)


if __name__ == "__main__":
    faulthandler.register(signal.SIGUSR1)  # for whoever waits in vain
    # A shell ignores it for what it starts in the background, and so would all
    # that is started there.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main()
