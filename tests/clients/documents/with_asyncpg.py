"""asyncpg on documents: every value in binary, statements prepared by the driver, batches, cursors."""

import datetime
import decimal
import json
import os
import sys
from contextlib import asynccontextmanager

import asyncpg

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from both import DOCUMENTS, ROWS, TEXT, VALUES, at_utc, both
from check import DATABASE, HOST, PASSWORD, PORT, USER, check, run

COLUMNS = ["id", "kind", "i4", "nu", "te", "da"]
ARRAYS = ["bool", "int2", "int4", "int8", "float4", "float8", "numeric", "text", "varchar", "uuid", "bytea", "timestamptz", "timestamp", "date"]
INSERT = "insert into typed (id, kind, i4, nu, te, da) values ($1, $2, $3, $4, $5, $6)"


@asynccontextmanager
async def emptied(port, **more):
    """A connection, before whose first statement the table is empty."""
    c = await asyncpg.connect(host=HOST, port=port, user=USER, password=PASSWORD, database=DATABASE, timeout=10, **more)
    try:
        await c.execute("delete from typed")
        yield c
    finally:
        await c.close(timeout=10)


@asynccontextmanager
async def filled(port, **more):
    async with emptied(port, **more) as c:
        await c.executemany(INSERT, ROWS)
        yield c


async def answer(c, sql, *given):
    """What a statement gives: the types of parameters and columns, the rows, the tag."""
    statement = await c.prepare(sql)
    rows = [tuple(row) for row in await statement.fetch(*given)]
    kinds = [kind.oid for kind in statement.get_parameters()]
    columns = [(column.name, column.type.oid) for column in statement.get_attributes()]
    return kinds, columns, rows, statement.get_statusmsg()


async def fault(awaitable):
    try:
        return "nothing", await awaitable
    except asyncpg.PostgresError as error:
        return error.sqlstate, error.args[0].splitlines()[0], error.detail, getattr(error, "constraint_name", None), getattr(error, "table_name", None), getattr(error, "column_name", None)
    except asyncpg.DataError as error:
        return type(error).__name__, str(error)


def values_of(column):
    return [None, *([json.dumps(one) for one in DOCUMENTS] if column == "js" else VALUES[column])]


def comes_back(column):
    async def act(port):
        got = []
        async with emptied(port) as c:
            for number, value in enumerate(values_of(column)):
                got.append(await answer(c, f"insert into typed (id, {column}) values ($1, $2) returning {column}, kind, id", number, value))
                got.append(await answer(c, f"update typed set {column} = $1 where id = $2 returning {column}", value, number))
            got.append(await answer(c, f"select id, {column}, {column}::text from typed order by id"))
            got.append(await answer(c, f"select {column} from typed where id = $1", 1))
        return got

    act.__name__ = f"values_of_{column}_come_back"
    both(act)


def is_found(column):
    async def act(port):
        got = []
        values = VALUES[column]
        async with emptied(port) as c:
            await c.executemany(f"insert into typed (id, {column}) values ($1, $2)", list(enumerate([None, *values])))
            for operator in ("=", "<>", "<", "<=", ">", ">=", "is distinct from"):
                for value in values:
                    got.append((operator, value, await answer(c, f"select id, {column} from typed where {column} {operator} $1 order by id", value)))
            for sql, given in [
                (f"select id from typed where {column} = any($1) order by id", (values[:2],)),
                (f"select id from typed where {column} in ($1, $2) order by id", values[-2:]),
                (f"select id from typed where not {column} between $1 and $2 order by id", values[:2]),
                (f"select id, {column} from typed order by {column} desc, id limit $1", (5,)),
            ]:
                got.append((sql, await answer(c, sql, *given)))
        return got

    act.__name__ = f"values_of_{column}_are_found"
    both(act)


for name in [*VALUES, "js"]:
    comes_back(name)
for name in ["bo", "i2", "i4", "i8", "f4", "f8", "nu", "te", "vc", "uu", "by", "tz", "ts", "da"]:
    is_found(name)


@both
async def all_columns_of_a_row(port):
    row = {"id": 1, "kind": "rare", **{name: values[-1] for name, values in VALUES.items()}, "js": json.dumps(DOCUMENTS[2])}
    places = ", ".join(f"${number + 1}" for number in range(len(row)))
    async with emptied(port) as c:
        return [
            await answer(c, f"insert into typed ({', '.join(row)}) values ({places}) returning *", *row.values()),
            await answer(c, "select * from typed where id = $1", 1),
            await answer(c, "table typed"),
        ]


@both
async def several_rows_and_their_returning(port):
    async with emptied(port) as c:
        return [
            await answer(c, "insert into typed (id, kind, i4) values ($1, $2, $3), ($4, default, $5), (-3, 'odd', null) returning id, kind, i4", 1, "rare", -5, 2, 6),
            await answer(c, "insert into typed (id, te) values ($1, $2) on conflict (id) do nothing", 1, "x"),
            await answer(c, "insert into typed (id, te) values ($1, $2) on conflict (id) do update set te = excluded.te returning id, te, kind", 1, "y"),
            await answer(c, "update typed set i4 = i4 + $1, te = $2 where i4 > $3 returning id, i4, te", 10, TEXT, 0),
            await answer(c, "update typed set i8 = id - $1 where id <> $2", 2**62, 7),
            await answer(c, "update typed set nu = $1, da = $2, by = $3 where id = $4", decimal.Decimal("1.10"), datetime.date(1960, 1, 1), b"\0", -3),
            await answer(c, "update typed set bo = true where id = 99"),
            await answer(c, "select id, kind, i4, i8, nu, te, da, by from typed order by id"),
            await answer(c, "delete from typed where id = any($1) returning id, te", [1, 77]),
            await answer(c, "delete from typed where kind = 'nothing'"),
            await c.execute("delete from typed"),
        ]


@both
async def batches(port):
    got = []
    async with emptied(port) as c:
        got.append(await c.executemany(INSERT, ROWS))
        got.append(await c.executemany("update typed set i8 = $1 where id = $2", [(n * 2**33, n) for n in range(30)]))
        # A batch is undone together.
        got.append((await fault(c.executemany("insert into typed (id) values ($1)", [(500,), (501,), (500,)])))[0])
        rows = await c.fetchmany("insert into typed (id, te) values ($1, $2) returning id, te", [(n, TEXT) for n in range(600, 620)])
        got.append([tuple(row) for row in rows])
        got.append(await answer(c, "select id, i8, te from typed order by id"))
    return got


@both
async def keys_ranges_and_orders(port):
    got = []
    async with filled(port) as c:
        for sql, given in [
            ("select * from typed where id = $1", (7,)),
            ("select id, te from typed where id in ($1, $2, $3) order by id", (3, 99, 5)),
            ("select id from typed where id = any($1) order by id desc", ([1, 2, 2, -5],)),
            ("select id from typed where id <> all($1) and i4 is null order by id", ([7, 14],)),
            ("select id, da from typed where da between $1 and $2 order by da", (datetime.date(1969, 12, 29), datetime.date(1970, 1, 3))),
            ("select id, nu from typed where nu >= $1 and not (i4 < $2) order by nu desc, id limit $3 offset $4", (decimal.Decimal("2.5"), 10, 5, 2)),
            ("select id, te from typed order by te nulls first, id desc limit 9", ()),
            ("select te, id from typed where te like $1 order by id", ("t_é%",)),
            ("select id from typed where kind = $1 and te is not null or id = $2 order by 1", ("odd", 1)),
            ("select id as a, i4::text as b, null as c from typed where id < $1 order by a", (4,)),
            ("select id, i4 * 2 + $1 as twice, upper(kind) from typed where id < 9 order by id", (1,)),
            ("select count(*), count(i4), sum(i4), min(da), max(te), min(nu) from typed", ()),
            ("select sum(id), sum(i4), avg(i4), sum(nu), avg(nu) from typed where id > $1", (3,)),
            ("select count(*), sum(i4), max(i4) from typed where id < $1", (-1,)),
            ("select kind, count(*), sum(i4), max(da) from typed group by kind order by kind", ()),
            ("select te, kind, count(*) as n from typed group by te, kind having count(*) > $1 order by n desc, te nulls last, kind", (1,)),
            ("select distinct te from typed order by te", ()),
            ("select t.id, t.te, k.title from typed t join kinds k on k.name = t.kind where t.i4 > $1 order by t.id", (5,)),
            ("select k.name, count(t.id), sum(t.nu) from kinds k left join typed t on t.kind = k.name and t.id <= $1 group by k.name order by 1", (20,)),
            ("select id from typed where kind in (select name from kinds where title is not null) and id < $1 order by id", (12,)),
            ("with few as (select * from typed where id < $1) select a.id, b.id from few a join few b on b.id = a.id + 1 order by 1", (5,)),
        ]:
            for _ in range(2):
                got.append((sql, await answer(c, sql, *given)))
    return got


@both
async def transactions(port):
    got = []
    async with emptied(port) as c:
        async with c.transaction():
            await c.execute(INSERT, *ROWS[0])
            got.append(await answer(c, "select count(*) from typed"))
        try:
            async with c.transaction():
                await c.execute(INSERT, *ROWS[1])
                await c.execute("update typed set te = 'gone' where id = 1")
                got.append(await answer(c, "select id, te from typed t join kinds k on k.name = t.kind order by id"))
                raise KeyError
        except KeyError:
            pass
        async with c.transaction(isolation="repeatable_read", readonly=True):
            got.append(await answer(c, "select id, te from typed order by id"))
        await c.execute("begin")
        await c.execute(INSERT, *ROWS[2])
        got.append(await fault(c.execute(INSERT, *ROWS[2])))
        got.append(await fault(c.fetch("select id from typed")))
        await c.execute("rollback")
        got.append(await answer(c, "select id from typed order by id"))
    return got


@both
async def errors_leave_the_connection_usable(port):
    got = []
    async with emptied(port) as c:
        await c.execute(INSERT, *ROWS[0])
        for sql, given in [
            ("insert into typed (id) values ($1)", (1,)),
            ("insert into typed (id, kind) values ($1, $2)", (2, None)),
            ("insert into typed (id) values ($1)", (None,)),
            ("insert into typed (id) values (5), (6), (5)", ()),
            ("update typed set kind = $1", (None,)),
            ("insert into typed (id, vc) values (3, $1)", ("12345678901",)),
            ("insert into typed (id, i4) values (3, $1)", (2**40,)),
            ("insert into typed (id, uu) values (3, $1)", ("no uuid",)),
            ("insert into typed (id, js) values (3, $1)", ("{",)),
            ("select * from typed where nothing = $1", (1,)),
            ("update typed set i4 = i4 + $1 where id = 1", (2**31 - 1,)),
        ]:
            told = await fault(c.fetch(sql, *given))
            # Nobody has the whole row that an UPDATE would make.
            got.append((sql, told[:2] if sql.startswith("update") else told))
        got.append(await answer(c, "select id, i4 from typed"))
    return got


@both
async def cursors_are_portals(port):
    got = []
    async with filled(port) as c:
        async with c.transaction():
            got += [tuple(row) async for row in c.cursor("select id, nu, da from typed where id > $1 order by id", 3, prefetch=7)]
            cursor = await c.cursor("select id, te from typed order by id")
            got += [tuple(row) for row in await cursor.fetch(3)]
            # Another statement runs while the portal is open.
            got.append(await c.fetchval("select count(*) from typed where id < $1", 9))
            got += [tuple(row) for row in await cursor.fetch(100)]
    return got


@both
async def nothing_is_kept_of_statements(port):
    got = []
    async with filled(port, statement_cache_size=0) as c:
        for number in range(1, 41):
            got.append(tuple(await c.fetchrow("select te, nu, da from typed where id = $1", number)))
    return got


@check
async def what_documents_have_not_is_refused():
    async with emptied(PORT) as c:
        for column, value in [
            ("tz", at_utc(2024, 1, 1, 0, 0, 0, 1)), ("ts", datetime.datetime.max), ("da", datetime.date.max), ("nu", decimal.Decimal("1" * 35)), ("js", "null"),
        ]:
            told = await fault(c.execute(f"insert into typed (id, {column}) values (1, $1)", value))
            assert told[0] in ("22008", "22003", "22023", "0A000"), (column, told)
        assert await c.fetch("select * from typed") == []


run()
