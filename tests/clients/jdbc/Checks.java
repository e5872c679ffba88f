import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.sql.*;
import java.time.LocalDate;
import java.time.OffsetDateTime;
import java.util.*;
import java.util.concurrent.*;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyManager;

/**
 * pgjdbc: all of its query modes, server-side prepared statements after a threshold, batches, fetch size, COPY, metadata.
 * Prints {@code PASS name} or {@code FAIL name why} for each check, then {@code DONE n}.
 */
public class Checks {
    static final String TEXT = "naïve 'čaj' \\ 日本 🚀";
    static final Map<String, String> ENV = System.getenv();
    static int checks, failed, number;

    interface Act {
        void run() throws Exception;
    }

    interface With<T> {
        void run(T it) throws Exception;
    }

    static void check(String name, Act act) {
        checks++;
        try {
            act.run();
            System.out.println("PASS " + name);
        } catch (Throwable error) {
            failed++;
            String why = error.toString().replaceAll("\\s+", " ");
            System.out.println("FAIL " + name + " " + why.substring(0, Math.min(300, why.length())));
        }
    }

    static void equal(Object expected, Object got) {
        if (!Objects.equals(expected, got)) throw new AssertionError("expected " + expected + ", got " + got);
    }

    static void fails(String sqlstate, Act act) throws Exception {
        try {
            act.run();
        } catch (SQLException error) {
            if (!sqlstate.equals(error.getSQLState())) throw error;
            return;
        }
        throw new AssertionError("no error " + sqlstate);
    }

    static Connection connect(String options) throws SQLException {
        String url = "jdbc:postgresql://" + ENV.get("PGHOST") + ":" + ENV.get("PGPORT") + "/" + ENV.get("PGDATABASE");
        return DriverManager.getConnection(url + "?" + options, ENV.get("PGUSER"), ENV.get("PGPASSWORD"));
    }

    static void connected(String options, With<Connection> act) throws Exception {
        try (Connection c = connect(options)) {
            act.run(c);
        }
    }

    static String fresh(String kind) {
        return kind + "_" + ProcessHandle.current().pid() + "_" + ++number;
    }

    interface WithTable {
        void run(Connection c, String table) throws Exception;
    }

    static void withTable(String options, WithTable act) throws Exception {
        String table = fresh("jd");
        connected("", c -> run(c, "create table " + table + " (id int primary key, body text)"));
        try {
            connected(options, c -> act.run(c, table));
        } finally {
            connected("", c -> run(c, "drop table " + table));
        }
    }

    static void run(Connection c, String sql) throws SQLException {
        try (Statement s = c.createStatement()) {
            s.execute(sql);
        }
    }

    static Object one(Connection c, String sql, Object... values) throws SQLException {
        try (PreparedStatement p = c.prepareStatement(sql)) {
            for (int i = 0; i < values.length; i++) p.setObject(i + 1, values[i]);
            try (ResultSet r = p.executeQuery()) {
                r.next();
                return r.getObject(1);
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        queries();
        transactions();
        bulk();
        sessions();
        System.out.println("DONE " + checks);
        System.exit(failed > 0 ? 1 : 0);
    }

    static void queries() {
        for (String mode : List.of("simple", "extended", "extendedForPrepared", "extendedCacheEverything")) {
            check("query_mode_" + mode, () -> connected("preferQueryMode=" + mode, c -> {
                for (int i = 0; i < 20; i++) equal(TEXT + i, one(c, "select ?::text || ?::int", TEXT, i));
            }));
        }
        check("prepared_on_the_server_with_binary", () -> connected("prepareThreshold=1&binaryTransfer=true", c -> {
            try (PreparedStatement p = c.prepareStatement("select ?::int8 * 2, now(), ?::numeric")) {
                for (long i = 0; i < 200; i++) {
                    p.setLong(1, i);
                    p.setBigDecimal(2, new BigDecimal("1.25"));
                    try (ResultSet r = p.executeQuery()) {
                        r.next();
                        equal(2 * i, r.getLong(1));
                        equal(new BigDecimal("1.25"), r.getBigDecimal(3));
                    }
                }
            }
        }));
        check("never_prepared_on_the_server", () -> connected("prepareThreshold=0", c -> {
            for (int i = 0; i < 20; i++) equal(i, one(c, "select ?::int", i));
        }));
        check("types_come_back_as_they_went", () -> connected("prepareThreshold=1", c -> {
            OffsetDateTime time = OffsetDateTime.parse("2024-01-02T03:04:05.678901Z");
            for (int round = 0; round < 3; round++) {
                equal(Long.MIN_VALUE, one(c, "select ?::int8", Long.MIN_VALUE));
                BigDecimal wide = new BigDecimal("123456789012345678901234567890.5");
                equal(wide, one(c, "select ?::numeric", wide));
                equal(new UUID(1, 2), one(c, "select ?::uuid", new UUID(1, 2)));
                equal(TEXT, one(c, "select ?::text", TEXT));
                equal(true, one(c, "select ?::bool", true));
                equal(0.1, one(c, "select ?::float8", 0.1));
                equal(java.sql.Date.valueOf("2000-02-29"), one(c, "select ?::date", LocalDate.of(2000, 2, 29)));
                equal(time.toInstant(), ((Timestamp) one(c, "select ?::timestamptz", time)).toInstant());
                equal("{\"a\": 1}", one(c, "select ?::jsonb", "{\"a\": 1}").toString());
                Array array = (Array) one(c, "select ?::int[]", c.createArrayOf("int4", new Integer[] {1, null, 3}));
                equal(Arrays.asList(1, null, 3), Arrays.asList((Object[]) array.getArray()));
                byte[] bytes = {0, 1, (byte) 255};
                equal(Arrays.toString(bytes), Arrays.toString((byte[]) one(c, "select ?::bytea", bytes)));
            }
        }));
        check("many_rows_and_large_values", () -> connected("", c -> {
            try (Statement s = c.createStatement();
                    ResultSet r = s.executeQuery("select g, repeat('y', 100) from generate_series(1, 100000) g")) {
                int rows = 0;
                while (r.next()) rows++;
                equal(100000, rows);
            }
            String value = "é".repeat(8_000_000);
            equal(value, one(c, "select ?::text", value));
        }));
        check("metadata", () -> withTable("", (c, t) -> {
            DatabaseMetaData about = c.getMetaData();
            equal("PostgreSQL", about.getDatabaseProductName());
            int columns = 0;
            try (ResultSet r = about.getColumns(null, "public", t, null)) {
                while (r.next()) columns++;
            }
            equal(2, columns);
            try (ResultSet r = about.getPrimaryKeys(null, "public", t)) {
                equal(true, r.next());
                equal("id", r.getString("COLUMN_NAME"));
            }
            try (ResultSet r = about.getTables(null, null, t, new String[] {"TABLE"})) {
                equal(true, r.next());
            }
        }));
    }

    static void transactions() {
        check("transaction_commits_and_rolls_back", () -> withTable("", (c, t) -> {
            c.setAutoCommit(false);
            run(c, "insert into " + t + " values (1, 'kept')");
            c.commit();
            run(c, "insert into " + t + " values (2, 'gone')");
            c.rollback();
            equal(1L, one(c, "select count(*) from " + t));
            c.rollback();
        }));
        check("savepoints", () -> withTable("autosave=always", (c, t) -> {
            c.setAutoCommit(false);
            run(c, "insert into " + t + " values (1)");
            fails("23505", () -> run(c, "insert into " + t + " values (1)"));
            run(c, "insert into " + t + " values (2)");
            Savepoint point = c.setSavepoint();
            run(c, "delete from " + t);
            c.rollback(point);
            c.commit();
            equal(2L, one(c, "select count(*) from " + t));
            c.rollback();
        }));
        check("errors_leave_the_connection_usable", () -> connected("", c -> {
            fails("22012", () -> one(c, "select 1/0"));
            fails("42601", () -> one(c, "selec"));
            equal(1, one(c, "select 1"));
            c.setAutoCommit(false);
            fails("22012", () -> one(c, "select 1/0"));
            fails("25P02", () -> one(c, "select 1"));
            c.rollback();
            equal(1, one(c, "select 1"));
            c.rollback();
        }));
        check("read_only_and_serializable", () -> withTable("", (c, t) -> {
            c.setReadOnly(true);
            c.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
            c.setAutoCommit(false);
            fails("25006", () -> run(c, "delete from " + t));
            c.rollback();
        }));
    }

    static void bulk() {
        for (boolean rewrite : new boolean[] {false, true}) {
            check(rewrite ? "batch_rewritten" : "batch", () -> withTable("reWriteBatchedInserts=" + rewrite, (c, t) -> {
                try (PreparedStatement p = c.prepareStatement("insert into " + t + " values (?, ?)")) {
                    for (int i = 0; i < 1000; i++) {
                        p.setInt(1, i);
                        p.setString(2, TEXT);
                        p.addBatch();
                    }
                    equal(1000, p.executeBatch().length);
                }
                equal(1000L, one(c, "select count(*) from " + t));
            }));
        }
        check("batch_that_fails", () -> withTable("", (c, t) -> {
            c.setAutoCommit(false);
            try (PreparedStatement p = c.prepareStatement("insert into " + t + " values (?)")) {
                for (int id : new int[] {1, 2, 1, 3}) {
                    p.setInt(1, id);
                    p.addBatch();
                }
                fails("23505", p::executeBatch);
            }
            c.rollback();
            equal(0L, one(c, "select count(*) from " + t));
            c.rollback();
        }));
        check("generated_keys", () -> withTable("", (c, t) -> {
            try (Statement s = c.createStatement()) {
                s.execute("insert into " + t + " values (9, 'g')", Statement.RETURN_GENERATED_KEYS);
                try (ResultSet r = s.getGeneratedKeys()) {
                    r.next();
                    equal(9, r.getInt(1));
                }
            }
        }));
        check("fetch_size_is_a_portal", () -> connected("", c -> {
            c.setAutoCommit(false);
            try (Statement s = c.createStatement()) {
                s.setFetchSize(77);
                long total = 0;
                try (ResultSet r = s.executeQuery("select g from generate_series(1, 5000) g")) {
                    while (r.next()) total += r.getInt(1);
                }
                equal(5000L * 5001 / 2, total);
            }
            c.commit();
        }));
        check("copy_in_and_out", () -> withTable("", (c, t) -> {
            CopyManager copy = c.unwrap(PGConnection.class).getCopyAPI();
            StringBuilder rows = new StringBuilder();
            for (int i = 0; i < 5000; i++) rows.append(i).append("\trow\n");
            equal(5000L, copy.copyIn("copy " + t + " from stdin", new StringReader(rows.toString())));
            StringWriter out = new StringWriter();
            equal(5000L, copy.copyOut("copy " + t + " to stdout", out));
            fails("22P02", () -> copy.copyIn("copy " + t + " from stdin", new StringReader("bad\trow\n")));
            equal(5000L, one(c, "select count(*) from " + t));
        }));
    }

    static void sessions() {
        check("listen_and_notify", () -> connected("", a -> connected("", b -> {
            String channel = fresh("channel");
            run(a, "listen " + channel);
            run(b, "notify " + channel + ", 'hello'");
            PGNotification[] heard = a.unwrap(PGConnection.class).getNotifications(20_000);
            equal("hello", heard[0].getParameter());
        })));
        check("cancel_ends_the_running_query", () -> connected("", c -> connected("", watcher -> {
            String sql = "select pg_sleep(60) /* " + fresh("cancel") + " */";
            try (Statement s = c.createStatement()) {
                Thread canceller = new Thread(() -> {
                    try {
                        long deadline = System.nanoTime() + 20_000_000_000L;
                        String seen = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and query like ?";
                        while (System.nanoTime() < deadline && one(watcher, seen, sql + "%").equals(0L)) Thread.sleep(10);
                        s.cancel();
                    } catch (Exception error) {
                        error.printStackTrace();
                    }
                });
                canceller.start();
                fails("57014", () -> s.executeQuery(sql));
                canceller.join();
            }
            equal(1, one(c, "select 1"));
        })));
        check("query_timeout", () -> connected("", c -> {
            try (Statement s = c.createStatement()) {
                s.setQueryTimeout(1);
                fails("57014", () -> s.executeQuery("select pg_sleep(60)"));
            }
        }));
        check("startup_options", () -> connected("currentSchema=pg_catalog&ApplicationName=jd%20app"
                + "&options=-c%20statement_timeout=4321", c -> {
            equal("pg_catalog", c.getSchema());
            equal("jd app", one(c, "show application_name"));
            equal("4321ms", one(c, "show statement_timeout"));
        }));
        check("target_primary", () -> connected("targetServerType=primary", c -> equal(1, one(c, "select 1"))));
        check("valid", () -> connected("", c -> equal(true, c.isValid(5))));
        check("thirty_two_threads", () -> {
            ExecutorService threads = Executors.newFixedThreadPool(16);
            List<Future<Object>> answers = new ArrayList<>();
            for (int i = 0; i < 32; i++) {
                int mine = i;
                answers.add(threads.submit(() -> {
                    try (Connection c = connect("")) {
                        return one(c, "select ?::int", mine);
                    }
                }));
            }
            for (int i = 0; i < 32; i++) equal(i, answers.get(i).get());
            threads.shutdown();
        });
        check("wrong_password", () -> fails("28P01", () -> DriverManager.getConnection("jdbc:postgresql://"
                + ENV.get("PGHOST") + ":" + ENV.get("PGPORT") + "/" + ENV.get("PGDATABASE"), ENV.get("PGUSER"), "guess").close()));
    }
}
