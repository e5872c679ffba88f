//! What shows the statements that are prepared on a server connection: a function, a view, a policy, a trigger or a
//! default that reads `pg_prepared_statements`.
//!
//! Several clients share a connection, so it would show to one what others have prepared. Code that builds the name at run
//! time from parts is not seen.

use super::behind::{Behind, HiddenEffect};
use super::types::words;
use super::{Catalog, Function};

/// The view of PostgreSQL and the function behind it.
pub const NAMES: [&str; 2] = ["pg_prepared_statements", "pg_prepared_statement"];

/// The names in a catalog behind which prepared statements are shown.
pub fn shows_prepared(catalog: &Catalog) -> Behind {
    Behind::of(catalog, &Shows)
}

struct Shows;

impl HiddenEffect for Shows {
    fn is_in(&self, code: &str) -> bool {
        let lower = code.to_ascii_lowercase();
        words(&lower).any(|word| NAMES.contains(&word))
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
    fn a_view_of_a_view_of_prepared_statements_is_found_by_its_name() {
        let mut catalog = Catalog::default();
        for (name, definition) in [
            ("a", "SELECT statement FROM PG_Prepared_Statements"),
            ("b", "SELECT * FROM public.a"),
            ("c", "SELECT prepared FROM t"),
        ] {
            let mut view = Relation::table(Name::new("public", name));
            view.definition = Some(definition.into());
            catalog.relations.insert(view.name.clone(), view);
        }
        let shows = shows_prepared(&catalog);
        for (sql, expected) in [
            ("SELECT * FROM a", true),
            ("SELECT * FROM public.\"b\"", true),
            ("SELECT * FROM c", false),
        ] {
            assert_eq!(
                shows.is_done_by(sql, true, false, &crate::NOWHERE),
                expected,
                "{sql}"
            );
        }
    }
}
