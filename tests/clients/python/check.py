"""What the Python client programs share: where to connect, and how a verdict is printed.

A check is a function; its name is the claim. `run()` prints `PASS name` or `FAIL name why` for each, then
`DONE n`, by which the runner sees that none is missing.
"""

import asyncio
import inspect
import itertools
import os
import time

HOST = os.environ["PGHOST"]
PORT = int(os.environ["PGPORT"])
USER = os.environ["PGUSER"]
PASSWORD = os.environ["PGPASSWORD"]
DATABASE = os.environ["PGDATABASE"]

# Not ASCII, not of one byte width, with a quote and a backslash.
TEXT = "naïve 'čaj' \\ 日本 🚀"
LIMIT = 20.0

_checks = []
_number = itertools.count(1)


def check(function):
    _checks.append(function)
    return function


def fresh(kind):
    """A name that nobody else uses."""
    return f"{kind}_{os.getpid()}_{next(_number)}"


def poll(condition):
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, f"not within {LIMIT} s"
        time.sleep(0.01)


async def poll_async(condition):
    deadline = time.monotonic() + LIMIT
    while not await condition():
        assert time.monotonic() < deadline, f"not within {LIMIT} s"
        await asyncio.sleep(0.01)


def run():
    failed = 0
    for function in _checks:
        name = function.__name__
        try:
            if inspect.iscoroutinefunction(function):
                asyncio.run(asyncio.wait_for(function(), 2 * LIMIT))
            else:
                function()
            print("PASS", name, flush=True)
        except Exception as error:  # A check may fail in any way; all are one line.
            failed += 1
            why = " ".join(f"{type(error).__name__}: {error}".split())
            print("FAIL", name, why[:300], flush=True)
    print("DONE", len(_checks), flush=True)
    raise SystemExit(1 if failed else 0)
