"""Checks that do the same on a plain PostgreSQL and through the router, and hold the answers together.

A check is a function of a port which returns what it got; `both` plays it on either side. Values are compared as they are
written, with their types: so a minus zero is no zero, `NaN` is itself, and `1` is not `True`.
"""

import datetime
import decimal
import functools
import inspect
import os
import uuid

from check import PORT, TEXT, check

DIRECT = int(os.environ["DIRECT_PORT"])
UTC = datetime.timezone.utc
NAN = float("nan")
INF = float("inf")


def both(act):
    """What `act` gives on the plain server it has to give through the router."""
    if inspect.iscoroutinefunction(act):

        @functools.wraps(act)
        async def compared():
            same(await act(DIRECT), await act(PORT))
    else:

        @functools.wraps(act)
        def compared():
            same(act(DIRECT), act(PORT))

    return check(compared)


def same(wanted, got):
    wanted, got = shown(wanted), shown(got)
    if wanted == got:
        return
    at = next((i for i, (a, b) in enumerate(zip(wanted, got)) if a != b), min(len(wanted), len(got)))
    begin = max(0, at - 60)
    raise AssertionError(f"router: …{got[begin:at + 80]}… plain: …{wanted[begin:at + 80]}…")


def shown(value):
    """A value as it is written; what is between a time and the next comparison is no part of it."""
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return f"[{', '.join(shown(one) for one in value)}]"
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return f"at {value.astimezone(UTC).isoformat()}"
    return f"{type(value).__name__} {value!r}"


def at(*fields):
    return datetime.datetime(*fields)


def at_utc(*fields):
    return datetime.datetime(*fields, tzinfo=UTC)


def decimals(*texts):
    return [decimal.Decimal(text) for text in texts]


# What each column is given, beside NULL. Times have milliseconds, and numerics 34 digits: more is refused. To asyncpg the first
# day and the last one are infinities.
VALUES = {
    "bo": [True, False],
    "i2": [0, 7, -(2**15), 2**15 - 1],
    "i4": [0, -1, 40_000, -(2**31), 2**31 - 1],
    "i8": [0, 5, -70_000, 2**31, -(2**63), 2**63 - 1],
    "f4": [0.0, -0.0, 1.5, -0.25, 2.0**120, NAN, INF, -INF],
    "f8": [0.0, -0.0, 0.1, -1e300, 5e-324, 1.7976931348623157e308, NAN, INF, -INF],
    "nu": decimals("0", "0.00", "-1.50", "12345678901234567890.123456789", "-0.000000000000000000001", "NaN", "Infinity",
                   "-Infinity", "9999999999999999999999999999999999"),
    "te": ["", TEXT, "a\tb\nc", "x" * 5000, "{}", "NULL"],
    "vc": ["", "日本 🚀", "1234567890"],
    "uu": [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), uuid.UUID("12345678-1234-4234-8234-123456789abc")],
    "by": [b"", bytes(range(256)), b"\\x00"],
    "tz": [at_utc(1970, 1, 1), at_utc(2024, 2, 29, 12, 30, 45, 678_000), at_utc(1899, 12, 31, 23, 59, 59, 1000), at_utc(9999, 12, 31)],
    "ts": [at(1970, 1, 1), at(2024, 2, 29, 12, 30, 45, 678_000), at(1, 1, 2), at(1969, 12, 31, 23, 59, 59, 999_000)],
    "da": [datetime.date(1970, 1, 1), datetime.date(2000, 2, 29), datetime.date(1, 1, 2), datetime.date(1969, 12, 31), datetime.date(9999, 12, 30)],
    "ob": ["65a1b2c3d4e5f60718293a4b", "ffffffffffffffffffffffff"],
    "bos": [[True, None, False]],
    "i4s": [[], [1, None, -(2**31)]],
    "i8s": [[2**40, -1]],
    "f8s": [[0.5, NAN, -INF, None]],
    "nus": [decimals("1.50", "-7")],
    "tes": [["", "a,b", '"q"', None, "\\", "NULL", TEXT]],
    "uus": [[uuid.UUID(int=1), None]],
    "tzs": [[at_utc(2024, 1, 2, 3, 4, 5), None]],
    "das": [[datetime.date(1999, 12, 31)]],
}
DOCUMENTS = [{}, [], {"a": [1, None, TEXT, {"b": True}], "longer": 1.5, "z": "é"}, [1, "x", None], "text", 12.5, True, -7, 2**40]
# Rows that queries are asked of: number, kind, i4, nu, te, da.
ROWS = [
    (n, ["plain", "rare", "odd", "unknown"][n % 4], None if n % 7 == 0 else n * 3 - 20, decimal.Decimal(n) / 4 if n % 5 else None,
     f"t{n % 6}é" if n % 3 else None, datetime.date(1969, 12, 20) + datetime.timedelta(days=n))
    for n in range(1, 41)
]
