"""asyncpg: binary throughout, its own statement cache, portals, type introspection, pools."""

import asyncio
import datetime
import decimal
import io
import uuid
from contextlib import asynccontextmanager

import asyncpg

from check import DATABASE, HOST, PASSWORD, PORT, TEXT, USER, check, fresh, poll_async, run

LOGIN = dict(host=HOST, port=PORT, user=USER, password=PASSWORD, database=DATABASE, timeout=10)


@asynccontextmanager
async def connect(**more):
    connection = await asyncpg.connect(**{**LOGIN, **more})
    try:
        yield connection
    finally:
        await connection.close(timeout=10)


@asynccontextmanager
async def table(connection):
    name = fresh("ap")
    await connection.execute(f"create table {name} (id int primary key, body text)")
    try:
        yield name
    finally:
        await connection.execute(f"drop table {name}")


async def fails(sqlstate, awaitable):
    try:
        await awaitable
    except asyncpg.PostgresError as error:
        assert error.sqlstate == sqlstate, f"{error.sqlstate} instead of {sqlstate}: {error}"
        return error
    raise AssertionError(f"no error {sqlstate}")


@check
async def says_what_it_is():
    async with connect() as c:
        assert c.get_server_version().major >= 15
        assert c.get_settings().server_encoding == "UTF8"


@check
async def simple_query_of_several_statements():
    async with connect() as c:
        assert await c.execute("select 1; select 2 union select 3") == "SELECT 2"


@check
async def parameters_in_binary():
    async with connect() as c:
        assert await c.fetchrow("select $1::int + 1, $2::text", 41, TEXT) == (42, TEXT)


@check
async def types_come_back_as_they_went():
    values = [
        ("int2", -3), ("int8", -(2**63)), ("float8", 0.1), ("bool", True), ("text", TEXT), ("int4", None),
        ("numeric", decimal.Decimal("123456789012345678901234.5678")), ("bytea", bytes(range(256))),
        ("date", datetime.date(2000, 2, 29)), ("uuid", uuid.UUID(int=9)), ("jsonb", '{"a": [1, null]}'),
        ("timestamptz", datetime.datetime(2024, 1, 2, 3, 4, 5, 6, datetime.timezone.utc)),
        ("interval", datetime.timedelta(days=1, microseconds=5)), ("int4[]", [1, None, 3]),
        ("text[]", ["a,b", None]), ("int4range", asyncpg.Range(1, 5)), ("point", asyncpg.Point(1, 2)),
    ]
    async with connect() as c:
        for kind, value in values:
            got = await c.fetchval(f"select $1::{kind}", value)
            assert got == value, (kind, got)


@check
async def user_types_are_introspected():
    name = fresh("kind")
    async with connect() as c:
        await c.execute(f"create type {name}_e as enum ('a', 'b'); create type {name}_c as (x int, y {name}_e)")
        row = await c.fetchval(f"select $1::{name}_c", (1, "b"))
        assert (row["x"], row["y"]) == (1, "b")
        assert await c.fetchval(f"select $1::{name}_e[]", ["a", "b"]) == ["a", "b"]
        await c.execute(f"drop type {name}_c; drop type {name}_e")


@check
async def prepared_statement_is_reused():
    async with connect() as c:
        statement = await c.prepare("select $1::int * 2")
        for i in range(200):
            assert await statement.fetchval(i) == 2 * i


@check
async def statement_cache_turns_over_or_is_off():
    for size in (5, 0):
        async with connect(statement_cache_size=size) as c:
            for i in range(100):
                assert await c.fetchval(f"select $1::int + {i % 20}", i) == i + i % 20


@check
async def cached_statement_sees_new_columns():
    async with connect() as c, table(c) as t:
        await c.execute(f"insert into {t} values (1, 'x')")
        for _ in range(3):
            await c.fetch(f"select * from {t}")
        await c.execute(f"alter table {t} add extra int default 3")
        assert [tuple(row) for row in await c.fetch(f"select * from {t}")] == [(1, "x", 3)]


@check
async def transaction_commits_and_rolls_back():
    async with connect() as c, table(c) as t:
        async with c.transaction():
            await c.execute(f"insert into {t} values ($1, $2)", 1, "kept")
        try:
            async with c.transaction():
                await c.execute(f"insert into {t} values (2, 'gone')")
                raise KeyError
        except KeyError:
            pass
        async with c.transaction(isolation="serializable", readonly=True, deferrable=True):
            assert await c.fetchval(f"select count(*) from {t}") == 1
            await fails("25006", c.execute(f"insert into {t} values (3)"))


@check
async def savepoint_undoes_only_its_part():
    async with connect() as c, table(c) as t:
        async with c.transaction():
            await c.execute(f"insert into {t} values (1)")
            try:
                async with c.transaction():
                    await c.execute(f"insert into {t} values (1)")
                raise AssertionError("no error")
            except asyncpg.UniqueViolationError as error:
                assert error.constraint_name == f"{t}_pkey"
            await c.execute(f"insert into {t} values (2)")
        assert await c.fetchval(f"select count(*) from {t}") == 2


@check
async def errors_leave_the_connection_usable():
    async with connect() as c:
        await fails("22012", c.fetch("select 1/0"))
        await fails("42601", c.fetch("selec"))
        await fails("42P01", c.fetch("select * from there_is_no_such_table"))
        await fails("22P02", c.fetchval("select $1::text::int", "x"))
        assert await c.fetchval("select 1") == 1


@check
async def copy_in_binary_and_out():
    async with connect() as c, table(c) as t:
        done = await c.copy_records_to_table(t, records=[(i, f"r{i}") for i in range(5000)])
        assert done == "COPY 5000"
        out = io.BytesIO()
        await c.copy_from_table(t, output=out, format="csv")
        assert out.getvalue().count(b"\n") == 5000
        out = io.BytesIO()
        await c.copy_from_query("select generate_series(1, $1::int)", 1000, output=out)
        assert out.getvalue().count(b"\n") == 1000


@check
async def copy_that_fails_leaves_nothing():
    async with connect() as c, table(c) as t:
        await fails("22P02", c.copy_to_table(t, source=io.BytesIO(b"1\tgood\nbad\trow\n")))
        assert await c.fetchval(f"select count(*) from {t}") == 0


@check
async def cursor_is_a_portal():
    async with connect() as c:
        async with c.transaction():
            total = 0
            async for row in c.cursor("select g from generate_series(1, 1000) g", prefetch=37):
                total += row[0]
            assert total == 500500
            cursor = await c.cursor("select generate_series(1, 100)")
            assert len(await cursor.fetch(10)) == 10
            await cursor.forward(5)
            assert (await cursor.fetchrow())[0] == 16


@check
async def executemany_is_atomic():
    async with connect() as c, table(c) as t:
        await c.executemany(f"insert into {t} values ($1, $2)", [(i, "m") for i in range(2000)])
        assert await c.fetchval(f"select count(*) from {t}") == 2000
        await fails("23505", c.executemany(f"insert into {t} values ($1)", [(5000,), (5001,), (1,)]))
        assert await c.fetchval(f"select count(*) from {t} where id >= 5000") == 0


@check
async def listen_and_notify():
    channel = fresh("channel")
    async with connect() as a, connect() as b:
        heard = asyncio.get_running_loop().create_future()
        await a.add_listener(channel, lambda *event: heard.done() or heard.set_result(event[3]))
        await b.execute("select pg_notify($1, $2)", channel, TEXT)
        assert await asyncio.wait_for(heard, 20) == TEXT


@check
async def cancel_by_timeout_and_by_task():
    mark = fresh("cancel")
    async with connect() as c, connect() as watcher:
        try:
            await c.fetchval("select pg_sleep(60)", timeout=0.2)
            raise AssertionError("no timeout")
        except asyncio.TimeoutError:
            pass
        assert await c.fetchval("select 1") == 1
        task = asyncio.create_task(c.fetchval(f"select pg_sleep(60) /* {mark} */"))
        query = "select count(*) > 0 from pg_stat_activity where wait_event = 'PgSleep' and query like $1"
        await poll_async(lambda: watcher.fetchval(query, f"select pg_sleep(60) /* {mark} */%"))
        task.cancel()
        try:
            await task
            raise AssertionError("not cancelled")
        except asyncio.CancelledError:
            pass
        assert await c.fetchval("select 2") == 2


@check
async def the_process_number_is_one_wherever_it_shows():
    channel = fresh("channel")
    heard = []
    async with connect() as c, connect() as other:
        number = c.get_server_pid()
        assert await c.fetchval("select pg_backend_pid()") == number
        await c.add_listener(channel, lambda connection, pid, name, payload: heard.append(pid))
        await c.execute(f"notify {channel}")
        async def is_heard():
            return bool(heard)
        await poll_async(is_heard)
        assert heard == [number]
        assert await other.fetchval("select pg_terminate_backend($1)", number)


@check
async def server_settings_are_obeyed():
    given = {"application_name": "ap app", "search_path": "pg_catalog", "jit": "off"}
    async with connect(server_settings=given) as c:
        for name, value in given.items():
            assert await c.fetchval(f"show {name}") == value
        assert c.get_settings().application_name == "ap app"


@check
async def settings_follow_and_are_reset():
    async with connect() as c:
        before = await c.fetchval("show work_mem")
        await c.execute("set timezone = 'Asia/Tokyo'; set work_mem = '9MB'")
        assert c.get_settings().TimeZone == "Asia/Tokyo"
        assert await c.fetchval("show work_mem") == "9MB"
        await c.reset()
        assert await c.fetchval("show work_mem") == before


@check
async def many_rows_values_and_parameters():
    async with connect() as c:
        assert len(await c.fetch("select g, repeat('y', 100) from generate_series(1, 100000) g")) == 100000
        value = "é" * 8_000_000
        assert await c.fetchval("select $1::text", value) == value
        count = 32767
        marks = ",".join(f"${i + 1}::int" for i in range(count))
        assert await c.fetchval(f"select cardinality(array[{marks}])", *range(count)) == count


@check
async def pool_serves_more_tasks_than_connections():
    async with asyncpg.create_pool(**LOGIN, min_size=2, max_size=8) as pool:
        async def ask(i):
            async with pool.acquire() as c:
                return await c.fetchval("select $1::int", i)
        assert await asyncio.gather(*[ask(i) for i in range(60)]) == list(range(60))


@check
async def connections_get_their_own_answers():
    async def ask(i):
        async with connect() as c:
            for k in range(30):
                assert await c.fetchval("select $1::text", f"{i}-{k}") == f"{i}-{k}"
    await asyncio.gather(*[ask(i) for i in range(20)])


@check
async def wrong_password_is_refused():
    async def guess():
        async with connect(password="guess"):
            pass
    await fails("28P01", guess())


run()
