"""PostgreSQL's operators, and chains of them without parentheses.

One name for each operator or form of PostgreSQL's precedence table
(https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-PRECEDENCE), with the text that stands
before, between or behind operands.
"""

# name -> text; `{}` is an operand.
PREFIX = {
    'NOT': 'NOT', 'u+': '+', 'u-': '-', '@u': '@', '~u': '~', '|/': '|/', '||/': '||/', '!!': '!!', '<%>u': '<%>',
    '#u': '#', '@@u': '@@', 'OPERATORu': 'OPERATOR(pg_catalog.-)',
}
INFIX = {
    'OR': 'OR', 'AND': 'AND',
    '<': '<', '>': '>', '=': '=', '<=': '<=', '>=': '>=', '<>': '<>', '!=': '!=',
    'LIKE': 'LIKE', 'NOT LIKE': 'NOT LIKE', 'ILIKE': 'ILIKE', 'NOT ILIKE': 'NOT ILIKE',
    'SIMILAR TO': 'SIMILAR TO', 'NOT SIMILAR TO': 'NOT SIMILAR TO', 'LIKE ESCAPE': "LIKE {} ESCAPE",
    'BETWEEN': 'BETWEEN {} AND', 'NOT BETWEEN': 'NOT BETWEEN {} AND',
    'NOT BETWEEN SYMMETRIC': 'NOT BETWEEN SYMMETRIC {} AND',
    'BETWEEN SYMMETRIC': 'BETWEEN SYMMETRIC {} AND', 'BETWEEN ASYMMETRIC': 'BETWEEN ASYMMETRIC {} AND',
    'IS DISTINCT FROM': 'IS DISTINCT FROM', 'IS NOT DISTINCT FROM': 'IS NOT DISTINCT FROM',
    '||': '||', '->': '->', '->>': '->>', '#>': '#>', '#>>': '#>>', '#-': '#-', '@>': '@>', '<@': '<@', '?': '?',
    '?|': '?|', '?&': '?&', '@?': '@?', '@@': '@@', '&&': '&&', '~': '~', '~*': '~*', '!~': '!~', '!~*': '!~*',
    '~~': '~~', '!~~*': '!~~*', '|': '|', '&': '&', '#': '#', '<<': '<<', '>>': '>>', '<->': '<->', '^@': '^@',
    '<%>': '<%>', '-|-': '-|-', '&<': '&<', '##': '##', '~=': '~=', '@+': '@+', '==': '==', '**': '**', '%%': '%%',
    'OPERATOR': 'OPERATOR(pg_catalog.+)', 'OPERATOR=': 'OPERATOR(=)',
    '+': '+', '-': '-', '*': '*', '/': '/', '%': '%', '^': '^', 'AT TIME ZONE': 'AT TIME ZONE',
}
POSTFIX = {
    'IS NULL': 'IS NULL', 'IS NOT NULL': 'IS NOT NULL', 'ISNULL': 'ISNULL', 'NOTNULL': 'NOTNULL',
    'IS TRUE': 'IS TRUE', 'IS NOT TRUE': 'IS NOT TRUE', 'IS FALSE': 'IS FALSE', 'IS NOT FALSE': 'IS NOT FALSE',
    'IS UNKNOWN': 'IS UNKNOWN', 'IS NOT UNKNOWN': 'IS NOT UNKNOWN',
    'IS DOCUMENT': 'IS DOCUMENT', 'IS NORMALIZED': 'IS NORMALIZED', 'IS NFC NORMALIZED': 'IS NOT NFC NORMALIZED',
    'IS JSON': 'IS JSON', 'IS JSON OBJECT': 'IS NOT JSON OBJECT WITH UNIQUE KEYS',
    'IN': 'IN ({}, {})', 'NOT IN': 'NOT IN ({})', 'IN SELECT': 'IN (SELECT id FROM u)',
    'NOT IN SELECT': 'NOT IN (SELECT id FROM u)',
    '= ANY': '= ANY ({})', '<> ALL': '<> ALL (ARRAY[1, 2])', '< SOME': '< SOME (SELECT 1)',
    'LIKE ANY': 'LIKE ANY ({})', '+ ANY': '+ ANY ({})', 'OPERATOR ANY': 'OPERATOR(pg_catalog.=) ANY ({})',
    'COLLATE': 'COLLATE "C"', 'AT LOCAL': 'AT LOCAL', '::': '::int', '::[]': '::int[]', '[]': '[1]', '[:]': '[1:2]',
    '.': '.f', '.*': '.*',
}
# Rows on both sides, so no operand of another operator can stand there.
OVERLAPS = 'OVERLAPS'

NAMES = list(PREFIX) + list(INFIX) + list(POSTFIX) + [OVERLAPS]
PAIRS = [(a, b) for a in NAMES for b in NAMES]


class Chain:
    """Operators one after the other; operands come from `atom`."""

    def __init__(self, atom, pairs):
        self.atom = atom
        self.pairs = pairs

    def text(self, operators, connect='='):
        """The chain's text. Counts its pairs. A prefix behind a complete operand needs an operator between:
        `connect`, which is not counted as one of the pair."""
        out = []
        complete = False
        before = None
        for name in operators:
            if name in PREFIX:
                if complete:
                    out.append(connect)
                out.append(PREFIX[name])
                complete = False
            elif name == OVERLAPS:
                out.append(('' if complete else '(a, b) ') + 'OVERLAPS (a, b)')
                complete = True
            elif name in INFIX:
                if not complete:
                    out.append(self.atom())
                out.append(self.fill(INFIX[name]))
                complete = False
            else:
                if not complete:
                    # Subscripts and fields stand behind a column, a parameter or parentheses only.
                    out.append(self.column() if name in ('[]', '[:]', '.', '.*') else self.atom())
                text = self.fill(POSTFIX[name])
                if name in ('[]', '[:]', '.', '.*', '::', '::[]'):
                    out[-1] += text
                else:
                    out.append(text)
                complete = True
            if before is not None:
                self.pairs[(before, name)] += 1
            before = name
        if not complete:
            out.append(self.atom())
        return ' '.join(out)

    def column(self):
        return self.atom.__self__.indirectable() if hasattr(self.atom, '__self__') else 'a'

    def fill(self, text):
        while '{}' in text:
            text = text.replace('{}', self.atom(), 1)
        return text
