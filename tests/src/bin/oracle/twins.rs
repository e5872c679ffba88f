//! Whether an answer is the only right one.
//!
//! SQL leaves some answers open: which of two equal numbers stands for both, in
//! which order peers come. So before an answer is called wrong, PostgreSQL is asked
//! again with the same rows in another order and with other plans. What it answers
//! differently itself was not determined.

use crate::run::{self, Answer, Protocol, simple};
use crate::schema::{ALT_PATH, Schema};
use crate::statement::Statement;
use mothership_tests::Wire;

/// Ways to plan, in turn.
const PLANS: [&[&str]; 4] = [
    &["jit = off"],
    &[
        "enable_hashagg = off",
        "enable_hashjoin = off",
        "enable_seqscan = off",
    ],
    &[
        "enable_sort = off",
        "enable_nestloop = off",
        "enable_mergejoin = off",
    ],
    &[
        "enable_mergejoin = off",
        "enable_hashjoin = off",
        "enable_material = off",
    ],
];

/// How many twins there are; of two values that may stand for each other, each has to
/// come first in one of them.
const TWINS: usize = 12;

/// What PostgreSQL answers otherwise, up to the first answer that is `enough`; the connection is in no
/// transaction, or in one that has not failed.
pub fn answers(
    o: &mut Wire,
    schema: &Schema,
    protocol: Protocol,
    statement: &Statement,
    enough: impl Fn(&Answer) -> bool,
) -> Vec<Answer> {
    aside(o, |o| different(o, schema, protocol, statement, enough))
}

/// Asks something that leaves nothing behind, an error neither.
pub fn aside<T>(o: &mut Wire, ask: impl FnOnce(&mut Wire) -> T) -> T {
    let inside = simple(o, "SELECT 1").is_ok_and(|answer| answer.status == 'T');
    if !inside {
        let _ = simple(o, "BEGIN");
    }
    let _ = simple(o, "SAVEPOINT twins");
    let told = ask(o);
    let _ = simple(o, "ROLLBACK TO twins");
    let _ = simple(o, if inside { "RELEASE twins" } else { "ROLLBACK" });
    told
}

fn different(
    o: &mut Wire,
    schema: &Schema,
    protocol: Protocol,
    statement: &Statement,
    enough: impl Fn(&Answer) -> bool,
) -> Vec<Answer> {
    let mut answers = Vec::new();
    let path = run::rows(o, "SHOW search_path").concat();
    let is_alt = path.iter().any(|path| path == ALT_PATH);
    for (salt, plan) in PLANS.iter().cycle().take(TWINS).enumerate() {
        let indexed = salt % 2 == 0;
        let mut made = simple(o, &tables(schema, is_alt, salt, indexed))
            .is_ok_and(|answer| answer.error.is_none());
        for setting in *plan {
            made &= simple(o, &format!("SET LOCAL {setting}")).is_ok();
        }
        if made
            && let Ok(answer) = run::run(o, protocol, statement)
            // Grouping by a key that there is none of is an error of its own.
            && (indexed || answer.error.is_none())
        {
            answers.push(answer);
        }
        let _ = simple(o, "ROLLBACK TO twins");
        let _ = simple(o, "DEALLOCATE ALL");
        if answers.last().is_some_and(&enough) {
            break;
        }
    }
    answers
}

/// Temporary tables hide those of the same name. Without their indexes rows come in no order of a key.
fn tables(schema: &Schema, is_alt: bool, salt: usize, indexed: bool) -> String {
    let without = if indexed { "" } else { "EXCLUDING INDEXES" };
    let mut sql = String::new();
    for table in &schema.tables {
        let name = table.name();
        sql += &format!(
            "CREATE TEMP TABLE {name} (LIKE public.{name} INCLUDING ALL {without}); \
             INSERT INTO pg_temp.{name} SELECT * FROM public.{name} AS x ORDER BY md5(x::text || '{salt}'); "
        );
    }
    for (name, text) in &schema.view_texts {
        sql += &format!("CREATE TEMP VIEW {name} AS {text}; ");
    }
    // Views go on reading what their names meant.
    for table in schema.alike.iter().filter(|_| is_alt) {
        let from = table.name();
        let name = from.rsplit('.').next().unwrap_or(from);
        sql += &format!(
            "ALTER TABLE pg_temp.{name} RENAME TO {name}_of_views; \
             CREATE TEMP TABLE {name} (LIKE {from} INCLUDING ALL {without}); \
             INSERT INTO pg_temp.{name} SELECT * FROM {from} AS x ORDER BY md5(x::text || '{salt}'); "
        );
    }
    sql
}
