"""Plays the cases of an ORM program on one server and writes down every statement that the ORM sends, with its answer.

A case is a function; what it returns is compared as well. Its statements are recorded below the ORM, in psycopg's cursor:
text, tag, columns with their types, rows as bytes, or the error.
"""

import hashlib
import json
import os
import re
import sys

import psycopg

USER_TYPE = 16384
_cases = []
_statements = []


def case(function):
    _cases.append(function)
    return function


def recording(base):
    """A cursor class that records what `base` executes."""

    class Recording(base):
        def execute(self, query, params=None, **more):
            return _recorded(self, query, lambda: base.execute(self, query, params, **more))

        def executemany(self, query, params_seq, **more):
            return _recorded(self, query, lambda: base.executemany(self, query, list(params_seq), **more))

    return Recording


def _recorded(cursor, query, act):
    text = query if isinstance(query, str) else query.as_string(cursor)
    # Django names savepoints by the thread.
    text = re.sub(r'"s\d+_x', '"s_x', " ".join(text.split()))
    try:
        done = act()
    except psycopg.Error as error:
        message = error.diag.message_primary or str(error)
        _statements.append({"sql": text, "error": error.sqlstate, "message": message, "detail": error.diag.message_detail})
        raise
    _statements.append({"sql": text, **_answer(cursor, text)})
    return done


def _answer(cursor, text):
    result = cursor.pgresult
    columns = [
        (result.fname(at).decode(), result.ftype(at) if result.ftype(at) < USER_TYPE else "user", result.fmod(at))
        for at in range(result.nfields)
    ]
    rows = [
        [None if (value := result.get_value(row, at)) is None else value.hex() for at in range(result.nfields)]
        for row in range(result.ntuples)
    ]
    # Which order is to be the same, the value of the case says: few of the statements sort by what is unique.
    rows.sort(key=repr)
    if "pg_catalog" in text or text.startswith("EXPLAIN"):
        # Catalogs are full of object ids, which no two servers share, and plans of shards are others.
        rows = []
    digest = hashlib.sha256(repr(rows).encode()).hexdigest()[:16]
    return {"tag": (result.command_status or b"").decode(), "columns": columns, "rows": digest, "first": rows[:3]}


def play():
    """Runs all cases; one line of JSON for each, in their order."""
    for function in _cases:
        _statements.clear()
        try:
            returned = {"value": repr(function())}
        except Exception as error:  # A refusal comes as any error of the ORM.
            returned = {"raised": type(error).__name__, "why": " ".join(str(error).split())[:300]}
        print(json.dumps({"case": function.__name__, "returned": returned, "statements": _statements}))
    sys.stdout.flush()


def login():
    return dict(
        host=os.environ["PGHOST"],
        port=int(os.environ["PGPORT"]),
        user=os.environ["PGUSER"],
        password=os.environ["PGPASSWORD"],
        dbname=os.environ["PGDATABASE"],
    )
