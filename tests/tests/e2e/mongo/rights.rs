//! Rights on documents are those on the home shard's table, and hold as on any other.

use super::stage::Documents;
use crate::shards::stage::{LIMIT, extended, one, say, send};
use mothership_tests::{Endpoint, Wire};

/// Statements on `{t}`, each of which needs other rights.
const STATEMENTS: [&str; 26] = [
    "SELECT id, kind FROM {t} WHERE id < 3 ORDER BY id",
    "SELECT * FROM {t} WHERE id = 1",
    "SELECT count(*) FROM {t}",
    "SELECT 1 FROM {t} WHERE small = 1",
    "SELECT upper(kind) FROM {t} WHERE length(kind) > 0 ORDER BY id",
    "SELECT id FROM {t} WHERE id = 1 FOR UPDATE",
    "SELECT e.kind, i.note FROM {t} e JOIN items i ON i.id = e.id ORDER BY e.id",
    "SELECT v FROM items WHERE v IN (SELECT id FROM {t}) ORDER BY v",
    "WITH few AS (SELECT kind FROM {t} WHERE id = 2) SELECT count(*) FROM few",
    "SELECT id FROM items UNION SELECT small FROM {t} ORDER BY 1",
    "INSERT INTO {t} (id, kind) VALUES (101, 'x')",
    "INSERT INTO {t} (id, kind, small) VALUES (102, 'x', 3)",
    "INSERT INTO {t} (id, kind) VALUES (103, upper('x'))",
    "INSERT INTO {t} (id, kind) VALUES (104, 'x') RETURNING id",
    "INSERT INTO {t} (id, kind) VALUES (1, 'x') ON CONFLICT DO NOTHING",
    "INSERT INTO {t} (id, kind) VALUES (2, 'x') ON CONFLICT (id) DO UPDATE SET small = 7",
    "INSERT INTO {t} (id, kind) SELECT id + 200, note FROM items WHERE note IS NOT NULL",
    "UPDATE {t} SET small = 8",
    "UPDATE {t} SET small = 9 WHERE id = 1",
    "UPDATE {t} SET small = small + 1 WHERE id = 2",
    "UPDATE {t} SET kind = upper(kind) WHERE id = 2",
    "DELETE FROM {t} WHERE id = 77",
    "WITH w AS (DELETE FROM {t} WHERE id = 78 RETURNING id) SELECT count(*) FROM w",
    "EXPLAIN SELECT kind FROM {t}",
    "COPY {t} (id, kind) TO STDOUT",
    "COPY {t} TO STDOUT",
];

/// What the owner does, one after the other; after each all statements are tried. `{a}` is who tries them, `{g}` a role
/// that may be his.
const GRANTS: [&str; 16] = [
    "SELECT 1",
    "GRANT SELECT (id, kind) ON {t} TO {a}",
    "GRANT INSERT (id, kind), UPDATE (small) ON TABLE {t} TO {a}",
    "GRANT SELECT (small) ON {t} TO {a}",
    "REVOKE SELECT (kind) ON {t} FROM {a}",
    "GRANT SELECT ON {t} TO {a}",
    "GRANT DELETE, UPDATE ON {t} TO {a} WITH GRANT OPTION",
    "GRANT INSERT ON {t} TO PUBLIC",
    "REVOKE ALL ON {t} FROM PUBLIC",
    "REVOKE ALL ON {t} FROM {a} CASCADE",
    "GRANT ALL ON {t} TO {g}",
    "GRANT {g} TO {a}",
    "ALTER ROLE {a} NOINHERIT",
    "ALTER ROLE {a} INHERIT",
    "REVOKE {g} FROM {a}",
    "ALTER TABLE {t} OWNER TO {a}",
];

/// Roles that nobody else uses, gone with it.
struct Roles<'d> {
    documents: &'d Documents,
    names: [String; 2],
}

impl<'d> Roles<'d> {
    fn new(documents: &'d Documents, word: &str) -> Roles<'d> {
        let pid = std::process::id();
        let names = ["a", "g"].map(|name| format!("{word}_{pid}_{name}"));
        for name in &names {
            let sql = format!("CREATE ROLE {name} LOGIN PASSWORD '{name}'");
            documents.stage.shards.sql(0, &sql);
        }
        for shard in 0..3 {
            let sql = format!(
                "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}",
                names[0]
            );
            let sql = match shard {
                // Not on the documents.
                0 => format!("{sql}; REVOKE ALL ON events, twin FROM {}", names[0]),
                _ => sql,
            };
            documents.stage.shards.sql(shard, &sql);
        }
        Roles { documents, names }
    }

    fn wire(&self, role: &str) -> Wire {
        let mut wire = Wire::login(&Endpoint {
            user: role.into(),
            password: role.into(),
            ..self.documents.stage.endpoint()
        });
        wire.set_limit(LIMIT);
        wire
    }
}

impl Drop for Roles<'_> {
    fn drop(&mut self) {
        for name in &self.names {
            let shards = &self.documents.stage.shards;
            shards.sql_all(&format!(
                "REASSIGN OWNED BY {name} TO CURRENT_USER; DROP OWNED BY {name}"
            ));
        }
        for name in &self.names {
            self.documents
                .stage
                .shards
                .sql(0, &format!("DROP ROLE IF EXISTS {name}"));
        }
    }
}

fn filled(admin: &mut Wire) {
    for sql in [
        "INSERT INTO items VALUES (1, 1, 'one'), (2, 2, 'two'), (3, 3, NULL)",
        "INSERT INTO {t} (id, kind, small) VALUES (1, 'a', 1), (2, 'b', 2)",
    ] {
        for table in ["events", "twin"] {
            say(admin, &sql.replace("{t}", table));
        }
    }
}

type Ask = fn(&mut Wire, &str) -> Vec<String>;

/// What a statement says of a table, with one name for both. Of an EXPLAIN only its error.
fn answer(wire: &mut Wire, sql: &str, table: &str, ask: Ask) -> Vec<String> {
    let answer = ask(wire, &sql.replace("{t}", table));
    let answer = answer
        .into_iter()
        .map(|line| line.replace("twin", "events"));
    let counts = |line: &String| match sql.starts_with("EXPLAIN") {
        true => line.starts_with("Error"),
        // Descriptions have numbers of tables; rights on documents are asked for at Bind, also of a write.
        false => !line.starts_with("RowDescription") && line != "BindComplete",
    };
    let mut answer: Vec<String> = answer.filter(counts).collect();
    if !sql.contains("ORDER BY") {
        answer.sort();
    }
    answer
}

fn denied(answer: &[String]) -> bool {
    answer.iter().any(|line| line.starts_with("Error 42501"))
}

#[test]
#[ignore = "long"]
fn grants_on_documents_hold_as_on_a_table_of_postgresql() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut admin = documents.stage.wire();
    filled(&mut admin);
    let roles = Roles::new(&documents, "rights");
    let [a, g] = &roles.names;
    let mut user = roles.wire(a);
    let simple: Ask = |wire, sql| say(wire, sql);
    let protocol: Ask = |wire, sql| send(wire, &extended(sql, &[], &[]));
    let (mut refused, mut answered) = (0, 0);
    for grant in GRANTS {
        for table in ["events", "twin"] {
            let sql = grant.replace("{t}", table);
            let sql = sql.replace("{a}", a).replace("{g}", g);
            let answer = say(&mut admin, &sql);
            assert!(!answer[0].starts_with("Error"), "{sql}: {answer:?}");
            if !grant.contains("{t}") {
                break;
            }
        }
        for sql in STATEMENTS {
            for (is_extended, in_block) in
                [(false, false), (false, true), (true, false), (true, true)]
            {
                let ask = if is_extended { protocol } else { simple };
                let copies = sql.starts_with("COPY") && is_extended;
                let locks = sql.contains("FOR UPDATE") && in_block;
                if copies || locks {
                    continue;
                }
                let [events, twin] = ["events", "twin"].map(|table| {
                    if in_block {
                        say(&mut user, "BEGIN");
                    }
                    let answer = answer(&mut user, sql, table, ask);
                    if in_block {
                        say(&mut user, "ROLLBACK");
                    }
                    answer
                });
                assert_eq!(events, twin, "{sql} after {grant}, in a block: {in_block}");
                match denied(&events) {
                    true => refused += 1,
                    false => answered += 1,
                }
                if !in_block && sql.contains("INSERT") {
                    for table in ["events", "twin"] {
                        say(&mut admin, &format!("DELETE FROM {table} WHERE id > 100"));
                    }
                }
            }
        }
    }
    assert!(refused > 300 && answered > 300, "{refused} {answered}");
}

/// Rights are those of the role that a session has taken, and of parameters nothing is known when they are asked for.
#[test]
fn a_role_that_is_taken_has_its_own_rights() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut admin = documents.stage.wire();
    filled(&mut admin);
    let roles = Roles::new(&documents, "taken");
    let [a, _] = &roles.names;
    say(
        &mut admin,
        &format!("GRANT SELECT (id), UPDATE (small) ON events TO {a}"),
    );
    let by_id = "SELECT id FROM events WHERE id = 1";
    let kind = "SELECT kind FROM events WHERE id = 1";
    assert_eq!(one(&mut admin, kind), "a");
    say(&mut admin, &format!("SET ROLE {a}"));
    assert_eq!(one(&mut admin, by_id), "1");
    assert!(denied(&say(&mut admin, kind)));
    // A text that was allowed is asked about again.
    say(&mut admin, "RESET ROLE");
    assert_eq!(one(&mut admin, kind), "a");
    say(&mut admin, &format!("SET SESSION AUTHORIZATION {a}"));
    assert!(denied(&say(&mut admin, kind)));
    say(&mut admin, "RESET SESSION AUTHORIZATION");

    let mut user = roles.wire(a);
    let asked = |user: &mut Wire, sql: &str, types: &[u32], values: &[&str]| {
        send(user, &extended(sql, types, values))
    };
    for types in [&[][..], &[20]] {
        let rows = asked(
            &mut user,
            "SELECT id FROM events WHERE id = $1",
            types,
            &["2"],
        );
        assert!(rows.iter().any(|line| line == "DataRow 2"), "{rows:?}");
        let none = asked(
            &mut user,
            "SELECT kind FROM events WHERE id = $1",
            types,
            &["2"],
        );
        assert!(denied(&none), "{none:?}");
        let done = asked(
            &mut user,
            "UPDATE events SET small = 4 WHERE id = $1",
            types,
            &["2"],
        );
        assert!(
            done.iter().any(|line| line == "CommandComplete UPDATE 1"),
            "{done:?}"
        );
    }
    for (body, may) in [(by_id, true), (kind, false)] {
        say(&mut user, &format!("PREPARE p AS {body}"));
        for _ in 0..2 {
            assert_eq!(denied(&say(&mut user, "EXECUTE p")), !may, "{body}");
        }
        say(&mut user, "DEALLOCATE p");
    }
    say(&mut user, "BEGIN");
    assert!(denied(&say(
        &mut user,
        &format!("DECLARE c CURSOR FOR {kind}")
    )));
    say(&mut user, "ROLLBACK");
    let both = say(&mut user, &format!("{by_id}; {kind}"));
    assert!(
        both.iter().any(|line| line == "DataRow 1") && denied(&both),
        "{both:?}"
    );
    let copied = say(&mut user, "COPY events (id, kind) FROM STDIN");
    assert!(denied(&copied), "{copied:?}");
    let copied = say(&mut user, "COPY (SELECT kind FROM events) TO STDOUT");
    assert!(denied(&copied), "{copied:?}");
}

#[test]
fn row_security_of_documents_is_refused_by_name() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut admin = documents.stage.wire();
    let refused = "Error 0A000 row security of tables of documents is not supported";
    for sql in [
        "CREATE POLICY p ON events USING (true)",
        "ALTER TABLE events ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE public.events FORCE ROW LEVEL SECURITY",
        "DROP POLICY p ON events",
    ] {
        assert_eq!(say(&mut admin, sql)[0], refused, "{sql}");
    }
    // Past the router.
    documents
        .stage
        .shards
        .sql(0, "ALTER TABLE events ENABLE ROW LEVEL SECURITY");
    say(&mut admin, "CREATE TABLE other (id int)");
    assert_eq!(say(&mut admin, "SELECT count(*) FROM events")[0], refused);
}

#[test]
fn a_new_declaration_keeps_owner_and_rights() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut admin = documents.stage.wire();
    filled(&mut admin);
    let roles = Roles::new(&documents, "kept");
    let [a, g] = &roles.names;
    for sql in [
        format!("ALTER TABLE events OWNER TO {g}"),
        format!("GRANT SELECT (id, kind), UPDATE (raw) ON events TO {a} WITH GRANT OPTION"),
        "GRANT SELECT (small) ON events TO PUBLIC".to_owned(),
    ] {
        assert_eq!(
            say(&mut admin, &sql)[0].split(' ').next(),
            Some("CommandComplete"),
            "{sql}"
        );
    }
    let shown = "SELECT c.relowner::regrole::text || ' ' || string_agg(a.attname || ':' || a.attacl::text, ' ' ORDER BY a.attnum) \
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.oid = 'events'::regclass AND a.attname <> 'raw' GROUP BY c.relowner";
    let before = documents.stage.shards.sql(0, shown);
    let mut config = documents.stage.config().to_owned();
    let (from, to) = (
        "name = \"raw\"\nsql_type = \"bytea\"",
        "name = \"more\"\nsql_type = \"int4\"",
    );
    assert!(config.contains(from));
    config = config.replace(from, to);
    let router = mothership_tests::Router::start(&config);
    let mut other = documents.stage.wire_of(&router);
    assert_eq!(one(&mut other, "SELECT count(more) FROM events"), "0");
    assert_eq!(documents.stage.shards.sql(0, shown), before);
}
