"""Holds an ORM program's statements through the router against those on a plain PostgreSQL.

    compare.py PROGRAM [ARGUMENT...]

PGPORT is the router's, DIRECT_PORT the plain server's. Prints a verdict for each case, `DONE n`, and a line with counts. A case
passes if every statement has the same answer on both sides, or if it ends in the refusal that `refused.json`, or the file that
REFUSED names, has for it.
"""

import collections
import json
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def main():
    program = os.path.splitext(os.path.basename(sys.argv[1]))[0]
    with open(os.environ.get("REFUSED", f"{HERE}/refused.json")) as file:
        expected = json.load(file)[program]
    plain, router = [read(process) for process in [start(os.environ["DIRECT_PORT"]), start(os.environ["PGPORT"])]]
    counts, reasons = collections.Counter(), collections.Counter()
    for name in plain:
        refusal, why = judge(plain[name], router.get(name), counts)
        if refusal:
            reasons[re.sub(r'"[^"]*"', '"…"', refusal)] += 1
        wanted = expected.get(name)
        if not why and refusal != wanted:
            why = f"refused: {refusal}" if refusal else f"no longer refused: {wanted}"
        print("FAIL" if why else "PASS", name, *(" ".join(why.split())[:900],) if why else ())
        counts["failed"] += bool(why)
    print("DONE", len(plain))
    for reason, count in reasons.most_common():
        print(f"refused {count}: {reason}")
    print(f"statements of {' '.join([program, *sys.argv[2:]])}: equal={counts['equal']} refused={sum(reasons.values())} differing={counts['differing']}")
    raise SystemExit(1 if counts["failed"] else 0)


def start(port):
    runs = "node" if sys.argv[1].endswith(".js") else sys.executable
    command = [runs, *sys.argv[1:]]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PGPORT": port, "PYTHONHASHSEED": "0"})


def read(process):
    lines = [json.loads(line) for line in process.communicate()[0].splitlines() if line.startswith(b"{")]
    return {line["case"]: line for line in lines}


def judge(plain, router, counts):
    """The message of the router's refusal and what is wrong; both None if all is equal."""
    if router is None:
        return None, "it did not run through the router"
    for at, answer in enumerate(router["statements"]):
        wanted = plain["statements"][at] if at < len(plain["statements"]) else {"sql": "nothing"}
        if answer == wanted:
            counts["equal"] += 1
        elif answer.get("error") == "0A000":
            if os.environ.get("VERBOSE"):
                print(f"    {answer['sql'][:1500]}\n    {answer['message']}: {answer.get('detail')}")
            return answer["message"], None
        else:
            counts["differing"] += 1
            return None, f"router: {json.dumps(answer)[:400]} plain: {json.dumps(wanted)[:400]}"
    if plain["returned"] != router["returned"]:
        return None, f"router returned {router['returned']}, plain {plain['returned']}"
    if len(plain["statements"]) != len(router["statements"]):
        return None, "another number of statements"
    return None, None


main()
