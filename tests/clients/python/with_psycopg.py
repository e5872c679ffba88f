"""psycopg 3: the extended protocol with text and binary, prepared statements, pipelines, COPY, two-phase commit."""

import datetime
import decimal
import threading
import uuid

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from check import DATABASE, HOST, PASSWORD, PORT, TEXT, USER, check, fresh, poll, run

LOGIN = dict(host=HOST, port=PORT, user=USER, password=PASSWORD, dbname=DATABASE, connect_timeout=10)


def connect(autocommit=True, **more):
    return psycopg.connect(**LOGIN, autocommit=autocommit, **more)


class Table:
    """A table of its own for one check: `id int primary key, body text`."""

    def __enter__(self):
        self.name = fresh("p3")
        with connect() as c:
            c.execute(f"create table {self.name} (id int primary key, body text)")
        return self.name

    def __exit__(self, *_):
        with connect() as c:
            c.execute(f"drop table {self.name}")


def fails(sqlstate, act):
    try:
        act()
    except psycopg.Error as error:
        assert error.sqlstate == sqlstate, f"{error.sqlstate} instead of {sqlstate}: {error}"
        return error
    raise AssertionError(f"no error {sqlstate}")


@check
def says_what_it_is():
    with connect() as c:
        assert c.info.server_version >= 150000
        assert c.info.parameter_status("server_encoding") == "UTF8"
        assert c.info.parameter_status("standard_conforming_strings") == "on"


@check
def simple_query_of_several_statements():
    with connect() as c:
        cursor = c.execute("select 1; select 'two'; select 3")
        seen = [cursor.fetchone()[0]]
        while cursor.nextset():
            seen.append(cursor.fetchone()[0])
        assert seen == [1, "two", 3]


@check
def parameters_as_text_and_binary():
    with connect() as c:
        for form in ("%s", "%t", "%b"):
            for binary in (False, True):
                cursor = c.cursor(binary=binary)
                row = cursor.execute(f"select {form}::int + 1, {form}::text", (41, TEXT)).fetchone()
                assert row == (42, TEXT), (form, binary, row)


@check
def types_come_back_as_they_went():
    values = [
        ("int2", -5), ("int4", 2**31 - 1), ("int8", -(2**63)), ("float8", 0.1), ("bool", True),
        ("numeric", decimal.Decimal("12345678901234567890.123456789")), ("text", TEXT), ("text", ""), ("int4", None),
        ("bytea", bytes(range(256))), ("date", datetime.date(2000, 2, 29)), ("uuid", uuid.UUID(int=5)),
        ("timestamp", datetime.datetime(1999, 12, 31, 23, 59, 59, 999999)), ("int4[]", [1, None, 3]),
        ("timestamptz", datetime.datetime(2024, 1, 2, 3, 4, 5, 6, datetime.timezone.utc)),
        ("interval", datetime.timedelta(days=3, seconds=5)), ("text[]", ["a,b", '"q"', None, "\\"]),
    ]
    with connect() as c:
        for kind, value in values:
            for binary in (False, True):
                got = c.cursor(binary=binary).execute(f"select %s::{kind}", (value,)).fetchone()[0]
                assert got == value, (kind, binary, got)
        document = {"a": [1, None, TEXT]}
        assert c.execute("select %s::jsonb", (Jsonb(document),)).fetchone()[0] == document


@check
def prepared_statement_is_reused():
    with connect() as c:
        for i in range(200):
            assert c.execute("select %s::int * 2", (i,), prepare=True).fetchone() == (2 * i,)


@check
def prepared_statements_come_and_go():
    with connect() as c:
        c.prepare_threshold, c.prepared_max = 0, 5
        for i in range(200):
            assert c.execute(f"select %s::int + {i % 20}", (i,)).fetchone() == (i + i % 20,)


@check
def two_clients_use_one_statement_name():
    with connect() as a, connect() as b:
        a.execute("prepare same as select 1")
        b.execute("prepare same as select 'b'")
        for _ in range(20):
            assert a.execute("execute same").fetchone() == (1,)
            assert b.execute("execute same").fetchone() == ("b",)
        a.execute("deallocate all")
        fails("26000", lambda: a.execute("execute same"))
        assert b.execute("execute same").fetchone() == ("b",)


@check
def prepared_statement_survives_ddl():
    with Table() as t, connect() as c:
        for _ in range(3):
            c.execute(f"select body from {t}", prepare=True).fetchall()
        c.execute(f"alter table {t} add extra int default 3")
        assert c.execute(f"select body from {t}", prepare=True).fetchall() == []


@check
def transaction_commits_and_rolls_back():
    with Table() as t, connect(autocommit=False) as c:
        c.execute(f"insert into {t} values (1, 'kept')")
        c.commit()
        c.execute(f"insert into {t} values (2, 'gone')")
        c.rollback()
        assert c.execute(f"select id from {t}").fetchall() == [(1,)]


@check
def savepoint_undoes_only_its_part():
    with Table() as t, connect() as c:
        with c.transaction():
            c.execute(f"insert into {t} values (1, 'outer')")
            try:
                with c.transaction():
                    c.execute(f"insert into {t} values (1, 'twice')")
                raise AssertionError("no error")
            except psycopg.errors.UniqueViolation:
                pass
            c.execute(f"insert into {t} values (2, 'outer')")
        assert c.execute(f"select count(*) from {t}").fetchone() == (2,)


@check
def error_fails_the_transaction_until_rollback():
    with connect(autocommit=False) as c:
        fails("22012", lambda: c.execute("select 1/0"))
        assert c.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
        fails("25P02", lambda: c.execute("select 1"))
        c.rollback()
        assert c.execute("select 1").fetchone() == (1,)


@check
def errors_carry_all_fields():
    with Table() as t, connect() as c:
        fails("42601", lambda: c.execute("selec 1"))
        fails("42P01", lambda: c.execute("select * from there_is_no_such_table"))
        fails("22P02", lambda: c.execute("select %s::text::int", ("x",)))
        c.execute(f"insert into {t} values (1)")
        error = fails("23505", lambda: c.execute(f"insert into {t} values (1)"))
        assert error.diag.table_name == t and error.diag.constraint_name == f"{t}_pkey", error.diag.table_name
        assert "already exists" in error.diag.message_detail
        assert fails("42601", lambda: c.execute("select 1 from from")).diag.statement_position == "15"


@check
def notices_arrive():
    with connect() as c:
        seen = []
        c.add_notice_handler(lambda diag: seen.append((diag.severity, diag.message_primary)))
        c.execute("do $$ begin raise notice 'hello'; end $$")
        assert seen == [("NOTICE", "hello")]


@check
def copy_in_text_and_binary():
    with Table() as t, connect() as c:
        with c.cursor().copy(f"copy {t} from stdin") as copy:
            for i in range(3000):
                copy.write_row((i, TEXT))
        with c.cursor().copy(f"copy {t} from stdin (format binary)") as copy:
            copy.set_types(["int4", "text"])
            for i in range(3000, 4000):
                copy.write_row((i, None))
        assert c.execute(f"select count(*), count(body), sum(id) from {t}").fetchone() == (4000, 3000, 3999 * 2000)


@check
def copy_out():
    with connect() as c:
        with c.cursor().copy("copy (select g, 'x' from generate_series(1, 5000) g) to stdout") as copy:
            copy.set_types(["int4", "text"])
            assert sum(row[0] for row in copy.rows()) == 5000 * 5001 // 2


@check
def copy_that_fails_leaves_nothing():
    with Table() as t, connect() as c:
        def bad():
            with c.cursor().copy(f"copy {t} from stdin") as copy:
                copy.write("1\tgood\nbad\trow\n")
        fails("22P02", bad)
        def given_up():
            with c.cursor().copy(f"copy {t} from stdin") as copy:
                copy.write("1\tgood\n")
                raise KeyError("enough")
        try:
            given_up()
        except KeyError:
            pass
        assert c.execute(f"select count(*) from {t}").fetchone() == (0,)


@check
def pipeline_answers_in_order():
    with connect() as c, c.pipeline():
        cursors = [c.execute("select %s::int", (i,)) for i in range(300)]
        assert [cursor.fetchone()[0] for cursor in cursors] == list(range(300))


@check
def pipeline_error_undoes_its_part_only():
    with Table() as t, connect() as c:
        def pipeline():
            with c.pipeline():
                c.execute(f"insert into {t} values (1)")
                c.execute("select 1/0")
                c.execute(f"insert into {t} values (2)")
        fails("22012", pipeline)
        assert c.execute(f"select count(*) from {t}").fetchone() == (0,)
        with c.pipeline():
            c.execute(f"insert into {t} values (3)")
        assert c.execute(f"select id from {t}").fetchall() == [(3,)]


@check
def executemany_returns_each_row():
    with Table() as t, connect() as c:
        cursor = c.cursor()
        cursor.executemany(f"insert into {t} values (%s, %s) returning id", [(i, "m") for i in range(60)], returning=True)
        seen = [cursor.fetchone()[0]]
        while cursor.nextset():
            seen.append(cursor.fetchone()[0])
        assert seen == list(range(60))


@check
def cancel_ends_the_running_query_only():
    mark = fresh("cancel")
    with connect() as busy, connect() as watcher:
        def running():
            query = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and query like %s"
            return watcher.execute(query, (f"select pg_sleep(60) /* {mark} */%",)).fetchone()[0] > 0
        def cancel():
            poll(running)
            busy.cancel_safe(timeout=10)
        thread = threading.Thread(target=cancel)
        thread.start()
        fails("57014", lambda: busy.execute(f"select pg_sleep(60) /* {mark} */"))
        thread.join()
        assert busy.execute("select 1").fetchone() == (1,)
        # Late: there is nothing to cancel, and nobody else may be hit.
        busy.cancel_safe(timeout=10)
        assert watcher.execute("select 2 from pg_sleep(0.2)").fetchone() == (2,)
        assert busy.execute("select 3").fetchone() == (3,)


@check
def the_process_number_is_one_wherever_it_shows():
    with connect() as a, connect() as b:
        number = a.info.backend_pid
        assert a.execute("select pg_backend_pid()").fetchone() == (number,)
        own = "select pid from pg_stat_activity where pid = %s"
        assert a.execute(own, (number,)).fetchone() == (number,)
        sleeping = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and query like %s"
        mark = fresh("number")
        def signals():
            poll(lambda: b.execute(sleeping, (f"%/* {mark} */%",)).fetchone()[0] > 0)
            assert b.execute("select pg_cancel_backend(%s)", (number,)).fetchone() == (True,)
        thread = threading.Thread(target=signals)
        thread.start()
        fails("57014", lambda: a.execute(f"select pg_sleep(60) /* {mark} */"))
        thread.join()
        assert b.execute("select pg_terminate_backend(%s)", (number,)).fetchone() == (True,)
        fails("57P01", lambda: a.execute("select 1"))
        assert a.closed


@check
def listen_and_notify():
    channel = fresh("channel")
    with connect() as a, connect() as b:
        a.execute(f"listen {channel}")
        b.execute("select pg_notify(%s, %s)", (channel, TEXT))
        got = list(a.notifies(timeout=20, stop_after=1))
        assert [n.payload for n in got] == [TEXT]


@check
def settings_last_as_long_as_they_should():
    with connect() as c:
        c.execute("set statement_timeout = '54321ms'")
        with c.transaction():
            c.execute("set local statement_timeout = '11111ms'")
            assert c.execute("show statement_timeout").fetchone() == ("11111ms",)
        assert c.execute("show statement_timeout").fetchone() == ("54321ms",)
        try:
            with c.transaction():
                c.execute("set statement_timeout = '22222ms'")
                raise KeyError
        except KeyError:
            pass
        assert c.execute("show statement_timeout").fetchone() == ("54321ms",)
        c.execute("reset statement_timeout")
        with connect() as other:
            assert other.execute("show statement_timeout").fetchone() == c.execute("show statement_timeout").fetchone()


@check
def parameter_status_follows_set():
    with connect() as c:
        c.execute("set timezone = 'Asia/Kathmandu'")
        assert c.info.parameter_status("TimeZone") == "Asia/Kathmandu"
        c.execute("set client_encoding = 'LATIN1'")
        assert c.execute("select 'é'::text").fetchone() == ("é",)


@check
def startup_options_are_obeyed():
    with connect(options="-c search_path=pg_catalog -c statement_timeout=12345", application_name="p3 app") as c:
        assert c.execute("show search_path").fetchone() == ("pg_catalog",)
        assert c.execute("show statement_timeout").fetchone() == ("12345ms",)
        assert c.execute("show application_name").fetchone() == ("p3 app",)
    with connect() as c:
        assert c.execute("show statement_timeout").fetchone() != ("12345ms",)


@check
def session_objects_are_seen_by_their_session_only():
    with connect() as a, connect() as b:
        name = fresh("temp")
        a.execute(f"create temp table {name} as select 7 as x")
        assert a.execute("select pg_try_advisory_lock(4711)").fetchone() == (True,)
        for _ in range(10):
            assert a.execute(f"select x from {name}").fetchone() == (7,)
            fails("42P01", lambda: b.execute(f"select x from {name}"))
        assert b.execute("select pg_try_advisory_lock(4711)").fetchone() == (False,)
        assert a.execute("select pg_advisory_unlock(4711)").fetchone() == (True,)


@check
def cursor_is_read_in_pieces():
    with connect(autocommit=False) as c:
        with c.cursor("pieces") as cursor:
            cursor.itersize = 100
            cursor.execute("select g from generate_series(1, 3000) g")
            assert sum(row[0] for row in cursor) == 3000 * 3001 // 2


@check
def cursor_with_hold_outlives_its_transaction():
    with connect() as c:
        c.execute("declare held cursor with hold for select generate_series(1, 10)")
        assert c.execute("fetch 4 from held").fetchall() == [(1,), (2,), (3,), (4,)]
        assert c.execute("fetch 1 from held").fetchall() == [(5,)]
        c.execute("close held")


@check
def rows_are_streamed_one_by_one():
    with connect() as c:
        rows = c.cursor().stream("select g from generate_series(1, 3000) g")
        assert sum(row[0] for row in rows) == 3000 * 3001 // 2


@check
def many_rows_and_large_values():
    with connect() as c:
        rows = c.execute("select g, repeat('y', 100) from generate_series(1, 100000) g").fetchall()
        assert len(rows) == 100000 and rows[-1] == (100000, "y" * 100)
        value = "é" * 8_000_000
        assert c.execute("select %s::text", (value,)).fetchone()[0] == value


@check
def many_parameters():
    with connect() as c:
        count = 30000
        marks = ",".join(["%s"] * count)
        assert c.execute(f"select cardinality(array[{marks}]::int[])", list(range(count))).fetchone() == (count,)


@check
def two_phase_commit_by_hand():
    with Table() as t, connect(autocommit=False) as c:
        xid = c.xid(1, fresh("gid"), "branch")
        c.tpc_begin(xid)
        c.execute(f"insert into {t} values (1)")
        c.tpc_prepare()
        c.tpc_rollback()
        assert c.execute(f"select count(*) from {t}").fetchone() == (0,)
        c.rollback()


@check
def identifiers_and_quotes():
    name = fresh('Odd "name"')
    with connect() as c:
        table = sql.Identifier(name)
        c.execute(sql.SQL("create table {} (\"a b\" text)").format(table))
        c.execute(sql.SQL("insert into {} values (%s)").format(table), (TEXT,))
        assert c.execute(sql.SQL('select "a b" from {}').format(table)).fetchone() == (TEXT,)
        c.execute(sql.SQL("drop table {}").format(table))


@check
def wrong_password_is_refused():
    try:
        psycopg.connect(**{**LOGIN, "password": "guess"})
    except psycopg.OperationalError as error:
        assert "password authentication failed" in str(error), error
        return
    raise AssertionError("let in")


@check
def forty_threads_get_their_own_answers():
    wrong = []
    def ask(i):
        try:
            with connect() as c:
                for k in range(20):
                    assert c.execute("select %s::text", (f"{i}-{k}",)).fetchone() == (f"{i}-{k}",)
        except Exception as error:
            wrong.append(error)
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[0]


run()
