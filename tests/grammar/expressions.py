"""Expressions of every kind. Each function of `KINDS` writes one kind, with random parts."""

import operators

TYPES = [
    'int', 'int4', 'integer', 'bigint', 'int8', 'smallint', 'text', 'varchar', 'varchar(5)', 'character varying(7)',
    'char(3)', 'bpchar', 'character', 'numeric', 'numeric(5,2)', 'decimal(4)', 'dec', 'real', 'float', 'float(20)',
    'float8', 'double precision', 'boolean', 'bool', 'uuid', 'date', 'time', 'time(3)', 'timetz',
    'time with time zone', 'timestamp', 'timestamp(3)', 'timestamp without time zone', 'timestamptz',
    'timestamp with time zone', 'timestamp(2) with time zone', 'interval', 'bytea', 'json', 'jsonb', 'xml', 'bit(3)',
    'bit varying(4)', 'varbit', 'oid', 'regclass', 'name', '"char"', 'mood', 'public.mood', 'int[]', 'text[][]',
    'int[3]', 'inet', 'point', 'pg_catalog.int4', 'public.posint', 'int array', 'int array[4]', 'nchar(2)',
    'national character varying(3)', 'interval year to month', 'interval second(2)', 'interval(3)', 'unsigned',
    'datetime', 'tinyint', 'string', 'blob', 'clob', 'int2', 'float4', 'money', 'tsvector', 'box', 'circle', 'line',
    'path', 'polygon', 'lseg', 'enum', 'nvarchar(3)', 'binary', 'varbinary', 'mediumint', 'int128', 'uint8', 'signed',
]
NAMES = [
    'id', 'id', 'id', 't.id', 'a', 'b', 'n', 'f', 'ts', 'x.a', 'public.t.a', '"id"', '"A"', 'ID', 'Id', '"we""ird"',
    'ünï', 'ÄÖ', 'a$1', '_x', 'x' * 70, '"' + 'y' * 62 + 'üü"', '"select"', 'value', 'key', 'date', 'time', 'name',
    'type', 'year', 'position', 'interval', 'left', 'user', 'text', 'level', 'matched', 'prior', 'array', 'struct',
    'map', 'lambda', 'window', 'over', 'range', 'rows', 'offset', 'convert', 'cast', 'try_cast', 'match', 'overlay',
    'extract', 'ceil', 'floor', 'row', 'values', 'default', 'only', 'table', 'isnull', 'if', 'connect_by_root',
]
STRINGS = [
    "'x'", "'it''s'", "''", "'5'", "'a\\b'", "E'a\\nb'", "E'\\x41\\u00e4\\101'", "e'it\\'s'", "E'\\\\'", '$$x$$',
    "$tag$a $$ 'b' $tag$", '$ü$x$ü$', "N'x'", "n'x'", "X'1F'", "B'101'", "b'1'", "U&'d\\0061t'", "U&'d!0061' UESCAPE '!'",
    "'a'\n'b'", "'a' -- c\n 'b'", "E'a'\n'b'", "'ü'", "r'x'", "'\\'", "E'\\u0041'", "E'\\U00000041'", "E'\\b\\f'",
    "E'\\1'", "E'\\xe4'", "E'\\q'",
]
NUMBERS = [
    '0', '1', '5', '42', '2147483647', '2147483648', '9223372036854775808', '99999999999999999999', '1.5', '.5', '5.',
    '1e5', '1.5e-3', '1E+2', '.5e1', '5.e1', '007', '0x1F', '0o17', '0b11', '1_000', '1_0.5_0', '1e1_0', '123abc',
    '0x', '1_', '5.5.5', '1..2',
]
COMMENTS = [' /* c */ ', ' /* a /* b */ c */ ', ' -- c\n ', '\n', '\t', ' /**/ ', ' /*;*/ ', " /*'*/ ", ' -- \' "\n ']


class Expressions:
    """Random expressions."""

    def __init__(self, random, pairs):
        self.random = random
        self.chain = operators.Chain(self.atom, pairs)
        self.depth = 0

    def pick(self, *items):
        return items[int(self.random.random() * len(items))]

    def chance(self, share):
        return self.random.random() < share

    def some(self, one, least=1, most=3, between=', '):
        return between.join(one() for _ in range(self.random.randint(least, most)))

    # ---- What holds an operand's place

    def column(self):
        return self.pick('id', 'a', 't.id', 'b', 't.a', 'n') if self.chance(0.9) else self.pick(*NAMES)

    def number(self):
        return self.pick('1', '2', '5', '10', '1.5') if self.chance(0.9) else self.pick(*NUMBERS)

    def string(self):
        return "'x'" if self.chance(0.9) else self.pick(*STRINGS)

    def indirectable(self):
        return self.pick('a', 't.a', '(a)', '$1', '(t.a)', '(f(1))', '(ROW(1, 2))', 'a')

    def atom(self):
        """An operand: a constant or a column mostly, now and then one of all kinds."""
        at = self.random.random()
        if at < 0.45 or self.depth > 3:
            return self.column()
        if at < 0.65:
            return self.number()
        if at < 0.75:
            return self.string()
        if at < 0.80:
            return self.pick('NULL', 'true', 'FALSE', '$1', '$2')
        if at < 0.88:
            return '(' + self.expr() + ')'
        return self.of_kind(self.pick(*PLAIN if self.chance(0.8) else KINDS))

    def of_kind(self, kind):
        self.depth += 1
        text = kind(self)
        self.depth -= 1
        return text

    def expr(self):
        """A chain of operators without parentheses."""
        self.depth += 1
        at = self.random.random()
        if at < 0.35 or self.depth > 4:
            text = self.atom()
        elif at < 0.85:
            names = [self.pick(*USUAL) for _ in range(self.random.randint(1, 3))]
            text = self.chain.text(names)
        else:
            names = [self.pick(*operators.NAMES) for _ in range(self.random.randint(1, 3))]
            text = self.chain.text(names)
        self.depth -= 1
        return text

    def exprs(self, least=1, most=3):
        return self.some(self.expr, least, most)

    def type(self):
        return self.pick(*TYPES) if self.chance(0.5) else self.pick('int', 'text', 'bigint', 'numeric(5,2)')

    def query(self):
        """A small query; `Statements` puts better ones here."""
        return 'SELECT ' + self.expr()

    def order(self):
        return 'ORDER BY ' + self.some(self.order_item, 1, 2)

    def order_item(self):
        return self.expr() + self.pick('', '', '', ' ASC', ' DESC', ' USING <', ' USING OPERATOR(pg_catalog.>)') + self.pick(
            '', '', ' NULLS FIRST', ' NULLS LAST')

    # ---- Kinds

    def simple_case(self):
        return f'CASE {self.expr()} WHEN {self.expr()} THEN {self.expr()} WHEN 2 THEN {self.expr()} END'

    def searched_case(self):
        return f'CASE WHEN {self.expr()} THEN {self.expr()} ELSE {self.expr()} END'

    def cast(self):
        return f'CAST({self.expr()} AS {self.type()})'

    def typed(self):
        return self.pick("date '2024-01-01'", "timestamp with time zone '2024-01-01'", "int '5'", "float8 '1'", "bool 't'",
                         "\"char\" 'x'", "uuid 'a'", "varchar(3) 'abc'", "numeric(3) '1'", "public.mood 'sad'", "text 'x'",
                         "time '10:00'", "timestamp(3) 'now'", "bit '1'", "json '{}'", "point '(1,2)'", "double precision '1'",
                         "character varying 'x'", "mood 'ok'", "bigint'5'", "timestamptz '2024-01-01'", "bytea 'x'")

    def interval(self):
        return 'interval ' + self.pick("'1 day'", "'1' year", "'1-2' year to month", "'1' day to second(3)", "'1' second(2)",
                                       "'1' hour to minute", "'1' minute to second", "'1' month", "'1' day to hour")

    def interval_precision(self):
        return "interval(3) '1 s'"

    def function(self):
        name = self.pick('f', 'abs', 'lower', 'pg_catalog.abs', 'public.pure', 'pure', '"F"', 'left', 'right', 'mod', 'now',
                         'char_length', 'replace', 'nextval', 'date', 'timestamp', 'text', 'int4', 'varchar', 'concat', 'date_part',
                         'substr', 'btrim', 'ceiling', 'power', 'if', 'isnull', 'log', 'array_agg', 'char', 'any_value', 'first',
                         'convert', 'ifnull', 'try_cast', 'safe_cast', 'struct', 'map', 'group_concat', 'user', 'current_user',
                         'left', 'values', 'match', 'interval', 'bit', 'exists', 'not', 'prior', 'listagg', 'nvl', 'row_number')
        return f'{name}({self.exprs(0, 3) if self.chance(0.8) else ""})'

    def aggregate(self):
        name = self.pick('count', 'sum', 'max', 'myagg', 'array_agg', 'string_agg')
        args = self.pick('*', 'DISTINCT ' + self.expr(), 'ALL ' + self.expr(), f'{self.expr()} {self.order()}',
                         f"DISTINCT {self.expr()}, ', ' {self.order()}", self.expr())
        return f'{name}({args})'

    def filtered(self):
        return f'{self.aggregate()} FILTER (WHERE {self.expr()})'

    def within_group(self):
        return f'percentile_cont({self.expr()}) WITHIN GROUP ({self.order()})'

    def window(self):
        parts = []
        if self.chance(0.15):
            parts.append('w')
        if self.chance(0.5):
            parts.append('PARTITION BY ' + self.exprs(1, 2))
        if self.chance(0.5):
            parts.append(self.order())
        if self.chance(0.5):
            bound = lambda: self.pick('UNBOUNDED PRECEDING', 'CURRENT ROW', f'{self.expr()} PRECEDING', f'{self.expr()} FOLLOWING',
                                      'UNBOUNDED FOLLOWING')
            units = self.pick('ROWS', 'RANGE', 'GROUPS')
            frame = f'{units} BETWEEN {bound()} AND {bound()}' if self.chance(0.6) else f'{units} {bound()}'
            if self.chance(0.1):
                frame += ' EXCLUDE ' + self.pick('CURRENT ROW', 'GROUP', 'TIES', 'NO OTHERS')
            parts.append(frame)
        return '(' + ' '.join(parts) + ')'

    def over(self):
        call = self.pick('row_number()', 'sum(a)', 'lag(a, 1)', 'count(*)', 'ntile(4)', 'count(*) FILTER (WHERE a > 1)')
        return f'{call} OVER {self.window() if self.chance(0.8) else self.pick("w", chr(34) + "W" + chr(34))}'

    def nulls_treatment(self):
        return f'lag({self.expr()}) {self.pick("IGNORE", "RESPECT")} NULLS OVER ()'

    def variadic(self):
        return f'f({self.pick("", "1, ")}VARIADIC {self.expr()})'

    def named_argument(self):
        return f'f({self.pick("", "1, ")}x {self.pick("=>", ":=")} {self.expr()}, "Y" => 2)'

    def value_function(self):
        return self.pick('current_date', 'current_time', 'current_time(2)', 'current_timestamp', 'current_timestamp(3)',
                         'localtime', 'localtime(1)', 'localtimestamp', 'localtimestamp(0)', 'current_role', 'current_user',
                         'user', 'session_user', 'current_catalog', 'current_schema', 'CURRENT_DATE', 'system_user')

    def min_max(self):
        return f'{self.pick("greatest", "least", "GREATEST")}({self.exprs()})'

    def coalesce(self):
        return f'{self.pick("coalesce", "COALESCE")}({self.exprs()})'

    def nullif(self):
        return f'nullif({self.expr()}, {self.expr()})'

    def extract(self):
        field = self.pick('year', 'MONTH', 'day', 'hour', 'minute', 'second', 'epoch', 'dow', 'isodow', 'doy', 'week', 'quarter',
                          'century', 'decade', 'millennium', 'julian', 'timezone', 'timezone_hour', "'year'", 'milliseconds',
                          'microseconds', 'isoyear', 'whatever', '"Year"', 'date', 'time', 'years', 'nanosecond')
        return f'extract({field} FROM {self.expr()})'

    def position(self):
        return f'position({self.atom()} IN {self.atom()})'

    def substring(self):
        e = self.expr
        return self.pick(f'substring({e()} FROM {e()} FOR {e()})', f'substring({e()} FROM {e()})', f'substring({e()} FOR {e()})',
                         f'substring({e()}, {e()}, {e()})', f'substring({e()}, {e()})', f'substring({e()} FOR {e()} FROM {e()})',
                         f"substring({e()} SIMILAR '%x' ESCAPE '#')", f'substr({e()}, {e()})', f'substring({e()})')

    def trim(self):
        e = self.expr
        return self.pick(f'trim({e()})', f'trim(BOTH {e()} FROM {e()})', f'trim(LEADING FROM {e()})', f'trim(TRAILING {e()})',
                         f'trim({e()}, {e()})', f'trim({e()} FROM {e()})', f'trim(FROM {e()})', f'trim(BOTH FROM {e()}, {e()})',
                         f'trim(LEADING {e()} FROM {e()}, {e()})')

    def overlay(self):
        e = self.expr
        return self.pick(f'overlay({e()} PLACING {e()} FROM {e()} FOR {e()})', f'overlay({e()} PLACING {e()} FROM {e()})',
                         f'overlay({e()}, {e()}, {e()})')

    def rounded(self):
        return self.pick(f'ceil({self.expr()})', f'floor({self.expr()})', f'ceil({self.expr()}, 1)', f'ceiling({self.expr()})',
                         'ceil(ts TO day)', f'FLOOR({self.expr()})')

    def normalize(self):
        return self.pick(f'normalize({self.expr()})', f'normalize({self.expr()}, NFC)')

    def treat(self):
        return f'treat({self.expr()} AS {self.type()})'

    def collation_for(self):
        return f'collation for ({self.expr()})'

    def row(self):
        return self.pick(f'ROW({self.exprs(0, 3)})', f'({self.expr()}, {self.exprs(1, 2)})', f'row({self.exprs(1, 1)})')

    def row_comparison(self):
        return f'({self.column()}, {self.column()}) {self.pick("=", "<", "<>", ">=")} ({self.expr()}, {self.expr()})'

    def row_in(self):
        return f'({self.column()}, {self.column()}) IN (({self.expr()}, {self.expr()}), ({self.expr()}, 2))'

    def row_in_query(self):
        return f'(id, a) {self.pick("", "NOT ")}IN (SELECT id, a FROM u)'

    def in_query(self):
        return f'{self.column()} IN ({self.pick("", "(")}SELECT id FROM u)'.replace('((SELECT id FROM u)', '((SELECT id FROM u))')

    def array(self):
        return self.pick(f'ARRAY[{self.exprs(0, 3)}]', f'ARRAY[[{self.exprs()}], [{self.exprs()}]]', f'ARRAY[{self.exprs()}]::int[]',
                         'array[]::text[]', 'ARRAY[ARRAY[1, 2], ARRAY[3, 4]]')

    def array_query(self):
        return f'ARRAY({self.query()})'

    def subscript(self):
        return self.indirectable() + self.pick(f'[{self.expr()}]', f'[{self.expr()}][{self.expr()}]', f'[{self.atom()}:{self.atom()}]', '[:]',
                                               f'[:{self.atom()}]', f'[{self.atom()}:]', '[1].f', '[1][2:3]', '.f[1]', ".f.g", '["k"]')

    def field(self):
        return self.pick('(a).b', '(a).b.c', '(t.a).b', '(f(1)).x', '(ROW(1, 2)).f1', '(SELECT r FROM r).id', '($1).f', '$1.f',
                         '(t).*', '(a).b[1]', 'a.b.c.d', '(a)."B"', '(CASE WHEN true THEN a END).f', '(ARRAY[1])[1]', 'now().x')

    def exists(self):
        return f'{self.pick("", "NOT ")}EXISTS ({self.query()})'

    def subquery(self):
        return f'({self.query()})'

    def subquery_twice(self):
        return f'(({self.query()}))'

    def any_array(self):
        return f'{self.column()} {self.pick("=", "<", "<>", "~~")} {self.pick("ANY", "ALL", "SOME")} ({self.expr()})'

    def any_query(self):
        return f'{self.column()} {self.pick("=", "<", ">=")} {self.pick("ANY", "ALL", "SOME")} ({self.query()})'

    def any_constants(self):
        return self.pick("id = ANY('{1,2}')", 'id = ANY($1::bigint[])', 'id = ANY(ARRAY[1, 2])', "id = ANY('{1}'::int[])")

    def current_of(self):
        return 'CURRENT OF c'

    def grouping(self):
        return f'GROUPING({self.exprs()})'

    def merge_action(self):
        return 'merge_action()'

    def default(self):
        return 'DEFAULT'

    def string_constant(self):
        return self.pick(*STRINGS)

    def number_constant(self):
        return self.pick(*NUMBERS)

    def any_name(self):
        return self.pick(*NAMES)

    def any_cast(self):
        return f'{self.atom()}::{self.pick(*TYPES)}'

    def bit_string(self):
        return self.pick("B'101'", "X'1F'", "x'aB'")

    def comment(self):
        return f'{self.column()}{self.pick(*COMMENTS)}= {self.pick(*COMMENTS)}{self.atom()}'

    def parameter(self):
        return self.pick('$1', '$2', '$10', '$1a', '$01', '$65535', '$65536', '$0')

    def touching(self):
        """Operators and signs without white space between."""
        sign = self.pick('-', '+', '@', '~', '!!', '')
        return self.column() + self.pick('=', '<', '<>', '+', '*', '||', '->', '<->', '@>', '%', '^', '!=', '<=', '=-', '+-', '*-', '@-',
                                         '!-', '-', '--\n', '/*x*/-', '::int', '#', '&', '=@', '<<', '?', '=>') + sign + self.pick('5', 'a', "'x'", '$1')

    # SQL/XML and SQL/JSON

    def xml_element(self):
        return self.pick(f'xmlelement(name foo, xmlattributes({self.expr()} AS x, b), {self.expr()})', 'xmlelement(name x)')

    def xml_concat(self):
        return f'xmlconcat({self.exprs()})'

    def xml_forest(self):
        return f'xmlforest({self.expr()} AS x, b)'

    def xml_parse(self):
        return f'xmlparse({self.pick("DOCUMENT", "CONTENT")} {self.expr()} {self.pick("", "PRESERVE WHITESPACE")})'

    def xml_pi(self):
        return f'xmlpi(name foo, {self.expr()})'

    def xml_root(self):
        return f'xmlroot({self.expr()}, version {self.pick("no value", self.expr())}, standalone yes)'

    def xml_serialize(self):
        return f'xmlserialize(CONTENT {self.expr()} AS text)'

    def xml_exists(self):
        return f"xmlexists('//x' PASSING BY REF {self.atom()})"

    def json_object(self):
        return self.pick(f'json_object({self.string()}: {self.expr()}, b VALUE {self.expr()} NULL ON NULL)',
                         f'json_object(KEY a VALUE {self.expr()} ABSENT ON NULL WITH UNIQUE KEYS RETURNING jsonb)', 'json_object()',
                         f"json_object('a' : {self.expr()} FORMAT JSON)", f'json_object({self.exprs()})')

    def json_array(self):
        return self.pick(f'json_array({self.exprs()} NULL ON NULL RETURNING jsonb FORMAT JSON)', f'json_array({self.exprs()})', 'json_array()')

    def json_array_query(self):
        return f'json_array({self.query()} RETURNING text)'

    def json_array_aggregate(self):
        return f'json_arrayagg({self.expr()} {self.pick("", self.order())} {self.pick("", "ABSENT ON NULL RETURNING jsonb")})'

    def json_object_aggregate(self):
        return f'json_objectagg({self.column()}: {self.expr()} {self.pick("", "NULL ON NULL")})'

    def json_parse(self):
        return f'json({self.expr()} {self.pick("", "FORMAT JSON ENCODING UTF8")} {self.pick("", "WITH UNIQUE KEYS")})'

    def json_scalar(self):
        return f'json_scalar({self.expr()})'

    def json_serialize(self):
        return f'json_serialize({self.expr()} {self.pick("", "RETURNING bytea")})'

    def json_exists(self):
        return f"json_exists({self.expr()}, '$.a' PASSING {self.expr()} AS x FALSE ON ERROR)"

    def json_value(self):
        return f"json_value({self.expr()}, '$.a' RETURNING int DEFAULT {self.expr()} ON EMPTY ERROR ON ERROR)"

    def json_query(self):
        return f"json_query({self.expr()}, '$.a' WITH WRAPPER KEEP QUOTES NULL ON EMPTY)"

    def is_json(self):
        return f'{self.column()} IS {self.pick("", "NOT ")}JSON {self.pick("", "VALUE", "ARRAY", "OBJECT", "SCALAR")} {self.pick("", "WITH UNIQUE KEYS", "WITHOUT UNIQUE")}'

    # What the parser knows from other databases

    def foreign(self):
        e = self.atom
        return self.pick(
            f'{e()} DIV {e()}', f'{e()} XOR {e()}', f'{e()} REGEXP {e()}', f'{e()} RLIKE {e()}', f'{e()} GLOB {e()}', f'{e()} MATCH {e()}',
            f'{e()} // {e()}', f'{e()} <=> {e()}', f'TRY_CAST({e()} AS int)', f'SAFE_CAST({e()} AS int)', f'CONVERT({e()}, int)',
            f'CONVERT({e()} USING utf8)', f'{e()} := {e()}', f'{{fn f({e()})}}', "{d '2024-01-01'}", '[1, 2]', '{a: 1}', 'MAP {1: 2}',
            'x -> x + 1', '(x, y) -> x', 'a:b', 'a:b.c[1]', f'{e()} MEMBER OF ({e()})', f'MATCH (a) AGAINST ({e()})', 'STRUCT(1 AS a)',
            f'{e()} IN UNNEST({e()})', f'{e()} IN {e()}', f'{e()}!', '@x', '@@x', ':x', '?', '?1', '`a`', '"a" "b"', '"x"::text', "_utf8'x'",
            "_latin1 'x'", "b'x'", "rb'x'", "'''x'''", '"""x"""', f'INTERVAL {e()} DAY', 'INTERVAL 1 + 1 DAY', "INTERVAL '1' DAY + a", f'PRIOR {e()}',
            'a(+)', f'NOT {e()} NOT NULL', f'{e()} NOT NULL', f'{e()} LIKE ANY ({e()}, {e()})', f'{e()} ILIKE ANY ({e()})', f'CAST({e()} AS int FORMAT {e()})',
            f'EXTRACT(year, {e()})', f'f({e()} = {e()})', f'f(x : {e()})', f'f({e()} LIMIT 1)', f'f({e()} SEPARATOR {e()})', f'f({e()} IGNORE NULLS)',
            f'count({e()} HAVING MAX a)', 'f(a => 1, b => *)', 'f(t.*)', 'f(*)', 'count(t.*)', 'f(* EXCEPT (a))', f'f(1)({e()})', f'{e()} AT TIME ZONE {e()} AT TIME ZONE {e()}',
            f'f({e()}) WITHIN GROUP (ORDER BY a) FILTER (WHERE b) OVER w', f'CASE {e()} END', 'x.*', 'a.b()', 'CURRENT_TIMESTAMP()', 'CURRENT_DATE + 1', 'DATE(a)', "DATE 'x' + 1",
            'TIMESTAMP a', 'DATE a', 'a b', 'text a', "int8 $1", "ROW(1, 2).f1", '(1, 2).f1', 'ROW(t.*)', 'ROW(t.*, 1)', '(t.*) = (1, 2)', 't.* = u.*', 't.* IS NULL', '(t).* IS NULL',
            'a IS NOT b', 'a IS b', 'a = b = c', 'a < b < c', 'a IS DISTINCT FROM b IS NULL', 'a NOT', 'NOT', '1 +', 'a == b', 'a && b || c', 'a ** b', 'a !< b', 'a ^= b', 'a & b | c # d',
            'a IN ()', 'a IN (1,)', 'ARRAY[1,]', 'f(1,)', '(1,)', '()', '(((a)))', '((a, b))', '((a), (b))', 'ROW((a, b))', '(a) (b)',
            'a[1, 2]', 'a[1:2:3]', 'a[-1]', 'a[b[1]]', 'a [1]', 'a. b', 'a .b', 'a :: int', 'a::int::text', "'1'::int::text", '-1::int', '- 1', '-a::int', '- - 1', '-(-1)', '+ -1', '-+1', '-1.5', '-$1', '~-1',
            'NOT a = b', 'NOT a IN (b)', 'NOT a BETWEEN 1 AND 2', 'NOT NOT a', 'NOT a IS NULL', 'NOT EXISTS (SELECT 1) AND a', 'NOT (a) = b', '-2 ^ 2', '2 ^ 3 ^ 2', '-a ^ 2', '2 ^ -2', '-a[1]', '-a.b', '-(a).b',
            'a - -1', 'a -1', 'a-1', 'a - 1', '1-1', '1 -1', 'a -(1)', 'a*-1', 'a AND NOT b', 'a = NOT b', 'a + NOT b', 'a OR NOT b AND c', 'a BETWEEN b AND c AND d', 'a BETWEEN b OR c AND d', 'a BETWEEN NOT b AND c',
            'a BETWEEN 1 AND 2 = b', 'a IN (1) = b', 'a LIKE b LIKE c', 'a LIKE b || c', 'a LIKE b = c', 'a = b LIKE c', 'a || b LIKE c || d', 'a IS NULL IS NULL', 'a IS NOT NULL IS NOT TRUE', 'a = b IS NULL IS TRUE', 'NOT a IS NULL IS TRUE', 'a IS NULL IS DISTINCT FROM b', 'a IS DISTINCT FROM b IS TRUE', 'a IS NULL IS NOT DISTINCT FROM b IS TRUE', 'a = (b) IS TRUE IS NULL AND c', 'a IS NOT DISTINCT FROM b IS NULL', 'a IN (b) IS NULL IS TRUE', 'a ISNULL IS TRUE', 'a NOTNULL IS FALSE IS UNKNOWN', 'a IS NULL = b', 'a = b IS NULL', 'a IS NULL AND b', 'a COLLATE "C" = b', 'a = b COLLATE "C"',
            'a || b COLLATE "C"', 'a::text COLLATE "C"', '-a COLLATE "C"', 'a COLLATE "C" COLLATE "D"', 'a COLLATE pg_catalog."C"', 'a COLLATE "C"[1]', 'a AT TIME ZONE b + c', "a + b AT TIME ZONE 'x'", "a AT TIME ZONE 'x'::text", '- a AT TIME ZONE b', 'a ^ b AT TIME ZONE c',
            "a < b COLLATE x < c", 'a <> ALL (ARRAY[1]) AND b', 'a = ANY (b) = c', 'a = ANY (b) + 1', 'a + 1 = ANY (b)', 'a || b = ANY (c)', 'NOT a = ANY (b)', 'a = b = ANY (c)', 'a = ANY (b) OR c', 'a LIKE ANY (ARRAY[b])', 'a LIKE ALL (b)',
            'a ILIKE ANY (b)', 'a NOT LIKE ALL (b)', 'a + ANY (b)', 'a AND ANY (b)', 'a = ANY (SELECT 1 UNION SELECT 2)', 'a = ANY ((SELECT 1))', 'a = ANY (((SELECT 1)))', 'a = ANY ((SELECT 1)::int[])', 'a IN ((SELECT 1), 2)', 'a IN ((SELECT 1))', 'a IN (((SELECT 1)))', 'a IN ((SELECT 1) UNION (SELECT 2))',
            'NOT EXISTS (SELECT 1) IS TRUE', 'NOT EXISTS (SELECT 1) = b', 'NOT EXISTS (SELECT 1) IS NOT NULL AND a', 'NOT EXISTS (SELECT 1) IN (b)',
            '(VALUES (1), (2) ORDER BY 1 LIMIT 1)', 'a = ANY (VALUES (1), (2))', 'a > ALL ((SELECT 1) UNION ALL SELECT 2)', 'EXISTS ((SELECT 1) UNION SELECT 2)',
            'a > ALL (((SELECT 1) EXCEPT SELECT 3) UNION (VALUES (1)))', 'a LIKE ANY ((SELECT 1) UNION SELECT 2)', '(values)', 'a = SOME (VALUES (1)) IS TRUE',
            'a IN (VALUES (1), (2))', 'a IN (TABLE u)', 'a IN (WITH x AS (SELECT 1) SELECT * FROM x)', '(SELECT 1)::int', '(SELECT ARRAY[1])[1]', '(VALUES (1))', '(TABLE r)', 'EXISTS (VALUES (1))', 'EXISTS ((SELECT 1))', '(SELECT 1) + (SELECT 2)', '(SELECT 1 UNION SELECT 2) = 1', '((SELECT 1) UNION (SELECT 2)) = 1', '(((SELECT 1) UNION (SELECT 2)))', '(((SELECT 1) EXCEPT (SELECT 2)) INTERSECT ALL (SELECT 3) ORDER BY 1 LIMIT 1)', '((SELECT 1 ORDER BY 1) UNION ALL SELECT 2)', '((VALUES (1)) EXCEPT (TABLE r)) || a', '((WITH x AS (SELECT 1) SELECT * FROM x) UNION SELECT 2)', '(((SELECT 1)) UNION (SELECT 2)) = 1', 'ARRAY((SELECT 1) UNION (SELECT 2))', 'EXISTS ((SELECT 1) UNION (SELECT 2))', 'a = ANY ((SELECT 1) UNION (SELECT 2))', 'coalesce(((SELECT 1) UNION (SELECT 2)), 1)', '((SELECT ((SELECT 1) UNION (SELECT 2))) + 1)', '((SELECT 1) + 1)',
        )


KINDS = [value for name, value in vars(Expressions).items() if callable(value) and not name.startswith('_') and name not in {
    'pick', 'chance', 'some', 'column', 'number', 'string', 'indirectable', 'atom', 'of_kind', 'expr', 'exprs', 'type', 'query', 'order',
    'order_item', 'window'}]
PLAIN = [Expressions.simple_case, Expressions.searched_case, Expressions.cast, Expressions.function, Expressions.aggregate, Expressions.coalesce,
         Expressions.row_comparison, Expressions.row_in, Expressions.array, Expressions.subscript, Expressions.exists, Expressions.subquery,
         Expressions.any_array, Expressions.any_query, Expressions.in_query, Expressions.typed, Expressions.over, Expressions.substring,
         Expressions.extract, Expressions.trim, Expressions.field, Expressions.any_constants]
USUAL = ['OR', 'AND', 'AND', 'NOT', '=', '=', '<', '>=', '<>', 'IN', 'NOT IN', 'BETWEEN', 'LIKE', 'IS NULL', 'IS NOT NULL', '+', '-', '*', '/', '%',
         '||', 'u-', '::', '= ANY', 'IN SELECT', 'IS DISTINCT FROM', 'IS TRUE', '->', '->>', '[]', 'COLLATE', 'AT TIME ZONE', '~']
