"""Cuts a psql script into its units: a statement, a backslash command, or COPY with its data.

As psql reads it: quotes, dollar quotes, nested comments, parentheses and BEGIN ATOMIC keep a semicolon from ending a
statement. What is cut wrongly is still run, for the units put together are the script: only a verdict then stands for
two statements.
"""

import re

TOKEN = re.compile(
    r"""
    (?P<line>--[^\n]*)
  | (?P<comment>/\*)
  | (?P<escape>[eE]'(?:[^'\\]|\\.|'')*')
  | (?P<text>'(?:[^']|'')*')
  | (?P<name>"(?:[^"]|"")*")
  | (?P<dollar>\$(?:[A-Za-z_\x80-\U0010ffff][\w]*)?\$)
  | (?P<word>[A-Za-z_\x80-\U0010ffff][\w$]*)
  | (?P<slash>\\[^\n]*)
  | (?P<other>.)
    """,
    re.X | re.S,
)
COPY_IN = re.compile(r"\s*copy\b.*\bfrom\s+stdin\b", re.I | re.S)


def units(text):
    """The script's parts in their order; joined they are the script, but for the lines of data's end."""
    at = start = depth = atomic = 0
    blank = True
    while at < len(text):
        found = TOKEN.match(text, at)
        kind, at = found.lastgroup, found.end()
        if kind == "comment":
            at = after_comment(text, at)
        elif kind == "dollar":
            end = text.find(found.group(), at)
            at = len(text) if end < 0 else end + len(found.group())
            blank = False
        elif kind == "slash":
            # psql goes on in the same statement after some of these; the next marker then comes a unit later.
            if blank or re.match(r"\\(g|gx|gset|gexec|gdesc|crosstabview|watch|r)\b", found.group()):
                yield text[start:at] + "\n"
                start, blank, depth, atomic = at, True, 0, 0
        elif kind == "word":
            blank = False
            if re.search(r"\bbegin\s+atomic\Z", text[start:at], re.I):
                atomic = 1
            elif atomic and found.group().lower() == "case":
                atomic += 1
            elif atomic and found.group().lower() == "end":
                atomic -= 1
        elif kind == "other":
            char = found.group()
            depth = max(0, depth + (char == "(") - (char == ")"))
            blank = blank and char.isspace()
            if char == ";" and depth == 0 and not atomic:
                unit = text[start:at]
                if COPY_IN.match(without_comments(unit)):
                    end = re.compile(r"^\\\.[^\n]*$", re.M).search(text, at)
                    at = end.end() if end else len(text)
                    unit = text[start:at] + "\n"
                yield unit
                start, blank = at, True
        elif kind != "line":
            blank = False
    if text[start:].strip():
        yield text[start:]


def after_comment(text, at):
    depth = 1
    for found in re.finditer(r"/\*|\*/", text[at:]):
        depth += 1 if found.group() == "/*" else -1
        if depth == 0:
            return at + found.end()
    return len(text)


def without_comments(sql):
    return re.sub(r"--[^\n]*|/\*.*?\*/", " ", sql, flags=re.S).strip()


def with_data(text, folder):
    """COPY of a file that lies beside the scripts, as COPY from stdin: a server's file cannot be divided by a key."""
    files = {}
    out = []
    for line in text.split("\n"):
        named = re.match(r"\\set\s+(\w+)\s+:abs_srcdir\s+'(/data/[\w.]+)'", line)
        if named:
            files[named.group(1)] = named.group(2)
        copy = re.match(r"(\s*copy\s+.*\bfrom\s+):'(\w+)'(.*);\s*$", line, re.I)
        if copy and copy.group(2) in files:
            data = (folder + files[copy.group(2)]).replace("//", "/")
            try:
                rows = open(data, encoding="utf-8", errors="surrogateescape").read()
            except OSError:
                rows = None
            if rows is not None:
                line = f"{copy.group(1)}stdin{copy.group(3)};\n{rows}\\."
        out.append(line)
    return "\n".join(out)
