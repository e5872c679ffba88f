"""psycopg 3 on documents: parameters and results in text and binary, prepared or not, batches, pipelines, cursors."""

import datetime
import decimal
import os
import sys

import psycopg
from psycopg.types.json import Jsonb

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from both import DOCUMENTS, ROWS, TEXT, VALUES, at_utc, both, same
from check import DATABASE, HOST, PASSWORD, PORT, USER, check, run

INSERT = "insert into typed (id, kind, i4, nu, te, da) values (%s, %s, %s, %s, %s, %s)"


def connect(port, autocommit=True, **more):
    c = psycopg.connect(host=HOST, port=port, user=USER, password=PASSWORD, dbname=DATABASE, connect_timeout=10, autocommit=autocommit, **more)
    return c


def emptied(port):
    """A connection, before whose first statement the table is empty."""
    c = connect(port)
    c.execute("delete from typed")
    return c


def filled(port):
    c = emptied(port)
    c.cursor().executemany(INSERT, ROWS)
    return c


def answer(cursor):
    """What a cursor has: the columns with their types, the rows, the tag."""
    columns = [(d.name, d.type_code, d.internal_size, d.precision, d.scale) for d in cursor.description or []]
    return columns, cursor.fetchall() if columns else None, cursor.statusmessage


def fault(act):
    """What an error says."""
    try:
        return "nothing", act()
    except psycopg.Error as error:
        d = error.diag
        return error.sqlstate, d.message_primary, d.constraint_name, d.table_name, d.column_name, d.message_detail


def every_way():
    """Forms of parameters, of results, and whether the statement is prepared."""
    return [(form, binary, prepare) for form in "stb" for binary in (False, True) for prepare in (False, True)]


# Each form, each result, prepared and not.
FEW_WAYS = [("s", False, False), ("t", True, True), ("b", True, False), ("b", False, True)]


def values_of(column):
    return [None, *([Jsonb(one) for one in DOCUMENTS] if column == "js" else VALUES[column])]


def comes_back(column):
    def act(port):
        got = []
        with emptied(port) as c:
            for form, binary, prepare in every_way():
                cursor = c.cursor(binary=binary)
                for number, value in enumerate(values_of(column)):
                    # A list of numbers says too little of its type.
                    cast = f"::{TYPES[column]}" if column in TYPES else ""
                    insert = f"insert into typed (id, {column}) values (%{form}, %{form}{cast}) returning {column}, kind, id"
                    got.append((form, binary, answer(cursor.execute(insert, (number, value), prepare=prepare))))
                got.append(answer(cursor.execute(f"select id, {column}, {column}::text from typed order by id", prepare=prepare)))
                got.append(answer(cursor.execute(f"select {column} from typed where id = %{form}", (1,), prepare=prepare)))
                got.append(answer(cursor.execute("delete from typed")))
        return got

    act.__name__ = f"values_of_{column}_come_back"
    both(act)


TYPES = {"i4s": "int4[]", "i8s": "int8[]"}
for name in [*VALUES, "js"]:
    comes_back(name)


def is_found(column):
    def act(port):
        got = []
        values = VALUES[column]
        with emptied(port) as c:
            for number, value in enumerate([None, *values]):
                c.execute(f"insert into typed (id, {column}) values (%s, %s)", (number, value))
            for form, binary, prepare in FEW_WAYS:
                cursor = c.cursor(binary=binary)
                for value in values:
                    for operator in ("=", "<>", "<", "<=", ">", ">=", "is distinct from"):
                        sql = f"select id, {column} from typed where {column} {operator} %{form} order by id"
                        got.append((operator, value, fault(lambda: answer(cursor.execute(sql, (value,), prepare=prepare)))))
                for sql, given in [
                    (f"select id from typed where {column} = any(%{form}) order by id", (values[:2],)),
                    (f"select id from typed where {column} in (%{form}, %{form}) order by id", values[-2:]),
                    (f"select id from typed where not {column} between %{form} and %{form} order by id", values[:2]),
                ]:
                    got.append((sql, fault(lambda: answer(cursor.execute(sql, given, prepare=prepare)))))
                got.append(answer(cursor.execute(f"select id, {column} from typed order by {column} desc, id limit 5")))
        return got

    act.__name__ = f"values_of_{column}_are_found"
    both(act)


for name in ["bo", "i2", "i4", "i8", "f4", "f8", "nu", "te", "vc", "uu", "by", "tz", "ts", "da"]:
    is_found(name)


@both
def all_columns_of_a_row(port):
    got = []
    row = {"id": 1, "kind": "rare", **{name: values[-1] for name, values in VALUES.items()}, "js": Jsonb(DOCUMENTS[2])}
    names = ", ".join(row)
    with emptied(port) as c:
        places = ", ".join(f"%({name})s" + (f"::{TYPES[name]}" if name in TYPES else "") for name in row)
        got.append(answer(c.execute(f"insert into typed ({names}) values ({places}) returning *", row)))
        for binary in (False, True):
            got.append(answer(c.cursor(binary=binary).execute("select * from typed where id = %s", (1,))))
            got.append(answer(c.cursor(binary=binary).execute("table typed")))
    return got


@both
def several_rows_and_their_returning(port):
    with emptied(port) as c:
        return [
            answer(c.execute("insert into typed (id, kind, i4) values (%s, %s, %s), (%s, default, %s), (-3, 'odd', null) returning id, kind, i4", (1, "rare", -5, 2, 6))),
            answer(c.execute("insert into typed (id, te) values (%b, %b) on conflict (id) do nothing", (1, "x"))),
            answer(c.execute("insert into typed (id, te) values (%b, %b) on conflict (id) do update set te = excluded.te returning id, te, kind", (1, "y"))),
            answer(c.execute("update typed set i4 = i4 + %s, te = %s where i4 > %s returning id, i4, te", (10, TEXT, 0))),
            answer(c.execute("update typed set nu = %b, da = %b, by = %b where id = %b", (decimal.Decimal("1.10"), datetime.date(1960, 1, 1), b"\0", -3))),
            answer(c.execute("update typed set bo = true where id = 99")),
            answer(c.execute("select id, kind, i4, nu, te, da, by from typed order by id")),
            answer(c.execute("delete from typed where id = any(%s) returning id, te", ([1, 77],))),
            answer(c.execute("delete from typed where kind = 'nothing'")),
            answer(c.execute("delete from typed")),
        ]


@both
def batches(port):
    got = []
    with emptied(port) as c:
        cursor = c.cursor()
        cursor.executemany(INSERT, ROWS)
        got.append(cursor.rowcount)
        cursor.executemany("insert into typed (id, te) values (%s, %s) returning id, te", [(n, TEXT) for n in range(100, 130)], returning=True)
        got.append(answer(cursor))
        while cursor.nextset():
            got.append(answer(cursor))
        cursor.executemany("update typed set i8 = %s where id = %s", [(n * 2**33, n) for n in range(30)])
        got.append(cursor.rowcount)
        got.append(fault(lambda: c.cursor().executemany("insert into typed (id) values (%s)", [(500,), (501,), (500,)])))
        got.append(answer(c.execute("select id, i8, te from typed order by id")))
    return got


@both
def pipelines(port):
    got = []
    with emptied(port) as c:
        with c.pipeline():
            cursors = [c.execute(INSERT, row) for row in ROWS]
            cursors += [c.execute("select te, da from typed where id = %s", (n,)) for n in range(1, 41)]
            got += [cursor.fetchone() for cursor in cursors[len(ROWS):]]
        # Behind the pipeline: within it, it depends on what has come already.
        got += [cursor.rowcount for cursor in cursors]
        # What is between two Syncs is undone together.
        def broken():
            with c.pipeline():
                c.execute("insert into typed (id) values (900)")
                c.execute("insert into typed (id) values (1)")
                c.execute("insert into typed (id) values (901)")
        got.append(fault(broken)[0])
        got.append(answer(c.execute("select count(*), max(id) from typed")))
    return got


@both
def keys_ranges_and_orders(port):
    got = []
    with filled(port) as c:
        for sql, given in [
            ("select * from typed where id = %s", (7,)),
            ("select id, te from typed where id in (%s, %s, %s) order by id", (3, 99, 5)),
            ("select id from typed where id = any(%s) order by id desc", ([1, 2, 2, -5],)),
            ("select id from typed where id <> all(%s) and i4 is null order by id", ([7, 14],)),
            ("select id, da from typed where da between %s and %s order by da", (datetime.date(1969, 12, 29), datetime.date(1970, 1, 3))),
            ("select id, nu from typed where nu >= %s and not (i4 < %s) order by nu desc, id limit %s offset %s", (decimal.Decimal("2.5"), 10, 5, 2)),
            ("select id, te from typed order by te nulls first, id desc limit 9", ()),
            ("select id, te from typed order by te desc, id", ()),
            ("select te, id from typed where te like %s order by id", ("t_é%",)),
            ("select id from typed where kind = %s and te is not null or id = %s order by 1", ("odd", 1)),
            ("select id as a, i4::text as b, null as c from typed where id < %s order by a", (4,)),
            ("select id, i4 * 2 + %s as twice, upper(kind) from typed where id < 9 order by id", (1,)),
        ]:
            for binary in (False, True):
                for form in "stb":
                    got.append((sql, answer(c.cursor(binary=binary).execute(sql.replace("%s", f"%{form}"), given))))
    return got


@both
def aggregates_groups_and_joins(port):
    got = []
    with filled(port) as c:
        for sql, given in [
            ("select count(*), count(i4), sum(i4), min(da), max(te), min(nu) from typed", ()),
            ("select sum(id), sum(i4), avg(i4), sum(nu), avg(nu) from typed where id > %s", (3,)),
            ("select count(*), sum(i4), max(i4) from typed where id < %s", (-1,)),
            ("select kind, count(*), sum(i4), max(da) from typed group by kind order by kind", ()),
            ("select te, kind, count(*) as n from typed group by te, kind having count(*) > %s order by n desc, te nulls last, kind", (1,)),
            ("select distinct te from typed order by te", ()),
            ("select t.id, t.te, k.title from typed t join kinds k on k.name = t.kind where t.i4 > %s order by t.id", (5,)),
            ("select k.name, count(t.id), sum(t.nu) from kinds k left join typed t on t.kind = k.name and t.id <= %s group by k.name order by 1", (20,)),
            ("select id from typed where kind in (select name from kinds where title is not null) and id < %s order by id", (12,)),
            ("with few as (select * from typed where id < %s) select a.id, b.id from few a join few b on b.id = a.id + 1 order by 1", (5,)),
            ("select id, row_number() over (partition by kind order by id desc) from typed where id <= %s order by id", (9,)),
        ]:
            for binary in (False, True):
                for form in "sb":
                    got.append((sql, answer(c.cursor(binary=binary).execute(sql.replace("%s", f"%{form}"), given))))
    return got


@both
def transactions(port):
    got = []
    emptied(port).close()
    with connect(port, autocommit=False) as c:
        c.execute(INSERT, ROWS[0])
        got.append(answer(c.execute("select count(*) from typed")))
        c.commit()
        c.execute(INSERT, ROWS[1])
        c.execute("update typed set te = 'gone' where id = 1")
        got.append(answer(c.execute("select id, te from typed order by id")))
        c.rollback()
        got.append(answer(c.execute("select id, te from typed t join kinds k on k.name = t.kind order by id")))
        got.append(c.info.transaction_status)
        c.rollback()
        with c.transaction():
            c.execute(INSERT, ROWS[2])
        got.append(fault(lambda: c.execute(INSERT, ROWS[2])))
        got.append(fault(lambda: c.execute("select 1 from typed")))
        got.append(c.info.transaction_status)
        c.rollback()
        got.append(answer(c.execute("select id from typed order by id")))
    return got


@both
def errors_leave_the_connection_usable(port):
    got = []
    with emptied(port) as c:
        c.execute(INSERT, ROWS[0])
        for sql, given in [
            ("insert into typed (id) values (%s)", (1,)),
            ("insert into typed (id, kind) values (%s, %s)", (2, None)),
            ("insert into typed (id) values (%s)", (None,)),
            ("insert into typed (kind) values (%s)", ("x",)),
            ("insert into typed (id) values (5), (6), (5)", ()),
            ("update typed set kind = %s", (None,)),
            ("insert into typed (id, vc) values (3, %s)", ("12345678901",)),
            ("insert into typed (id, i2) values (3, %s)", (40_000,)),
            ("insert into typed (id, i4) values (3, %s)", (2**40,)),
            ("insert into typed (id, uu) values (3, %s)", ("no uuid",)),
            ("insert into typed (id, da) values (3, %s)", ("2024-02-30",)),
            ("insert into typed (id, js) values (3, %s)", ("{",)),
            ("insert into typed (id, i4s) values (3, %s)", ("{1,x}",)),
            ("select * from typed where nothing = %s", (1,)),
            ("select * from typed where uu = %s", ("x",)),
            ("update typed set i4 = i4 + %s where id = 1", (2**31 - 1,)),
        ]:
            for prepare in (False, True):
                told = fault(lambda: answer(c.execute(sql, given, prepare=prepare)))
                # Nobody has the whole row that an UPDATE would make.
                got.append((sql, told[:5] if sql.startswith("update") else told))
        got.append(answer(c.execute("select id from typed")))
    return got


@both
def cursors_on_the_server(port):
    got = []
    filled(port).close()
    with connect(port, autocommit=False) as c:
        for binary in (False, True):
            with c.cursor("pieces", binary=binary) as cursor:
                cursor.itersize = 7
                cursor.execute("select id, nu, da from typed where id > %s order by id", (3,))
                got.append(list(cursor))
            with c.cursor("scrolled", scrollable=True, binary=binary) as cursor:
                cursor.execute("select id from typed order by id")
                cursor.scroll(5)
                got.append(cursor.fetchmany(3))
                cursor.scroll(0, mode="absolute")
                got.append(cursor.fetchone())
        c.rollback()
    with connect(port) as c:
        got.append(list(c.cursor().stream("select id, te from typed where id < %s order by id", (9,))))
    return got


@check
def what_documents_have_not_is_refused():
    with emptied(PORT) as c:
        for column, value in [
            ("tz", at_utc(2024, 1, 1, 0, 0, 0, 1)), ("ts", "infinity"), ("da", "-infinity"), ("nu", decimal.Decimal("1" * 35)), ("js", Jsonb(None)),
        ]:
            for form in "stb":
                if form == "b" and isinstance(value, str):
                    continue
                told = fault(lambda: c.execute(f"insert into typed (id, {column}) values (1, %{form})", (value,)))
                assert told[0] in ("22008", "22003", "22023", "0A000"), (column, form, told)
        same([], c.execute("select * from typed").fetchall())


run()
