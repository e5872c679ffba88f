import java.math.BigDecimal;
import java.sql.*;
import java.time.*;
import java.util.*;
import org.postgresql.util.PGobject;
import org.postgresql.util.PSQLException;
import org.postgresql.util.ServerErrorMessage;

/**
 * pgjdbc on documents: parameters and results in text and in binary, prepared by the server or not, batches, fetch size, generated
 * keys. Each check is played on a plain server and through the router, and what it gives has to be equal.
 */
public class Documents {
    static final String TEXT = "naïve 'čaj' \\ 日本 🚀";
    static final Map<String, String> ENV = System.getenv();
    /** Text throughout; binary from the first run on; one simple query. */
    static final List<String> WAYS = List.of("prepareThreshold=0&binaryTransfer=false", "prepareThreshold=-1", "preferQueryMode=simple");
    /** For what takes long. In simple queries the driver writes an empty bytea that no server reads. */
    static final List<String> FEW = List.of("prepareThreshold=0&binaryTransfer=false", "prepareThreshold=-1");
    static int checks, failed;

    interface Act {
        void run(Connection c, List<Object> got) throws Exception;
    }

    static Connection connect(String port, String options) throws SQLException {
        String url = "jdbc:postgresql://" + ENV.get("PGHOST") + ":" + ENV.get(port) + "/" + ENV.get("PGDATABASE");
        return DriverManager.getConnection(url + "?" + options, ENV.get("PGUSER"), ENV.get("PGPASSWORD"));
    }

    /** What `act` adds to the list on the plain server it has to add through the router, in each of these ways. */
    static void both(String name, List<String> ways, Act act) {
        checks++;
        try {
            for (String way : ways) {
                String wanted = played("DIRECT_PORT", way, act), got = played("PGPORT", way, act);
                if (wanted.equals(got)) continue;
                int at = 0;
                while (at < Math.min(wanted.length(), got.length()) && wanted.charAt(at) == got.charAt(at)) at++;
                throw new AssertionError(way + " router: …" + near(got, at) + "… plain: …" + near(wanted, at) + "…");
            }
            System.out.println("PASS " + name);
        } catch (Throwable error) {
            failed++;
            String why = error.toString().replaceAll("\\s+", " ");
            System.out.println("FAIL " + name + " " + why.substring(0, Math.min(600, why.length())));
        }
    }

    static String near(String text, int at) {
        return text.substring(Math.max(0, at - 80), Math.min(text.length(), at + 80));
    }

    static String played(String port, String way, Act act) throws Exception {
        List<Object> got = new ArrayList<>();
        try (Connection c = connect(port, way)) {
            run(c, "delete from typed");
            act.run(c, got);
        } catch (SQLException error) {
            throw new SQLException(port + " " + way + " after " + got.size() + " answers: " + error.getMessage(), error.getSQLState(), error);
        }
        return got.toString();
    }

    static int run(Connection c, String sql) throws SQLException {
        try (Statement s = c.createStatement()) {
            return s.executeUpdate(sql);
        }
    }

    static void set(PreparedStatement p, Object... values) throws SQLException {
        for (int i = 0; i < values.length; i++) {
            if (values[i] instanceof Array array) p.setArray(i + 1, array);
            else p.setObject(i + 1, values[i]);
        }
    }

    /** The columns with their types, and the rows, of a query that is run twice, the second time without a description. */
    static String ask(Connection c, String sql, Object... values) throws SQLException {
        return asked(2, c, sql, values);
    }

    static String asked(int rounds, Connection c, String sql, Object... values) throws SQLException {
        StringBuilder all = new StringBuilder();
        try (PreparedStatement p = c.prepareStatement(sql)) {
            for (int round = 0; round < rounds; round++) {
                set(p, values);
                if (!p.execute()) {
                    return all.append(p.getUpdateCount()).toString();
                }
                try (ResultSet r = p.getResultSet()) {
                    all.append(rows(r));
                }
                if (!sql.startsWith("select")) break;
            }
        }
        return all.toString();
    }

    static String rows(ResultSet r) throws SQLException {
        StringBuilder all = new StringBuilder();
        ResultSetMetaData about = r.getMetaData();
        for (int i = 1; i <= about.getColumnCount(); i++) {
            all.append(about.getColumnLabel(i)).append(' ').append(about.getColumnTypeName(i)).append(' ')
                    .append(about.getPrecision(i)).append(' ').append(about.getScale(i)).append(';');
        }
        while (r.next()) {
            all.append('\n');
            for (int i = 1; i <= about.getColumnCount(); i++) all.append(shown(r.getObject(i))).append('|');
        }
        return all.append('\n').toString();
    }

    /** A value with its type, as Java writes it. */
    static String shown(Object value) throws SQLException {
        if (value == null) return "null";
        String text = value instanceof byte[] bytes ? Arrays.toString(bytes)
                : value instanceof Array array ? Arrays.deepToString(new Object[] {array.getArray()}) : value.toString();
        return value.getClass().getSimpleName() + " " + text;
    }

    static String fault(Connection c, String sql, Object... values) {
        try {
            return asked(1, c, sql, values);
        } catch (SQLException error) {
            ServerErrorMessage told = error instanceof PSQLException own ? own.getServerErrorMessage() : null;
            if (told == null) return error.toString();
            return String.join("|", error.getSQLState(), told.getMessage(), told.getDetail() != null && !sql.startsWith("update") ? told.getDetail() : "",
                    told.getTable() + "", told.getColumn() + "", told.getConstraint() + "");
        }
    }

    static PGobject other(String type, String text) {
        try {
            PGobject object = new PGobject();
            object.setType(type);
            object.setValue(text);
            return object;
        } catch (SQLException error) {
            throw new AssertionError(error);
        }
    }

    /** The types of the columns, and what each is given beside NULL. Times have milliseconds, and numerics 34 digits. */
    static Map<String, List<Object>> values() {
        Map<String, List<Object>> all = new LinkedHashMap<>();
        OffsetDateTime time = OffsetDateTime.parse("2024-02-29T12:30:45.678Z");
        all.put("bo bool", List.of(true, false));
        all.put("i2 int2", List.of((short) 0, (short) -32768, (short) 32767));
        all.put("i4 int4", List.of(0, -1, Integer.MIN_VALUE, Integer.MAX_VALUE));
        all.put("i8 int8", List.of(0L, 5, Long.MIN_VALUE, Long.MAX_VALUE));
        all.put("f4 float4", List.of(0f, -0f, 1.5f, 0.1f, Float.NaN, Float.POSITIVE_INFINITY, Float.MIN_VALUE));
        all.put("f8 float8", List.of(0.0, -0.0, 0.1, -1e300, Double.MIN_VALUE, Double.NaN, Double.NEGATIVE_INFINITY));
        all.put("nu numeric", List.of(BigDecimal.ZERO, new BigDecimal("0.00"), new BigDecimal("-1.50"),
                new BigDecimal("12345678901234567890.123456789"), new BigDecimal("9999999999999999999999999999999999")));
        all.put("te text", List.of("", TEXT, "a\tb\nc", "x".repeat(5000)));
        all.put("vc varchar", List.of("", "日本 🚀", "1234567890"));
        all.put("uu uuid", List.of(new UUID(0, 0), new UUID(-1, -1), new UUID(1, 2)));
        all.put("by bytea", List.of(new byte[0], new byte[] {0, 1, (byte) 255, 92}));
        all.put("tz timestamptz", List.of(time, OffsetDateTime.parse("1970-01-01T00:00:00Z"), OffsetDateTime.parse("1899-12-31T23:59:59.001Z")));
        all.put("ts timestamp", List.of(time.toLocalDateTime(), LocalDateTime.parse("1969-12-31T23:59:59.999"), LocalDateTime.parse("0001-01-02T00:00:00")));
        all.put("da date", List.of(LocalDate.of(1970, 1, 1), LocalDate.of(2000, 2, 29), LocalDate.of(1, 1, 2), LocalDate.of(1969, 12, 31)));
        return all;
    }

    static Map<String, List<Object[]>> arrays() {
        Map<String, List<Object[]>> all = new LinkedHashMap<>();
        all.put("bos bool", List.of(new Boolean[] {true, null, false}, new Boolean[0]));
        all.put("i4s int4", List.<Object[]>of(new Integer[] {1, null, Integer.MIN_VALUE}));
        all.put("i8s int8", List.<Object[]>of(new Long[] {1L << 40, -1L}));
        all.put("f8s float8", List.<Object[]>of(new Double[] {0.5, Double.NaN, null}));
        all.put("nus numeric", List.<Object[]>of(new BigDecimal[] {new BigDecimal("1.50"), new BigDecimal(-7)}));
        all.put("tes text", List.<Object[]>of(new String[] {"", "a,b", "\"q\"", null, "\\", "NULL", TEXT}));
        all.put("uus uuid", List.<Object[]>of(new UUID[] {new UUID(0, 1), null}));
        all.put("das date", List.<Object[]>of(new String[] {"1999-12-31"}));
        return all;
    }

    static void fill(Connection c) throws SQLException {
        try (PreparedStatement p = c.prepareStatement("insert into typed (id, kind, i4, nu, te, da) values (?, ?, ?, ?, ?, ?)")) {
            for (int n = 1; n <= 40; n++) {
                set(p, (long) n, List.of("plain", "rare", "odd", "unknown").get(n % 4), n % 7 == 0 ? null : n * 3 - 20,
                        n % 5 == 0 ? null : new BigDecimal(n).divide(new BigDecimal(4)), n % 3 == 0 ? null : "t" + n % 6 + "é",
                        LocalDate.of(1969, 12, 20).plusDays(n));
                p.addBatch();
            }
            p.executeBatch();
        }
    }

    public static void main(String[] arguments) {
        values().forEach((named, values) -> {
            String column = named.split(" ")[0];
            both("values_of_" + column + "_come_back", column.equals("by") ? FEW : WAYS, (c, got) -> comeBack(c, got, column, values));
            both("values_of_" + column + "_are_found", FEW, (c, got) -> areFound(c, got, column, values));
        });
        arrays().forEach((named, values) -> {
            String column = named.split(" ")[0], element = named.split(" ")[1];
            both("values_of_" + column + "_come_back", WAYS, (c, got) -> {
                List<Object> arrays = new ArrayList<>();
                for (Object[] value : values) arrays.add(c.createArrayOf(element, value));
                comeBack(c, got, column, arrays);
            });
        });
        both("values_of_js_come_back", WAYS, (c, got) -> {
            String document = "{\"a\": [1, null, \"é\", {\"b\": true}], \"longer\": 1.50, \"z\": \"" + "x".repeat(200) + "\"}";
            List<Object> documents = new ArrayList<>();
            for (String text : List.of("{}", "[]", document, "\"text\"", "12.50", "-7")) documents.add(other("jsonb", text));
            comeBack(c, got, "js", documents);
        });
        queries();
        writes();
        transactions();
        System.out.println("DONE " + checks);
        System.exit(failed > 0 ? 1 : 0);
    }

    static void comeBack(Connection c, List<Object> got, String column, List<Object> values) throws SQLException {
        List<Object> all = new ArrayList<>(values);
        all.add(0, null);
        for (int i = 0; i < all.size(); i++) {
            got.add(ask(c, "insert into typed (id, " + column + ") values (?, ?) returning " + column + ", kind, id", i, all.get(i)));
            got.add(ask(c, "update typed set " + column + " = ? where id = ?", all.get(i), (long) i));
        }
        got.add(ask(c, "select id, " + column + ", " + column + "::text from typed order by id"));
        got.add(ask(c, "select " + column + " from typed where id = ?", 1));
    }

    static void areFound(Connection c, List<Object> got, String column, List<Object> values) throws SQLException {
        for (int i = 0; i < values.size(); i++) ask(c, "insert into typed (id, " + column + ") values (?, ?)", i, values.get(i));
        run(c, "insert into typed (id) values (-1)");
        for (String operator : List.of("=", "<>", "<", "<=", ">", ">=", "is distinct from")) {
            for (Object value : values) {
                got.add(fault(c, "select id, " + column + " from typed where " + column + " " + operator + " ? order by id", value));
            }
        }
        Object one = values.get(0), two = values.get(1);
        got.add(ask(c, "select id from typed where " + column + " in (?, ?) order by id", one, two));
        got.add(ask(c, "select id from typed where not " + column + " between ? and ? order by id", one, two));
        got.add(ask(c, "select id, " + column + " from typed order by " + column + " desc, id limit ?", 5));
    }

    static void queries() {
        both("keys_ranges_groups_and_joins", WAYS, (c, got) -> {
            fill(c);
            got.add(ask(c, "select * from typed where id = ?", 7));
            got.add(ask(c, "select id, te from typed where id in (?, ?, ?) order by id", 3, 99L, 5));
            got.add(ask(c, "select id from typed where id = any(?) order by id desc", c.createArrayOf("int8", new Long[] {1L, 2L, -5L})));
            got.add(ask(c, "select id, da from typed where da between ? and ? order by da", LocalDate.of(1969, 12, 29), LocalDate.of(1970, 1, 3)));
            got.add(ask(c, "select id, nu from typed where nu >= ? and not (i4 < ?) order by nu desc, id limit ? offset ?", new BigDecimal("2.5"), 10, 5, 2));
            got.add(ask(c, "select id, te from typed order by te nulls first, id desc limit 9"));
            got.add(ask(c, "select te, id from typed where te like ? order by id", "t_é%"));
            got.add(ask(c, "select id as a, i4::text as b from typed where id < ? order by a", 4));
            got.add(ask(c, "select id, i4 * 2 + ? as twice, upper(kind) from typed where id < 9 order by id", 1));
            got.add(ask(c, "select count(*), count(i4), sum(i4), min(da), max(te), min(nu) from typed"));
            got.add(ask(c, "select sum(id), sum(i4), avg(i4), sum(nu), avg(nu) from typed where id > ?", 3));
            got.add(ask(c, "select kind, count(*), sum(i4), max(da) from typed group by kind order by kind"));
            got.add(ask(c, "select te, kind, count(*) as n from typed group by te, kind having count(*) > ? order by n desc, te nulls last, kind", 1));
            got.add(ask(c, "select t.id, t.te, k.title from typed t join kinds k on k.name = t.kind where t.i4 > ? order by t.id", 5));
            got.add(ask(c, "select k.name, count(t.id), sum(t.nu) from kinds k left join typed t on t.kind = k.name and t.id <= ? group by k.name order by 1", 20));
            got.add(ask(c, "select id from typed where kind in (select name from kinds where title is not null) and id < ? order by id", 12));
        });
        both("fetch_size_is_a_portal", WAYS, (c, got) -> {
            fill(c);
            c.setAutoCommit(false);
            try (PreparedStatement p = c.prepareStatement("select id, nu, da from typed where id > ? order by id")) {
                p.setFetchSize(7);
                for (int round = 0; round < 4; round++) {
                    set(p, 3);
                    try (ResultSet r = p.executeQuery()) {
                        got.add(rows(r));
                    }
                }
            }
            c.commit();
        });
        both("metadata", List.of(""), (c, got) -> {
            try (ResultSet r = c.getMetaData().getColumns(null, "public", "typed", null)) {
                while (r.next()) got.add(List.of(r.getString(4), r.getString(6), r.getInt(7), r.getString(18), r.getInt(11)));
            }
            try (ResultSet r = c.getMetaData().getPrimaryKeys(null, "public", "typed")) {
                while (r.next()) got.add(r.getString("COLUMN_NAME"));
            }
        });
    }

    static void writes() {
        both("several_rows_and_their_returning", WAYS, (c, got) -> {
            got.add(ask(c, "insert into typed (id, kind, i4) values (?, ?, ?), (?, default, ?), (-3, 'odd', null) returning id, kind, i4", 1, "rare", -5, 2L, 6));
            got.add(ask(c, "insert into typed (id, te) values (?, ?) on conflict (id) do nothing", 1, "x"));
            got.add(ask(c, "insert into typed (id, te) values (?, ?) on conflict (id) do update set te = excluded.te returning id, te, kind", 1, "y"));
            got.add(ask(c, "update typed set i4 = i4 + ?, te = ? where i4 > ? returning id, i4, te", 10, TEXT, 0));
            got.add(ask(c, "update typed set i8 = id - ? where id <> ?", 1L << 62, 7));
            got.add(ask(c, "update typed set bo = true where id = 99"));
            got.add(ask(c, "select * from typed order by id"));
            got.add(ask(c, "delete from typed where id = ? returning id, te", 1));
            try (PreparedStatement p = c.prepareStatement("insert into typed (id, te) values (?, ?)", Statement.RETURN_GENERATED_KEYS)) {
                set(p, 50, TEXT);
                got.add(p.executeUpdate());
                try (ResultSet r = p.getGeneratedKeys()) {
                    got.add(rows(r));
                }
            }
        });
        both("batches", List.of("", "reWriteBatchedInserts=true", "prepareThreshold=-1"), (c, got) -> {
            fill(c);
            got.add(ask(c, "select * from typed order by id"));
            try (PreparedStatement p = c.prepareStatement("update typed set i8 = ? where id = ?")) {
                for (long n = 0; n < 30; n++) {
                    set(p, n << 33, n);
                    p.addBatch();
                }
                got.add(Arrays.toString(p.executeBatch()));
            }
            try (PreparedStatement p = c.prepareStatement("insert into typed (id) values (?)")) {
                for (long n : new long[] {500, 501, 500}) {
                    set(p, n);
                    p.addBatch();
                }
                p.executeBatch();
            } catch (BatchUpdateException error) {
                got.add(error.getSQLState());
            }
            got.add(ask(c, "select id, i8 from typed order by id"));
        });
        both("errors_leave_the_connection_usable", WAYS, (c, got) -> {
            fill(c);
            got.add(fault(c, "insert into typed (id) values (?)", 1));
            got.add(fault(c, "insert into typed (id, kind) values (?, ?)", 99, null));
            got.add(fault(c, "insert into typed (id) values (100), (101), (100)"));
            got.add(fault(c, "update typed set kind = ?", (Object) null));
            got.add(fault(c, "insert into typed (id, vc) values (99, ?)", "12345678901"));
            got.add(fault(c, "insert into typed (id, i2) values (99, ?)", 40_000));
            got.add(fault(c, "insert into typed (id, i4) values (99, ?)", 1L << 40));
            got.add(fault(c, "select * from typed where nothing = ?", 1));
            got.add(fault(c, "update typed set i4 = i4 + ? where id = 1", Integer.MIN_VALUE));
            got.add(ask(c, "select id, i4 from typed order by id"));
        });
    }

    static void transactions() {
        both("transactions", WAYS, (c, got) -> {
            c.setAutoCommit(false);
            ask(c, "insert into typed (id, te) values (?, ?)", 1, "kept");
            c.commit();
            ask(c, "insert into typed (id, te) values (?, ?)", 2, "gone");
            ask(c, "update typed set te = ? where id = ?", "gone", 1);
            got.add(ask(c, "select id, te from typed t join kinds k on k.name = t.kind order by id"));
            c.rollback();
            c.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
            ask(c, "insert into typed (id) values (?)", 3);
            got.add(fault(c, "insert into typed (id) values (?)", 3));
            got.add(fault(c, "select id from typed"));
            c.rollback();
            c.setReadOnly(true);
            got.add(ask(c, "select id, te from typed order by id"));
            got.add(fault(c, "delete from typed").split("\\|")[0]);
            c.rollback();
        });
    }
}
