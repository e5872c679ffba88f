"""Compares what the planner understands of statements with PostgreSQL's own grammar.

Of each statement `parse-trees` prints the tree that the planner plans by, with every parenthesis written. If PostgreSQL's
grammar (pglast, which is PostgreSQL's parser as a library) sees the same tree in the print and in the statement, the two
readers agree; what the planner refuses cannot mislead it. Differences are failures. See CONTRIBUTING.md.

    grammar.py PARSE-TREES [--count N] [--seed N] [--jobs N] [--least N] [--cases FILE]
"""

import argparse
import collections
import inspect
import json
import multiprocessing
import random
import re
import subprocess
import sys
import threading

from pglast import ast, parser

import expressions
import nodes
import operators
import statements

BATCH = 500
# So many statements are generated together.
SHARE = 5000
# Where a node stands in the text says nothing of the tree.
PLACES = re.compile(r',?"(?:\w*location|stmt_len|\w*list_start|\w*list_end)":-?\d+')
KINDS_OF_NODES = re.compile(r'"([A-Z]\w*)":\{|"([a-z]\w+)":(?:"([A-Z]\w+)"|)')
# Nodes that stand in a field of their own type are not named in the JSON form.
BY_FIELD = {
    'alias': 'Alias', 'over': 'WindowDef', 'typeName': 'TypeName', 'argType': 'TypeName', 'withClause': 'WithClause', 'onConflictClause': 'OnConflictClause',
    'infer': 'InferClause', 'intoClause': 'IntoClause', 'into': 'IntoClause', 'search_clause': 'CTESearchClause', 'cycle_clause': 'CTECycleClause',
    'output': 'JsonOutput', 'format': 'JsonFormat', 'returning': 'JsonReturning', 'on_error': 'JsonBehavior', 'on_empty': 'JsonBehavior',
    'pathspec': 'JsonTablePathSpec', 'constructor': 'JsonAggConstructor', 'returningClause': 'ReturningClause', 'stmts': 'RawStmt',
    'partspec': 'PartitionSpec', 'partbound': 'PartitionBoundSpec', 'bound': 'PartitionBoundSpec',
}
WORDS = set(nodes.WANTED + nodes.VALUES)
# What the planner's reading leaves out on purpose: ONLY, OVERRIDING, LIMIT ALL, and that a call was written in words of
# the grammar, which only a view's definition shows. See `normalised` in router/plan/src/parse.rs and `grammar.rs` there.
MEANT = [
    (re.compile(r',?"inh":true'), ''),
    (re.compile(r'OVERRIDING_SYSTEM_VALUE'), 'OVERRIDING_NOT_SET'),
    (re.compile(r',?"limitCount":\{"A_Const":\{"isnull":true\}\}'), ''),
    (re.compile(r'LIMIT_OPTION_COUNT'), 'LIMIT_OPTION_DEFAULT'),
    (re.compile(r'COERCE_SQL_SYNTAX'), 'COERCE_EXPLICIT_CALL'),
]
# `SET column[1] = ...`.
ELEMENT = re.compile(r'"ResTarget":\{"name":"(?:[^"\\]|\\.)*","indirection":\[\{"A_Indices"')
HOLDERS = {'ExplainStmt': 'query', 'PrepareStmt': 'query', 'DeclareCursorStmt': 'query', 'CopyStmt': 'query'}


def parsed(sql):
    """PostgreSQL's tree in JSON without places; None if it refuses the text."""
    try:
        return PLACES.sub('', parser.parse_sql_json(sql))
    except parser.ParseError:
        return None


def inner(tree):
    """The statement inside of EXPLAIN, PREPARE, DECLARE and COPY, as a tree of its own."""
    while tree.startswith(('{"version":', '{"stmts"')) and any(f'"stmt":{{"{holder}"' in tree for holder in HOLDERS):
        whole = json.loads(tree.replace('{,', '{'))
        statement = whole['stmts'][0]['stmt']
        (kind, fields), = statement.items()
        if kind not in HOLDERS or HOLDERS[kind] not in fields:
            return tree
        whole['stmts'][0]['stmt'] = fields[HOLDERS[kind]]
        tree = json.dumps(whole, separators=(',', ':'), ensure_ascii=False)
    return tree


def same(one, other):
    """Whether two trees are the same to the planner."""
    if one == other:
        return True
    for pattern, instead in MEANT:
        one, other = pattern.sub(instead, one), pattern.sub(instead, other)
    one, other = one.replace('{,', '{'), other.replace('{,', '{')
    return one == other or json.loads(one) == json.loads(other)


def kinds_in(tree):
    """The kinds of nodes of a tree, and the values that say what a node is."""
    found = set()
    for kind, field, value in KINDS_OF_NODES.findall(tree):
        found.update((kind, field, value, BY_FIELD.get(field, '')))
    return found & WORDS


class Reader:
    """The planner's reading, asked of a process."""

    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, batch):
        """For each statement: its verdict, our tokens, and the print, empty if refused."""
        text = '\0'.join(batch) + '\0'
        writer = threading.Thread(target=self._write, args=(text.encode(),))
        writer.start()
        rest = b''
        answers = []
        while len(answers) < len(batch):
            piece = self.process.stdout.read1(1 << 20)
            if not piece:
                raise RuntimeError('parse-trees ended: ' + repr(batch[len(answers)]))
            *whole, rest = (rest + piece).split(b'\0')
            answers.extend(whole)
        writer.join()
        return [answer.decode().split('\t', 2) for answer in answers]

    def _write(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()


class Tally:
    """What was seen."""

    def __init__(self):
        self.statements = 0
        self.outcomes = collections.Counter()
        self.nodes = {'equal': collections.Counter(), 'refused': collections.Counter(), 'other': collections.Counter()}
        self.pairs = collections.Counter()
        self.pairs_equal = collections.Counter()
        self.differences = []
        self.accepted = collections.Counter()
        self.examples = {}

    def add(self, other):
        self.statements += other.statements
        self.outcomes += other.outcomes
        for outcome, counts in other.nodes.items():
            self.nodes[outcome] += counts
        self.pairs += other.pairs
        self.pairs_equal += other.pairs_equal
        self.differences += other.differences
        self.accepted += other.accepted
        for key, example in other.examples.items():
            self.examples.setdefault(key, example)


def tokens_of(sql):
    """PostgreSQL's tokens without comments, as parse-trees writes ours. Of ASCII texts: places are bytes there."""
    out = []
    national = False
    for token in parser.scan(sql):
        if token.name.endswith('_COMMENT'):
            continue
        # N'x' is two tokens there and one here.
        start = out.pop()[0] if national and token.name == 'SCONST' and token.start == out[-1][1] else token.start
        out.append((start, token.end + 1))
        national = token.name == 'NCHAR' and token.start == token.end
    return ''.join(f'{start}-{end} ' for start, end in out)


def judge(sql, answer, tally):
    """One statement: what came of it."""
    verdict, ours, form = answer
    tree = parsed(sql)
    if tree is None:
        outcome = 'refused by PostgreSQL'
        # The client's own bytes reach a server, which says so. It matters only where we would act ourselves.
        if form:
            outcome += ', read by us'
            tally.accepted[verdict] += 1
            tally.examples.setdefault(('accepted', verdict), sql)
        tally.outcomes[outcome] += 1
        return outcome
    found = kinds_in(tree)
    if not form:
        outcome = 'refused by us' if verdict != 'T' else 'not parsed by us'
        tally.nodes['refused'].update(found)
        if verdict == 'P':
            outcome = 'planned without a print'
            # What an index is known by beside its columns, and an element that SET gives a value, have marks in our tree:
            # servers get the client's own bytes.
            if 'InferClause' not in found and not ELEMENT.search(tree):
                tally.differences.append((outcome, sql, ''))
    else:
        again = parsed(form)
        if sql.isascii() and ours != tokens_of(sql):
            outcome = 'other tokens'
            tally.differences.append((outcome, sql, ours + '| ' + tokens_of(sql)))
        elif again is not None and same(inner(tree), again):
            outcome = 'equal'
            tally.nodes['equal'].update(found)
        else:
            outcome = 'different' if again is not None else 'print refused by PostgreSQL'
            tally.nodes['other'].update(found)
            if len(tally.differences) < 2000:
                tally.differences.append((outcome, sql, form))
    tally.outcomes[outcome] += 1
    return outcome


def generated(seed, share, of, count, least):
    """Statements, each with the pairs of operators in it."""
    rng = random.Random(f'{seed}/{share}')
    pairs = collections.Counter()
    make = statements.Statements(rng, pairs)

    def one(write):
        pairs.clear()
        make.depth = 0
        return write(), dict(pairs)

    made = 0
    if share == 0:
        yield from ((text, {}) for text in statements.RARE)
    # Pairs first alone, then in longer chains, until each has come often enough.
    mine = [pair for index, pair in enumerate(operators.PAIRS) if index % of == share]
    todo = {pair: least for pair in mine}
    chain = lambda names: lambda: make.selected(make.chain.text(names, make.pick('=', 'AND', 'OR', '+')))
    rounds = 0
    while todo and made < count * 3 // 4:
        for pair in list(todo):
            names = list(pair)
            if rounds > least // 10:
                # A third and a fourth operator, so that more pairs are met at once.
                names = [pair[0], pair[1], *random_next(rng, todo, pair[1])]
            text, met = one(chain(names))
            yield text, met
            made += 1
            for name in met:
                if name in todo:
                    todo[name] -= met[name]
                    if todo[name] <= 0:
                        del todo[name]
        rounds += 1
    kinds = expressions.KINDS + [expressions.Expressions.foreign] * 15 + [expressions.Expressions.value_function] * 3
    whole = statements.KINDS + [statements.Statements.foreign_writes] * 10 + [
        statements.Statements.label, statements.Statements.word_as_column, statements.Statements.word_as_table, statements.Statements.word_as_function] * 5
    at = 0
    while made < count:
        at += 1
        if at % 2:
            kind = whole[at // 2 % len(whole)]
            yield one(lambda: kind(make))
        else:
            kind = kinds[at // 2 % len(kinds)]
            yield one(lambda: make.selected(kind(make)))
        made += 1


def random_next(rng, todo, last):
    """Operators to go on with."""
    first = rng.choice(operators.NAMES)
    return [first] if rng.random() < 0.5 else [first, rng.choice(operators.NAMES)]


def work(arguments):
    program, seed, share, of, count, least = arguments
    reader = Reader(program)
    tally = Tally()
    batch = []

    def judged():
        for (sql, pairs), answer in zip(batch, reader.ask([sql for sql, _ in batch])):
            tally.statements += 1
            outcome = judge(sql, answer, tally)
            tally.pairs.update(pairs)
            if outcome == 'equal':
                tally.pairs_equal.update(pairs)
        batch.clear()

    for item in generated(seed, share, of, count, least):
        batch.append(item)
        if len(batch) == BATCH:
            judged()
    if batch:
        judged()
    return tally


def cases(program, files):
    """The statements of the planner's cases."""
    tally = Tally()
    reader = Reader(program)
    texts = []
    for file in files:
        with open(file, encoding='utf-8') as lines:
            for line in lines:
                line = line.rstrip('\n')
                if line.strip() and not line.startswith(('#', '    ')):
                    texts.append(line.replace('\\n', '\n'))
    for sql, answer in zip(texts, reader.ask(texts)):
        tally.statements += 1
        judge(sql, answer, tally)
    return tally


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument('program')
    arguments.add_argument('--count', type=int, default=1_000_000)
    arguments.add_argument('--seed', type=int)
    arguments.add_argument('--jobs', type=int, default=multiprocessing.cpu_count())
    arguments.add_argument('--least', type=int, default=100)
    arguments.add_argument('--least-pairs', type=int)
    arguments.add_argument('--show', type=int, default=20)
    arguments.add_argument('--cases', nargs='*', default=[])
    options = arguments.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    pairs = options.least_pairs or options.least
    version = '.'.join(map(str, parser.get_postgresql_version()))
    print(f'grammar: seed {seed}, {options.count} statements, PostgreSQL {version}', flush=True)

    of_cases = cases(options.program, options.cases)
    # Small shares, so that what is found is shown soon. A share's statements depend on the seed and its number alone.
    shares = max(options.jobs, options.count // SHARE)
    share = [(options.program, seed, index, shares, options.count // shares, pairs) for index in range(shares)]
    shown = 0
    with multiprocessing.Pool(options.jobs) as pool:
        tally = Tally()
        for one in pool.imap_unordered(work, share):
            for outcome, sql, form in one.differences[:max(options.show - shown, 0)]:
                shown += 1
                print(f'{outcome}:\n  {sql!r}\n  {form!r}')
            tally.add(one)
            print(f'{tally.statements} statements, {tally.outcomes["equal"]} equal, {len(tally.differences)} differences', flush=True)
    for title, some in (('cases', of_cases), ('generated', tally)):
        print(f'{title}: {some.statements} statements')
        for outcome, number in sorted(some.outcomes.items()):
            print(f'  {number:8} {outcome}')
    tally.add(of_cases)

    failed = False

    def verdict(name, wrong, why=''):
        nonlocal failed
        failed |= bool(wrong)
        print(f'FAIL grammar/{name} {why}' if wrong else f'PASS grammar/{name}')

    print(f'{"node":28}{"equal":>10}{"refused":>10}')
    rare = []
    for name in nodes.WANTED + nodes.VALUES:
        counts = [tally.nodes[outcome][name] for outcome in ('equal', 'refused', 'other')]
        print(f'{name:28}{counts[0]:10}{counts[1]:10}')
        if sum(counts) < options.least:
            rare.append(f'{name} ({sum(counts)})')
    missing = [pair for pair in operators.PAIRS if tally.pairs[pair] < pairs]
    compared = sum(1 for pair in operators.PAIRS if tally.pairs_equal[pair])
    print(f'pairs of operators: {len(operators.PAIRS)}, each at least {min(tally.pairs[pair] for pair in operators.PAIRS)} times; '
          f'{compared} of them in statements that were compared and equal, the others are always refused')
    for key, number in sorted(tally.accepted.items()):
        print(f'read by us, refused by PostgreSQL: {number} with plan {key}, such as {tally.examples["accepted", key]!r}')
    for outcome, sql, form in of_cases.differences[:options.show]:
        print(f'{outcome}:\n  {sql!r}\n  {form!r}')

    classes = [name for name, one in vars(ast).items() if inspect.isclass(one) and issubclass(one, ast.Node)]
    unknown = nodes.unknown(classes)
    verdict('classes', unknown, f'in no list or in two: {" ".join(unknown)}')
    verdict('nodes', rare, f'fewer than {options.least}: {" ".join(rare)}')
    verdict('pairs', missing, f'{len(missing)} pairs fewer than {pairs} times, such as {missing[:3]}')
    verdict('cases', of_cases.differences, f'{len(of_cases.differences)} cases are read otherwise')
    verdict('trees', len(tally.differences) > len(of_cases.differences), f'{len(tally.differences)} statements are read otherwise')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
