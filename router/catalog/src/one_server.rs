//! What tells about the server that answers, and not about rows: whether it is a standby, how far it is, its address. A
//! function, a view or a policy that asks for this is answered by the primary, as one PostgreSQL would answer it.

use super::behind::{Behind, HiddenEffect};
use super::types::words;
use super::{Catalog, Function};
use mothership_sql::functions::{Trait, special};

/// Settings that say what a server is.
const SETTINGS: [&str; 2] = ["in_hot_standby", "transaction_read_only"];
/// Functions that look at a session's settings or at its transaction: a read has those of its own session everywhere.
const OF_SESSION: [&str; 2] = ["age", "current_setting"];

/// The names in a catalog behind which something tells about one server.
pub fn tells_server(catalog: &Catalog) -> Behind {
    Behind::of(catalog, &Tells)
}

struct Tells;

impl HiddenEffect for Tells {
    fn is_in(&self, code: &str) -> bool {
        let lower = code.to_ascii_lowercase();
        words(&lower).any(|word| {
            let tells = special(word.as_bytes()) == Some(Trait::Server);
            tells && !OF_SESSION.contains(&word) || SETTINGS.contains(&word)
        })
    }

    fn is_known_of(&self, _: &Function) -> Option<bool> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Name, Relation};

    #[test]
    fn what_asks_for_the_server_is_found_by_its_name() {
        let mut catalog = Catalog::default();
        for (name, definition) in [
            ("a", "SELECT pg_is_in_recovery() AS r"),
            ("b", "SELECT current_setting('transaction_read_only') AS r"),
            (
                "c",
                "SELECT current_setting('app.tenant') AS r, age(at) FROM t",
            ),
            ("d", "SELECT r FROM public.a"),
        ] {
            let mut view = Relation::table(Name::new("public", name));
            view.definition = Some(definition.into());
            catalog.relations.insert(view.name.clone(), view);
        }
        let tells = tells_server(&catalog);
        for (sql, expected) in [
            ("SELECT * FROM a", true),
            ("SELECT * FROM b", true),
            ("SELECT * FROM c", false),
            ("SELECT * FROM d", true),
        ] {
            assert_eq!(
                tells.is_done_by(sql, true, false, &crate::NOWHERE),
                expected,
                "{sql}"
            );
        }
    }
}
