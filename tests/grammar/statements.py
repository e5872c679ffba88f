"""Statements of every kind around random expressions. Each function of `KINDS` writes one kind."""

from pglast import keywords

import expressions

KEYWORDS = sorted(keywords.RESERVED_KEYWORDS | keywords.TYPE_FUNC_NAME_KEYWORDS | keywords.COL_NAME_KEYWORDS
                  | keywords.UNRESERVED_KEYWORDS)
# Words that the parser knows from other databases, or that end an expression there.
OTHER_WORDS = '''qualify minus sort cluster distribute connect prewhere settings format top limit_by percent pivot unpivot
match_recognize anti semi asof global outer_apply apply straight_join use force ignore at version sample lateral_view
stage exclude replace rename except ilike final start prior tablesample bernoulli on sets with_ordinality'''.split()
TABLES = ['t', 't', 't', 'u', 'p', 'r', 'public.t', 's', '"t"', 'T', 'sv', 'app.t', 'nokey', 'tv', '"My Table"', 'db.public.t']

# One of each of the rarer nodes, in every run however short.
RARE = [
    "WITH RECURSIVE x AS (SELECT 1 AS id) SEARCH DEPTH FIRST BY id SET o CYCLE id SET c USING p SELECT * FROM x",
    "DELETE FROM t WHERE CURRENT OF c", "SELECT GROUPING(a) FROM t GROUP BY (), ROLLUP (a), CUBE (b), GROUPING SETS ((a), (b))",
    "INSERT INTO t (id) OVERRIDING USER VALUE VALUES (1) ON CONFLICT (id) DO NOTHING",
    "INSERT INTO t (id) OVERRIDING SYSTEM VALUE VALUES (1) ON CONFLICT (id) DO UPDATE SET a = 1",
    "SELECT a INTO n FROM t", "SELECT json_arrayagg(a ORDER BY b), json_objectagg('a' : b), json_array(1, 2), json_array(SELECT 1) FROM t",
    "SELECT json_object('a' : 1 FORMAT JSON RETURNING jsonb), json('{}'), json_scalar(1), json_serialize(a) FROM t",
    "SELECT json_exists(a, '$' PASSING 1 AS x ERROR ON ERROR), json_value(a, '$'), json_query(a, '$') FROM t",
    "SELECT * FROM json_table(a, '$' COLUMNS (x int)), xmltable('/a' PASSING b COLUMNS c int)",
    "MERGE INTO t USING u ON true WHEN MATCHED THEN UPDATE SET a = 1 WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (1) "
    "WHEN NOT MATCHED BY SOURCE THEN DO NOTHING RETURNING merge_action()",
    "SELECT greatest(a), least(b), f(x => 1), nullif(a, b), row_number() OVER (), ARRAY(SELECT 1), a < ALL (SELECT 1) FROM t",
    "UPDATE t SET (a, b) = (SELECT 1, 2) RETURNING WITH (OLD AS o) o.a", "SELECT * FROM t TABLESAMPLE system (10)",
    "DECLARE c CURSOR FOR SELECT 1", "EXPLAIN SELECT 1", "PREPARE p AS SELECT 1", "COPY t FROM STDIN WITH (FORMAT csv)",
    "CREATE TABLE n AS SELECT 1", "CREATE TABLE n (a int PRIMARY KEY, LIKE t) PARTITION BY HASH (a)",
    "CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)", "CREATE INDEX ON t (a)", "ALTER TABLE p ATTACH PARTITION x DEFAULT",
    "TRUNCATE t", "SET a.b = 1", "SELECT * FROM t FULL JOIN u USING (id) RIGHT JOIN r USING (id)",
    "SELECT 1 INTERSECT SELECT 2 EXCEPT SELECT 3", "SELECT * FROM t ORDER BY a FETCH FIRST 1 ROW WITH TIES",
    "SELECT * FROM t FOR KEY SHARE", "SELECT * FROM t FOR SHARE NOWAIT", "SELECT * FROM t FOR NO KEY UPDATE SKIP LOCKED",
    "SELECT * FROM t FOR UPDATE", "WITH x AS MATERIALIZED (SELECT 1), y AS NOT MATERIALIZED (SELECT 2) SELECT 1",
    "SELECT xmlconcat(a), xmlelement(name x), xmlforest(a), xmlparse(CONTENT a), xmlpi(name x), xmlroot(a, version no value), "
    "xmlserialize(CONTENT a AS text), a IS DOCUMENT FROM t",
    "SELECT current_date, current_time, current_time(1), current_timestamp, current_timestamp(1), localtime, localtime(1), "
    "localtimestamp, localtimestamp(1), current_role, current_user, user, session_user, current_catalog, current_schema",
]


class Statements(expressions.Expressions):
    """Random statements; expressions in them have queries of the same kind."""

    def query(self):
        """A query as a subquery."""
        if self.depth > 3:
            return self.pick('SELECT 1', 'SELECT id FROM u', 'SELECT a FROM t WHERE id = 5')
        self.depth += 2
        at = self.random.random()
        text = self.select() if at < 0.8 else self.set_operation() if at < 0.9 else self.values()
        self.depth -= 2
        return text

    # ---- FROM

    def table(self):
        return self.pick('t', 'u', 't', 'r', 'p') if self.chance(0.8) else self.pick(*TABLES)

    def alias(self):
        return self.pick('', '', ' x', ' AS y', ' AS "T"', ' AS x(id, a)', ' x (k)')

    def relation(self):
        at = self.random.random()
        if at < 0.75 or self.depth > 3:
            return self.table() + self.alias()
        if at < 0.85:
            return f'({self.query()}){self.pick(" x", " AS x", " AS x(id, a)", "")}'
        if at < 0.95:
            return self.join(parenthesised=True)
        return self.pick('generate_series(1, 3) g', 'unnest(ARRAY[1, 2]) AS v(id)', 'LATERAL f(1) x', f'f({self.expr()})')

    def join(self, parenthesised=False):
        """Joins of every kind, nested to both sides, without parentheses or with."""
        kind = self.pick('JOIN', 'INNER JOIN', 'LEFT JOIN', 'LEFT OUTER JOIN', 'RIGHT JOIN', 'RIGHT OUTER JOIN', 'FULL JOIN',
                         'FULL OUTER JOIN', 'CROSS JOIN', 'NATURAL JOIN', 'NATURAL LEFT JOIN', 'NATURAL INNER JOIN', 'NATURAL FULL OUTER JOIN',
                         'NATURAL RIGHT JOIN')
        self.depth += 1
        left, right = self.relation(), self.relation()
        if self.depth < 4 and self.chance(0.3):
            left = self.join()
        if self.depth < 4 and self.chance(0.2):
            right = self.join()
        text = f'{left} {kind} {right}'
        if 'CROSS' not in kind and 'NATURAL' not in kind:
            text += self.pick(f' ON {self.expr()}', f' USING (id)', f' USING (id, a){self.pick("", "", " AS j")}', ' ON t.id = u.id')
        self.depth -= 1
        return f'({text})' + self.pick('', '', ' j') * self.chance(0.3) if parenthesised else text

    def from_list(self):
        at = self.random.random()
        if at < 0.5:
            return self.relation()
        return self.join() if at < 0.8 else self.some(self.relation, 2, 3)

    # ---- SELECT

    def where(self):
        return self.pick(f'id = {self.number()}', f't.id = 5 AND {self.expr()}', self.expr(), f'{self.expr()} AND id IN (1, 2)', f'{self.expr()} OR id = 5')

    def items(self):
        return self.some(lambda: self.pick('*', 't.*', self.expr(), self.expr(), self.expr() + ' AS c', self.expr() + ' AS "C"'), 1, 2)

    def select(self):
        text = 'SELECT ' + self.pick('', '', '', '', 'DISTINCT ', 'ALL ', f'DISTINCT ON ({self.expr()}) ') + self.items()
        text += ' FROM ' + self.from_list()
        if self.chance(0.6):
            text += ' WHERE ' + self.where()
        if self.chance(0.15):
            text += ' GROUP BY ' + self.some(self.group_item, 1, 2)
            if self.chance(0.4):
                text += ' HAVING ' + self.expr()
        if self.chance(0.05):
            text += f' WINDOW w AS {self.window()}' + self.pick('', f', "W" AS (w {self.order()})')
        if self.chance(0.2):
            text += ' ' + self.order()
        if self.chance(0.2):
            text += ' ' + self.limit()
        if self.chance(0.06):
            text += ' ' + self.lock()
        return text

    def group_item(self):
        e = self.expr
        if self.chance(0.7):
            return e()
        return self.pick('()', f'ROLLUP ({e()}, {e()})', f'CUBE ({e()}, ({e()}, {e()}))', f'GROUPING SETS (({e()}, {e()}), ({e()}), ())',
                         f'GROUPING SETS ({e()}, ROLLUP ({e()}), CUBE (a, b))', f'({e()}, {e()})', f'({e()})', f'rollup (({e()}), {e()})')

    def limit(self):
        e = self.expr
        return self.pick('LIMIT 5', f'LIMIT {e()}', f'LIMIT {e()} OFFSET {e()}', 'OFFSET 3', f'OFFSET {e()} LIMIT 1', 'LIMIT ALL', 'LIMIT NULL',
                         'FETCH FIRST ROW ONLY', 'FETCH NEXT 5 ROWS ONLY', 'FETCH FIRST (1 + 2) ROWS WITH TIES', 'OFFSET 2 ROWS FETCH FIRST 3 ROWS ONLY',
                         'OFFSET (1) ROW', 'FETCH FIRST $1 ROW ONLY', 'FETCH FIRST -1 ROW ONLY', 'LIMIT ALL OFFSET 2', 'LIMIT 1, 2', 'FETCH FIRST 5 ROWS ONLY OFFSET 2')

    def lock(self):
        return self.pick('FOR UPDATE', 'FOR NO KEY UPDATE', 'FOR SHARE', 'FOR KEY SHARE') + self.pick('', ' OF t', ' OF t, u', ' OF "t"') + self.pick(
            '', ' NOWAIT', ' SKIP LOCKED') + self.pick('', '', '', ' FOR SHARE OF u', ' LIMIT 1')

    def grouped(self):
        """A query with GROUP BY and everything that goes with it."""
        return f'SELECT {self.pick("GROUPING(a), ", "")}{self.items()} FROM {self.table()} GROUP BY {self.pick("", "", "DISTINCT ", "ALL ")}' \
            f'{self.some(self.group_item)} HAVING {self.expr()}'

    def grouping_sets(self):
        return f'SELECT {self.grouping()}, GROUPING(a, b) FROM {self.table()} WHERE id = 5 GROUP BY {self.group_item()}, {self.group_item()}, ' + self.pick(
            '()', 'ROLLUP (a)', 'CUBE (a, b)', 'GROUPING SETS ((a), ())', 'GROUPING SETS (ROLLUP (a, b), GROUPING SETS ((a), (b)))')

    def windows(self):
        return f'SELECT {self.over()}, sum(a) OVER w, {self.items()} FROM {self.table()} WHERE id = 5 WINDOW w AS {self.window()}' + self.pick(
            '', f', w2 AS (w {self.order()})')

    def limited(self):
        return f'SELECT {self.items()} FROM {self.table()} WHERE {self.where()} {self.pick("", self.order())} {self.limit()}'

    def locking(self):
        return f'SELECT * FROM {self.table()} WHERE {self.where()} {self.lock()}'

    def set_operation(self):
        arm = lambda: self.pick(self.plain_select(), self.plain_select(), f'({self.query()})', self.values(), 'TABLE r')
        text = arm()
        for _ in range(self.random.randint(1, 4)):
            right = arm()
            if self.depth < 4 and self.chance(0.15):
                right = f'({self.of_kind(Statements.set_operation)})'
            text += f' {self.pick("UNION", "INTERSECT", "EXCEPT")}{self.pick("", "", " ALL", " DISTINCT")} {right}'
        return text + self.pick('', '', ' ORDER BY 1', ' LIMIT 3', f' {self.limit()}', ' FOR UPDATE')

    def plain_select(self):
        return f'SELECT {self.expr()} FROM {self.table()}' + self.pick('', f' WHERE {self.where()}')

    def values(self):
        row = lambda: f'({self.exprs(1, 2)})'
        return f'VALUES {self.some(row)}' + self.pick('', '', ' ORDER BY 1', ' LIMIT 1')

    def order_by(self):
        return f'SELECT {self.items()} FROM {self.table()} WHERE id = 5 {self.order()}'

    def joined(self):
        return f'SELECT {self.items()} FROM {self.join()} WHERE {self.where()}'

    def joins_without_parentheses(self):
        """The nesting of joins follows from where ON stands."""
        j = lambda: self.pick('JOIN', 'LEFT JOIN', 'FULL JOIN', 'RIGHT JOIN', 'INNER JOIN')
        c = lambda: self.pick('ON t.id = u.id', 'USING (id)', 'ON true', f'ON {self.expr()}')
        return 'SELECT * FROM ' + self.pick(
            f't {j()} u {j()} r {c()} {c()}', f't {j()} u {c()} {j()} r {c()}', f't, u {j()} r {c()}', f't CROSS JOIN u {j()} r {c()}',
            f't {j()} u CROSS JOIN r {c()}', f't NATURAL JOIN u {j()} r {c()}', f't {j()} u NATURAL JOIN r {c()}', f't {j()} (u {j()} r {c()}) {c()}',
            f'(t {j()} u {c()}) {j()} r {c()}', f't {j()} u {j()} r {j()} p {c()} {c()} {c()}', f't {j()} u {j()} r {c()} {j()} p {c()} {c()}',
            f'((t)) x', f'(t {j()} u {c()}) AS x', f'((t {j()} u {c()}))', f'(t x) {j()} u {c()}', f't {j()} u', f't CROSS JOIN u {c()}',
            f'(t, u)', f't {j()} LATERAL (SELECT * FROM u WHERE u.id = t.id) x {c()}', f't {j()} ONLY u {c()}', f'ONLY t {j()} u {c()}') + self.pick(
            '', f' WHERE {self.where()}', ' WHERE t.id = 5')

    def foreign_joins(self):
        return 'SELECT * FROM t ' + self.pick('LEFT SEMI', 'SEMI', 'LEFT ANTI', 'ANTI', 'ASOF', 'GLOBAL', 'STRAIGHT', 'OUTER', 'PASTE', 'POSITIONAL', 'LEFT', 'CROSS', 'ARRAY',
                                              'NATURAL', 'RIGHT SEMI', 'LEFT INNER', 'INNER', 'FULL', 'x LEFT') + ' JOIN ' + self.pick('u', 'u ON true', 'u USING (id)', 'u USING id')

    def lateral(self):
        return self.pick(f'SELECT * FROM t, LATERAL ({self.query()}) x', f'SELECT * FROM t LEFT JOIN LATERAL ({self.query()}) AS x(a) ON true',
                         f'SELECT * FROM t CROSS JOIN LATERAL f({self.expr()}) WITH ORDINALITY AS x(a, n)', 'SELECT * FROM t, LATERAL unnest(t.a) x',
                         'SELECT * FROM LATERAL (SELECT 1) x', 'SELECT * FROM lateral')

    def range_function(self):
        return 'SELECT * FROM ' + self.pick(
            f'f({self.exprs()})', 'f() WITH ORDINALITY', 'f() AS x(a int, b text)', 'f() AS (a int, b text COLLATE "C")', 'f() x', 'pg_catalog.f(1) AS x(a)',
            'ROWS FROM (f(1), g(2)) AS x', 'ROWS FROM (f(1) AS (a int), g()) WITH ORDINALITY', f'unnest({self.expr()})', f'unnest({self.expr()}, {self.expr()}) WITH ORDINALITY AS u(a, b, n)',
            'current_date', 'current_user AS x', 'coalesce(1, 2) x', 'json_table(a, \'$\' COLUMNS (x int)) j', 'UNNEST(ARRAY[1]) WITH OFFSET', 'f(x => 1)', 'generate_series(1, 5) AS g(i)',
            'TABLE(f(1))', 'cast(1 AS int) x', "f(VARIADIC a)", 'f(DISTINCT a)', '"f"(1)', 'unnest(ARRAY[1]) AS x (a int)', 'now()')

    def table_function(self):
        return 'SELECT * FROM ' + self.pick("xmltable('/a' PASSING b COLUMNS c int PATH 'c' DEFAULT 1, o FOR ORDINALITY)", "json_table(a, '$.x[*]' COLUMNS (x int PATH '$.x' DEFAULT 1 ON EMPTY, NESTED PATH '$.y' COLUMNS (y text EXISTS)))",
                                            f"xmltable(xmlnamespaces('u' AS n), '/a' PASSING {self.atom()} COLUMNS c int) AS x, t", "t, json_table(t.b, '$' AS p PASSING 1 AS v COLUMNS (i FOR ORDINALITY, j json PATH '$')) AS j WHERE t.id = 5")

    def table_sample(self):
        return 'SELECT * FROM t ' + self.pick('', 'x ', 'AS x(a) ') + 'TABLESAMPLE ' + self.pick('bernoulli', 'system', 'BERNOULLI', 'SYSTEM_ROWS', 'public.mine', '"System"', 'row') + self.pick(
            '(10)', '(10) REPEATABLE (5)', f'({self.expr()})', '(1, 2)', '(10 PERCENT)', '(5 ROWS)', ' 10', '(10) x', "(10) REPEATABLE ('a')", '(10) REPEATABLE (1 + 2)') + self.pick('', ' WHERE id = 5')

    def only(self):
        return self.pick('SELECT * FROM ONLY t', 'SELECT * FROM ONLY (t) WHERE id = 5', 'SELECT * FROM t *', 'SELECT * FROM ONLY t x', 'UPDATE ONLY t SET a = 1 WHERE id = 5', 'DELETE FROM ONLY t WHERE id = 5',
                         'DELETE FROM t * WHERE id = 5', 'UPDATE t * x SET a = 1', 'SELECT only FROM t', 'SELECT * FROM only', 'TABLE ONLY t', 'SELECT * FROM t, ONLY (u)', 'SELECT 1 AS only FROM t', 'UPDATE ONLY (t) SET a = 1',
                         'SELECT * FROM ONLY (t) AS x (a)', 'SELECT * FROM t FETCH FIRST 1 ROW ONLY', 'SELECT * FROM t OFFSET 1 ROWS FETCH NEXT ROWS ONLY')

    def table_command(self):
        return self.pick('TABLE t', 'TABLE public.t', 'TABLE t ORDER BY 1', 'TABLE t LIMIT 1', '(TABLE t)', 'TABLE t UNION TABLE u', 'SELECT * FROM (TABLE t) x', 'WITH x AS (TABLE t) TABLE x', 'INSERT INTO t TABLE u',
                         'SELECT 1 AS table FROM t', 'SELECT table FROM t', 'TABLE "t"', 'TABLE a.b.c', 'TABLE t x', 'TABLE t WHERE id = 5', 'TABLE t, u', 'TABLE t JOIN u USING (id)', 'TABLE (SELECT 1)', 'TABLE ONLY t', 'TABLE t *', 'TABLE t FOR UPDATE')

    def cte(self):
        body = self.pick(self.query(), self.query(), 'INSERT INTO t (id) VALUES (5) RETURNING *', f'UPDATE t SET a = {self.expr()} WHERE id = 5 RETURNING id', 'DELETE FROM t WHERE id = 5 RETURNING *')
        more = self.pick('', '', '', ' SEARCH DEPTH FIRST BY id SET o', ' SEARCH BREADTH FIRST BY id, a SET o', ' CYCLE id SET c USING p', " CYCLE id SET c TO 'y' DEFAULT 'n' USING p")
        head = f'x{self.pick("", "(id)", " (id, a)")} AS {self.pick("", "", "MATERIALIZED ", "NOT MATERIALIZED ")}({body}){more}'
        second = self.pick('', f', y AS ({self.query()})')
        return f'WITH {self.pick("", "RECURSIVE ")}{head}{second} ' + self.pick(self.query(), 'SELECT * FROM x', 'SELECT * FROM t JOIN x USING (id)', 'INSERT INTO u SELECT * FROM x', 'DELETE FROM t USING x WHERE t.id = x.id',
                                                                                 'UPDATE t SET a = x.a FROM x WHERE t.id = 5', 'TABLE x', 'VALUES (1)', '(SELECT 1)', 'MERGE INTO t USING x ON t.id = x.id WHEN MATCHED THEN DELETE')

    def search_and_cycle(self):
        return 'WITH RECURSIVE x AS (SELECT 1 AS id UNION ALL SELECT id FROM x) ' + self.pick('SEARCH DEPTH FIRST BY id SET o ', 'SEARCH BREADTH FIRST BY id SET o CYCLE id SET c USING p ') + self.pick(
            'SELECT * FROM x', 'SELECT * FROM x JOIN t USING (id)')

    def cycle(self):
        return f'WITH RECURSIVE x AS (SELECT 1 AS id) CYCLE id SET c {self.pick("", "TO true DEFAULT false ")}USING p SELECT * FROM x, t'

    def select_into(self):
        return f'SELECT {self.items()} INTO {self.pick("", "TEMP ", "TABLE ", "UNLOGGED ")}n FROM {self.table()}'

    def empty_list(self):
        return self.pick('SELECT FROM t', 'SELECT FROM t WHERE id = 5', 'SELECT', 'SELECT WHERE true', 'SELECT DISTINCT FROM t', 'SELECT, FROM t', 'SELECT a, FROM t', 'SELECT UNION SELECT')

    # ---- Names and keywords

    def word(self):
        at = self.random.random()
        word = self.pick(*KEYWORDS) if at < 0.85 else self.pick(*OTHER_WORDS)
        return word.upper() if self.chance(0.2) else word

    def label(self):
        word = self.word()
        return self.pick(f'SELECT a AS {word} FROM t WHERE id = 5', f'SELECT a {word} FROM t WHERE id = 5', f'SELECT a AS {word}, b {word} FROM t', f'SELECT t.{word} FROM t', f'SELECT a {word}, b FROM t',
                         f'SELECT a + 1 {word} FROM t', f"SELECT 'x' {word} FROM t", f'SELECT 1 {word} FROM t WHERE id = 5', f'SELECT f(a) {word} FROM t', f'SELECT (a) {word} FROM t', f'SELECT a::int {word} FROM t', f'SELECT a IS NULL {word} FROM t')

    def word_as_column(self):
        word = self.word()
        return self.pick(f'SELECT {word} FROM t WHERE id = 5', f'SELECT a FROM t WHERE {word} = 5', f'SELECT a FROM t WHERE {word} AND id = 5', f'SELECT t.{word} = 5 FROM t', f'UPDATE t SET {word} = 5 WHERE id = 1',
                         f'INSERT INTO t (id, {word}) VALUES (1, 2)', f'SELECT {word}.a FROM t', f'SELECT a FROM t ORDER BY {word}', f'SELECT a FROM t WHERE id = {word}', f'SELECT a FROM t WHERE id = {word} AND a = 1', f'SELECT {word}, a FROM t',
                         f'SELECT -{word} FROM t', f'SELECT {word} + 1 FROM t', f'SELECT {word}::int FROM t', f'SELECT {word}[1] FROM t', f"SELECT {word} 'x' FROM t", f'SELECT {word} {word} FROM t', f'SELECT (a).{word} FROM t', f'DELETE FROM t WHERE {word}')

    def word_as_table(self):
        word = self.word()
        return self.pick(f'SELECT * FROM {word}', f'SELECT * FROM t {word}', f'SELECT * FROM t AS {word}', f'SELECT * FROM t {word} WHERE id = 5', f'SELECT * FROM t {word} JOIN u ON true', f'SELECT * FROM t JOIN u {word} ON true', f'SELECT * FROM (SELECT 1) {word}',
                         f'SELECT * FROM {word} x', f'SELECT * FROM t, {word}', f'SELECT * FROM f() {word}', f'UPDATE t {word} SET a = 1', f'UPDATE t AS {word} SET a = 1', f'DELETE FROM t {word} WHERE id = 5', f'DELETE FROM t AS {word}', f'INSERT INTO t AS {word} VALUES (1)',
                         f'WITH {word} AS (SELECT 1) SELECT * FROM t', f'WITH x ({word}) AS (SELECT 1) SELECT * FROM t', f'SELECT * FROM t x({word})', f'SELECT * FROM t {word} (a)', f'SELECT * FROM t WINDOW {word} AS ()', f'SELECT * FROM t JOIN u USING ({word})', f'SELECT * FROM t GROUP BY {word}',
                         f'SELECT * FROM public.{word}', f'SELECT * FROM t ORDER BY id {word}', f'SELECT * FROM t WHERE id = 5 {word}', f'SELECT * FROM t LIMIT 1 {word}', f'INSERT INTO t {word} VALUES (1)', f'INSERT INTO t {word} SELECT 1', f'INSERT INTO {word} VALUES (1)')

    def word_as_function(self):
        word = self.word()
        return self.pick(f'SELECT {word}(a) FROM t WHERE id = 5', f'SELECT {word}() FROM t', f'SELECT {word}(a, 1) FROM t', f'SELECT public.{word}(a) FROM t', f'SELECT * FROM {word}(1)', f'SELECT * FROM t, {word}(1) x', f'SELECT a::{word} FROM t',
                         f'SELECT CAST(a AS {word}) FROM t', f'SELECT a::{word}(3) FROM t', f"SELECT {word} '1' FROM t", f'SELECT a::public.{word} FROM t', f'SELECT {word}(*) FROM t', f'SELECT f({word} => 1) FROM t', f'SELECT {word}(SELECT 1) FROM t', f'SELECT {word} (a).b FROM t',
                         f'SELECT a COLLATE {word} FROM t', f'SELECT sum(a) OVER {word} FROM t', f'SELECT extract({word} FROM a) FROM t', f'SELECT a AT TIME ZONE {word} FROM t', f'SELECT {word}(a) OVER () FROM t', f'SELECT * FROM t WHERE id = {word}(5)')

    # ---- Writes

    def insert(self):
        columns = self.pick('(id)', '(id, a)', '(id, a, b)', '', '("id", a)', '(id, c.f)', '(id, c[1])')
        width = max(columns.count(',') + 1, 1)
        value = lambda: 'DEFAULT' if self.chance(0.1) else self.expr()
        row = lambda: '(' + ', '.join([self.pick('5', '$1', self.expr())] + [value() for _ in range(width - 1)]) + ')'
        source = self.pick(f'VALUES {self.some(row)}', f'VALUES {self.some(row)}', f'VALUES {self.some(row)}', self.query(), f'({self.query()})', 'DEFAULT VALUES', f'({self.values()})', f'VALUES {row()} ORDER BY 1')
        text = f'INSERT INTO {self.table()}{self.pick("", "", " AS x", " x")} {columns} {self.pick("", "", "", "OVERRIDING SYSTEM VALUE ", "OVERRIDING USER VALUE ")}{source}'
        if self.chance(0.4):
            text += ' ' + self.conflict()
        return text + self.returning()

    def conflict(self):
        target = self.pick('', '(id)', '(id, a)', 'ON CONSTRAINT t_pkey', '(id) WHERE a > 1', '(lower(b))', '((a + 1))', '(id COLLATE "C")', '(id int4_ops)', '("id")', '(id DESC)')
        return f'ON CONFLICT {target} ' + self.pick('DO NOTHING', f'DO UPDATE SET {self.assignments()}', f'DO UPDATE SET a = excluded.a, b = {self.expr()} WHERE {self.expr()}', 'DO SELECT')

    def on_conflict(self):
        return f'INSERT INTO t (id, a) VALUES (1, {self.expr()}) {self.conflict()}{self.returning()}'

    def assignments(self):
        one = lambda: self.pick(f'a = {self.expr()}', f'id = {self.number()}', 'a = DEFAULT', f'(a, b) = ({self.expr()}, {self.expr()})', f'(a, b) = ({self.query()})', f'(a, b) = ROW(1, {self.expr()})', 't.a = 1',
                                f'c.f = {self.expr()}', f'c[1] = {self.expr()}', 'c[1:2] = NULL', '"a" = 1', '(a) = (1)', '(a) = ROW(1)', '(a, b) = (1, DEFAULT)', 'c.f[1].g = 2', '(a, b.c) = (1, 2)', f'b = {self.expr()}', f'b = {self.expr()}', 'a = (DEFAULT)', '(a, b) = f(1)', '(a, b) = ((1, 2))')
        return self.some(one, 1, 2)

    def returning(self):
        return self.pick('', '', '', '', f' RETURNING {self.items()}', ' RETURNING *', ' RETURNING id AS "I"', ' RETURNING WITH (OLD AS o, NEW AS n) o.a, n.a') if self.chance(0.6) else ''

    def returning_options(self):
        return self.pick('UPDATE t SET a = 1 WHERE id = 5', 'INSERT INTO t (id) VALUES (1)', 'DELETE FROM t WHERE id = 5') + f' RETURNING WITH (OLD AS o) o.a, {self.items()}'

    def update(self):
        return f'{self.pick("", "", "", "WITH x AS (SELECT 1) ")}UPDATE {self.table()}{self.pick("", "", " x", " AS x")} SET {self.assignments()}' + self.pick('', '', f' FROM {self.from_list()}') + self.pick(
            ' WHERE id = 5', f' WHERE {self.where()}', '', ' WHERE CURRENT OF c') + self.returning()

    def multiple_assignment(self):
        return f'UPDATE t SET (a, b) = {self.pick("(SELECT 1, 2)", "(1, 2)", "ROW(1, 2)", f"({self.expr()}, {self.expr()})")}, n = {self.expr()} WHERE id = {self.number()}'

    def delete(self):
        return f'{self.pick("", "", "", "WITH x AS (SELECT 1) ")}DELETE FROM {self.table()}{self.pick("", "", " x", " AS x")}' + self.pick('', '', f' USING {self.from_list()}') + self.pick(
            ' WHERE id = 5', f' WHERE {self.where()}', '', ' WHERE CURRENT OF c') + self.returning()

    def where_current_of(self):
        return self.pick('DELETE FROM t WHERE CURRENT OF c', 'UPDATE t SET a = 1 WHERE CURRENT OF "C"', 'DELETE FROM u WHERE CURRENT OF c RETURNING *')

    def foreign_writes(self):
        return self.pick('INSERT t VALUES (1)', 'INSERT INTO TABLE t VALUES (1)', 'INSERT OVERWRITE t VALUES (1)', 'INSERT IGNORE INTO t VALUES (1)', 'REPLACE INTO t VALUES (1)', 'INSERT INTO t SET id = 1', 'INSERT INTO t VALUES ROW(1)', 'INSERT INTO t VALUE (1)',
                         'INSERT INTO t () VALUES ()', 'INSERT INTO t VALUES ()', 'INSERT INTO t (id) VALUES (1) ON DUPLICATE KEY UPDATE a = 1', 'INSERT OR REPLACE INTO t VALUES (1)', 'UPDATE t, u SET a = 1', 'UPDATE t JOIN u ON true SET a = 1', 'UPDATE t SET a = 1 ORDER BY id',
                         'UPDATE t SET a = 1 LIMIT 1', 'UPDATE t SET a := 1', 'UPDATE t FROM u SET a = 1', 'DELETE t WHERE id = 5', 'DELETE FROM t, u WHERE id = 5', 'DELETE t FROM t JOIN u ON true', 'DELETE FROM t WHERE id = 5 LIMIT 1', 'DELETE FROM t ORDER BY id LIMIT 1', 'DELETE FROM t JOIN u ON true',
                         'INSERT INTO t (id) VALUES (1),', 'INSERT INTO t (id,) VALUES (1)', 'INSERT INTO t AS x (id) VALUES (1) AS y', 'INSERT INTO t (id) SELECT 5 ON CONFLICT DO NOTHING', 'INSERT INTO t (id) VALUES (1) RETURNING', 'INSERT INTO t VALUES (1); SELECT 1', 'INSERT INTO f(1) VALUES (1)',
                         'INSERT INTO t (id) (VALUES (1), (2))', 'INSERT INTO t (SELECT 1)', 'INSERT INTO t (id) WITH x AS (SELECT 1) SELECT * FROM x', 'INSERT INTO t ((SELECT 1))', 'INSERT INTO t (id) VALUES (1) UNION SELECT 2', 'INSERT INTO t (id) TABLE u', 'UPDATE t SET (a) = (SELECT 1)', 'UPDATE t SET t.a = 1',
                         'SELECT * FROM t QUALIFY a = 1', 'SELECT TOP 5 * FROM t', 'SELECT * EXCEPT (a) FROM t', 'SELECT * EXCLUDE a FROM t', 'SELECT * REPLACE (1 AS a) FROM t', 'SELECT * FROM t LIMIT 5 BY a', 'SELECT * FROM t SETTINGS a = 1', 'SELECT * FROM t FORMAT JSON', 'SELECT * FROM t PREWHERE a = 1',
                         'FROM t SELECT *', 'FROM t', 'SELECT * FROM t SAMPLE 10', 'SELECT * FROM t FINAL', 'SELECT * FROM t |> WHERE a = 1', 'SELECT * FROM t PIVOT (sum(a) FOR b IN (1))', 'SELECT AS STRUCT 1', 'SELECT * FROM t START WITH a = 1 CONNECT BY PRIOR a = b', 'SELECT * FROM t MINUS SELECT * FROM u',
                         'SELECT * FROM t USE INDEX (a)', 'SELECT * FROM t WITH (NOLOCK)', 'SELECT * FROM t@v', 'SELECT * FROM t PARTITION (p)', 'SELECT * FROM t AS OF 1', 'SELECT * FROM t FOR SYSTEM_TIME AS OF 1', 'SELECT a.* AS b FROM t a', 'SELECT *, FROM t', 'SELECT t.* x FROM t', 'SELECT * x FROM t',
                         'SELECT * FROM t UNION BY NAME SELECT * FROM u', 'SELECT * FROM t GROUP BY ALL', 'SELECT * FROM t ORDER BY ALL', 'SELECT a FROM t GROUP BY a WITH ROLLUP', 'SELECT a FROM t GROUP BY a WITH TOTALS', 'SELECT DISTINCTROW a FROM t', 'SELECT STRAIGHT_JOIN a FROM t', 'SELECT SQL_NO_CACHE a FROM t',
                         'SELECT * FROM t LATERAL VIEW explode(a) x AS b', 'SELECT * FROM t SORT BY a', 'SELECT * FROM t CLUSTER BY a', 'SELECT * FROM t DISTRIBUTE BY a', 'SELECT a, b: 1 FROM t', 'SELECT a = 1 FROM t', 'SELECT x = a FROM t', 'SELECT * FROM t WHERE', 'SELECT * FROM t WHERE id = 5 AND', 'SELECT * FROM t x y',
                         'SELECT * FROM (t)', 'SELECT * FROM (t) x', 'SELECT * FROM ((SELECT 1)) x', 'SELECT * FROM ((SELECT 1) UNION (SELECT 2)) x', 'SELECT * FROM (SELECT 1) UNION SELECT 2', 'SELECT * FROM (VALUES (1, 2)) x(a, b)', 'SELECT * FROM (VALUES (1))', '(SELECT * FROM t WHERE id = 5)', '((SELECT * FROM t WHERE id = 5))',
                         '(SELECT * FROM t) ORDER BY id', '(SELECT * FROM t ORDER BY a) LIMIT 1', '(SELECT * FROM t LIMIT 1) LIMIT 2', '(SELECT 1) UNION (SELECT 2 LIMIT 1) LIMIT 1', 'SELECT 1 UNION SELECT 2 INTERSECT SELECT 3', 'SELECT 1 INTERSECT SELECT 2 UNION SELECT 3', 'SELECT 1 EXCEPT SELECT 2 EXCEPT SELECT 3',
                         'SELECT 1 UNION (SELECT 2 UNION SELECT 3)', 'SELECT 1 UNION ALL SELECT 2 UNION SELECT 3', 'SELECT 1 UNION SELECT 2 ORDER BY 1 LIMIT 1', 'SELECT 1 ORDER BY 1 UNION SELECT 2', 'SELECT * FROM t FOR UPDATE FOR SHARE', 'SELECT * FROM t FOR UPDATE LIMIT 1', 'SELECT * FROM t LIMIT 1 FOR UPDATE', 'SELECT * FROM t FOR READ ONLY',
                         'SELECT * FROM t OFFSET 1 LIMIT 2', 'SELECT * FROM t LIMIT 1 OFFSET 2 ROWS', 'SELECT * FROM t LIMIT 1 LIMIT 2', 'SELECT * FROM t FETCH FIRST 10 PERCENT ROWS ONLY', 'SELECT * FROM t FETCH FIRST 1 ROW ONLY FOR UPDATE', 'SELECT * FROM t ORDER BY a USING <', 'SELECT * FROM t ORDER BY a NULLS LAST', 'SELECT * FROM t ORDER BY a COLLATE "C" DESC NULLS FIRST',
                         'SELECT a FROM t; ', 'SELECT a FROM t;;', ';SELECT a FROM t', 'SELECT a FROM t WHERE id = 5;', "SELECT 'a' 'b' FROM t", "SELECT 'a'\n'b' FROM t", 'SELECT a"b" FROM t', 'SELECT "a"b FROM t', "SELECT a'b' FROM t", 'SELECT 1a FROM t', 'SELECT 1 a FROM t', "SELECT 'a'b FROM t", 'SELECT a AS b.c FROM t', "SELECT a AS 'b' FROM t", "SELECT a 'b' FROM t",
                         'VALUES (1), (2, 3)', 'VALUES ()', 'VALUES (DEFAULT)', 'VALUES ROW(1)', 'SELECT DEFAULT FROM t', 'SELECT (DEFAULT) FROM t', 'INSERT INTO t VALUES ((DEFAULT))', 'INSERT INTO t (id) VALUES (DEFAULT + 1)', 'INSERT INTO t (id) VALUES ("default")', 'UPDATE t SET a = "default"')

    def merge(self):
        when = lambda: self.pick('WHEN MATCHED', f'WHEN MATCHED AND {self.expr()}') + ' THEN ' + self.pick('DELETE', 'DO NOTHING', f'UPDATE SET {self.assignments()}') if self.chance(0.5) else self.pick(
            'WHEN NOT MATCHED', f'WHEN NOT MATCHED AND {self.expr()}', 'WHEN NOT MATCHED BY TARGET') + ' THEN ' + self.pick('DO NOTHING', f'INSERT VALUES ({self.exprs()})', f'INSERT (id, a) VALUES (5, {self.expr()})', 'INSERT DEFAULT VALUES',
                                                                                                                             'INSERT (id) OVERRIDING SYSTEM VALUE VALUES (1)', 'INSERT (id, a) VALUES (x.id, DEFAULT)', 'INSERT ROW', 'INSERT *')
        return f'{self.pick("", "", "WITH y AS (SELECT 1) ")}MERGE INTO {self.pick("t", "t AS x", "u x", "ONLY t", "public.t")} USING {self.relation()} ON {self.expr()} {self.some(when, 1, 2, " ")}{self.returning()}'

    def merge_by_source(self):
        return f'MERGE INTO t USING u ON t.id = u.id WHEN NOT MATCHED BY SOURCE {self.pick("", f"AND {self.expr()} ")}THEN {self.pick("DELETE", "UPDATE SET a = 1", "DO NOTHING")}'

    # ---- What holds others, and definitions

    def explain(self):
        return f'EXPLAIN {self.pick("", "", "ANALYZE ", "VERBOSE ", "(COSTS off) ", "(ANALYZE, FORMAT json) ", "ANALYZE VERBOSE ")}{self.pick(self.query(), self.update(), self.insert(), self.delete())}'

    def prepare(self):
        return f'PREPARE p{self.pick("", " (int)", " (bigint, text)")} AS {self.pick(self.query(), self.update(), self.insert(), self.delete())}'

    def declare(self):
        return f'DECLARE c {self.pick("", "BINARY ", "INSENSITIVE ", "NO SCROLL ", "SCROLL ")}CURSOR {self.pick("", "WITH HOLD ", "WITHOUT HOLD ")}FOR {self.query()}'

    def copy(self):
        return self.pick(f'COPY ({self.query()}) TO STDOUT', f'COPY ({self.query()}) TO STDOUT WITH (FORMAT csv)', f'COPY ({self.update()}) TO STDOUT', 'COPY t FROM STDIN', 'COPY t (id, a) TO STDOUT', f'COPY t FROM STDIN WHERE {self.expr()}')

    def create_table(self):
        column = lambda: self.pick('id', 'a', '"B"', 'c') + ' ' + self.type() + self.pick('', '', ' NOT NULL', ' PRIMARY KEY', ' UNIQUE', ' NULL', f' DEFAULT {self.atom()}', ' COLLATE "C"', ' REFERENCES u (id)', f' CHECK ({self.expr()})',
                                                                                           ' GENERATED ALWAYS AS IDENTITY', ' GENERATED BY DEFAULT AS IDENTITY (START 5)', f' GENERATED ALWAYS AS ({self.expr()}) STORED', ' CONSTRAINT x UNIQUE', ' UNIQUE NULLS NOT DISTINCT', ' REFERENCES u ON DELETE CASCADE DEFERRABLE', ' STORAGE PLAIN', ' COMPRESSION pglz')
        constraint = lambda: self.pick('PRIMARY KEY (id)', 'UNIQUE (id, a)', 'CONSTRAINT k UNIQUE ("B")', 'FOREIGN KEY (id) REFERENCES u', 'FOREIGN KEY (a) REFERENCES public.r (id) ON UPDATE SET NULL', f'CHECK ({self.expr()})', 'EXCLUDE USING gist (a WITH &&)', 'LIKE u INCLUDING ALL',
                                       'UNIQUE (id) INCLUDE (a)', 'PRIMARY KEY (id) DEFERRABLE INITIALLY DEFERRED', 'UNIQUE NULLS NOT DISTINCT (id)', 'PRIMARY KEY (id, a WITHOUT OVERLAPS)', 'UNIQUE USING INDEX k')
        items = [column() for _ in range(self.random.randint(1, 3))] + [constraint() for _ in range(self.pick(0, 0, 1, 2))]
        text = f'CREATE {self.pick("", "", "TEMP ", "UNLOGGED ")}TABLE {self.pick("", "IF NOT EXISTS ")}{self.pick("new", "public.new", self.table())} ({", ".join(items)})'
        return text + self.pick('', '', '', ' PARTITION BY HASH (id)', ' PARTITION BY RANGE (id, (a + 1))', ' INHERITS (u)', ' WITH (fillfactor = 70)', ' TABLESPACE x', ' ON COMMIT DROP', ' USING heap')

    def create_other_table(self):
        return self.pick('CREATE TABLE p1 PARTITION OF p FOR VALUES WITH (MODULUS 3, REMAINDER 0)', 'CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (10)', 'CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1, 2)', 'CREATE TABLE p1 PARTITION OF p DEFAULT', f'CREATE TABLE n AS {self.query()}',
                         'CREATE TABLE n (LIKE t)', 'CREATE TABLE n (id) AS SELECT 1', 'CREATE TABLE n OF mood', f'CREATE TABLE IF NOT EXISTS n AS {self.query()} WITH NO DATA', f'CREATE MATERIALIZED VIEW n AS {self.query()}', 'CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (MINVALUE) TO (MAXVALUE)', 'CREATE TABLE n (LIKE t INCLUDING DEFAULTS)')

    def create_index(self):
        key = lambda: self.pick('id', 'a', '"B"', 'lower(b)', f'({self.expr()})', 'id DESC', 'a NULLS FIRST', 'b COLLATE "C"', 'b text_pattern_ops', 'id ASC NULLS LAST', 'b COLLATE "C" text_ops (x = 1) DESC')
        return f'CREATE {self.pick("", "UNIQUE ")}INDEX {self.pick("", "CONCURRENTLY ")}{self.pick("", "i ", "IF NOT EXISTS i ")}ON {self.pick("", "ONLY ")}{self.table()} {self.pick("", "USING btree ", "USING gin ")}({self.some(key, 1, 2)})' + self.pick(
            '', '', ' INCLUDE (a)', f' WHERE {self.expr()}', ' WITH (fillfactor = 70)', ' NULLS NOT DISTINCT', ' TABLESPACE x')

    def alter_table(self):
        one = lambda: self.pick(f'ADD COLUMN c {self.type()}', f'ADD c {self.type()} NOT NULL', 'DROP COLUMN a', 'DROP COLUMN IF EXISTS a CASCADE', 'ALTER COLUMN id TYPE text', f'ALTER a TYPE int USING {self.expr()}', 'ALTER a SET NOT NULL', 'ALTER a DROP DEFAULT', f'ALTER a SET DEFAULT {self.expr()}', 'ADD PRIMARY KEY (id)',
                                'ADD CONSTRAINT k UNIQUE (a)', 'ADD UNIQUE (id, a)', 'ADD FOREIGN KEY (a) REFERENCES r (id)', f'ADD CHECK ({self.expr()}) NOT VALID', 'DROP CONSTRAINT k', 'ENABLE ROW LEVEL SECURITY', 'OWNER TO x', 'SET (fillfactor = 70)', 'ADD CONSTRAINT k UNIQUE USING INDEX i', 'VALIDATE CONSTRAINT k',
                                'ADD EXCLUDE USING gist (a WITH =)', 'REPLICA IDENTITY FULL', 'ALTER a ADD GENERATED ALWAYS AS IDENTITY', 'SET LOGGED', 'INHERIT u', 'DETACH PARTITION x', "ATTACH PARTITION x FOR VALUES IN (1)")
        return f'ALTER TABLE {self.pick("", "IF EXISTS ", "ONLY ")}{self.table()} ' + self.pick(self.some(one, 1, 2), 'RENAME TO n', 'RENAME a TO c', 'RENAME COLUMN id TO k', 'SET SCHEMA app', 'RENAME CONSTRAINT a TO b')

    def partition(self):
        return self.pick('ALTER TABLE p ATTACH PARTITION x FOR VALUES IN (1)', 'ALTER TABLE p DETACH PARTITION x CONCURRENTLY', 'ALTER TABLE p ATTACH PARTITION x DEFAULT')

    def truncate(self):
        return f'TRUNCATE {self.pick("", "TABLE ")}{self.pick("", "ONLY ")}{self.table()}{self.pick("", ", u", " RESTART IDENTITY", " CASCADE")}'

    def set(self):
        return self.pick("SET search_path = public, app", "SET LOCAL search_path TO 'public'", 'SET SESSION a.b = 1', 'RESET search_path', 'SET TIME ZONE LOCAL', 'SET x TO DEFAULT', "SET x = 'a', 'b'", 'SET TRANSACTION READ ONLY', 'SET NAMES utf8', 'RESET ALL', "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE")

    # ---- Expressions in different places

    def selected(self, expression):
        return self.pick(f'SELECT {expression} FROM t WHERE id = 5', f'SELECT * FROM t WHERE {expression}', f'SELECT * FROM t WHERE id = 5 AND {expression}', f'SELECT * FROM t WHERE {expression} AND id = 5', f'SELECT * FROM t WHERE id = 5 OR {expression}', f'SELECT 1, {expression}, 2 FROM t',
                         f'SELECT f({expression}) FROM t WHERE id = 5', f'UPDATE t SET a = {expression} WHERE id = 5', f'DELETE FROM t WHERE {expression}', f'INSERT INTO t (id, a) VALUES (5, {expression})', f'SELECT ({expression}) FROM t', f'SELECT * FROM t JOIN u ON {expression}', f'SELECT {expression} AS c FROM t ORDER BY {expression}',
                         f'SELECT CASE WHEN {expression} THEN 1 END FROM t', f'SELECT a FROM t GROUP BY {expression}', f'SELECT * FROM t ORDER BY {expression} LIMIT 1', f'SELECT * FROM t WHERE NOT {expression}', f'INSERT INTO t (id) VALUES ({expression}), (2)', f'SELECT {expression}')


KINDS = [value for name, value in vars(Statements).items() if callable(value) and not name.startswith('_') and name not in {
    'query', 'table', 'alias', 'relation', 'join', 'from_list', 'where', 'items', 'group_item', 'limit', 'lock', 'conflict', 'assignments',
    'returning', 'word', 'selected'}]
