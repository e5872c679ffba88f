//! Builds the names that PostgreSQL chooses for indexes, constraints and sequences, and finds out whether only the home
//! shard has such a name. Then the home shard would choose another name than the other shards (see `chosen`).

use crate::names::{MAX_NAME, Names};
use mothership_catalog::Name;

/// A name that PostgreSQL makes of the name of a table, of columns, and a word, such as `orders_customer_id_idx`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stem {
    pub(super) table: Name,
    /// The names of the columns, joined by underscores; `None` if they are not certain.
    pub(super) columns: Option<String>,
    pub(super) word: &'static str,
}

impl Stem {
    /// A name of these columns.
    pub(super) fn of(table: &Name, columns: &str, word: &'static str) -> Stem {
        Stem {
            table: table.clone(),
            columns: Some(columns.to_owned()),
            word,
        }
    }

    /// A name whose columns are not known.
    pub(super) fn any(table: &Name, word: &'static str) -> Stem {
        Stem {
            table: table.clone(),
            columns: None,
            word,
        }
    }

    /// A name of this form that only the home shard has: there PostgreSQL would pass it over, and other shards would
    /// choose it. The statement itself may take the first `own` names.
    pub(super) fn taken(&self, names: &Names<'_>, own: usize) -> Option<String> {
        let at_home = |name: &str| {
            let name = Name::new(self.table.schema.clone(), name);
            self.is_relation() && names.is_taken_at_home(&name)
                || self.is_constraint() && names.is_constraint_at_home(&name)
        };
        let Some(columns) = &self.columns else {
            let mut all = names.all_at_home(&self.table.schema);
            return all
                .find(|name| self.may_be(name) && at_home(name))
                .map(str::to_owned);
        };
        for pass in 0.. {
            let name = self.name(columns, pass);
            if at_home(&name) {
                return Some(name);
            }
            let name = Name::new(self.table.schema.clone(), name);
            if pass >= own && !names.is_taken(&name) {
                break;
            }
        }
        None
    }

    fn is_relation(&self) -> bool {
        !matches!(self.word, "check" | "fkey")
    }

    fn is_constraint(&self) -> bool {
        !matches!(self.word, "idx" | "seq")
    }

    /// The name as `makeObjectName` in PostgreSQL makes it, with the number that is tried in this pass.
    fn name(&self, columns: &str, pass: usize) -> String {
        let word = match pass {
            0 => self.word.to_owned(),
            _ => format!("{}{pass}", self.word),
        };
        let table = self.table.name.as_str();
        let line = usize::from(!columns.is_empty());
        let room = MAX_NAME.saturating_sub(word.len() + 1 + line);
        let (mut of_table, mut of_columns) = (table.len(), columns.len());
        while of_table + of_columns > room {
            match of_table > of_columns {
                true => of_table -= 1,
                false => of_columns -= 1,
            }
        }
        let table = &table[..clipped(table, of_table)];
        match line {
            0 => format!("{table}_{word}"),
            _ => format!(
                "{table}_{}_{word}",
                &columns[..clipped(columns, of_columns)]
            ),
        }
    }

    /// Whether a name may have this form, whatever the columns are.
    pub(super) fn may_be(&self, name: &str) -> bool {
        let plain = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let head = plain.strip_suffix(self.word);
        let Some(head) = head.and_then(|head| head.strip_suffix('_')) else {
            return false;
        };
        let table = self.table.name.as_str();
        match head.strip_prefix(table) {
            Some(rest) => rest.is_empty() || rest.starts_with('_'),
            // The name may have been cut. PostgreSQL cuts the longer of the two first, so at least half of the room
            // stays for the table's name.
            None => {
                let same = head.bytes().zip(table.bytes()).take_while(|(a, b)| a == b);
                name.len() > 48 && same.count() >= 20
            }
        }
    }
}

/// Where PostgreSQL cuts a text that may have this many bytes.
pub(super) fn clipped(text: &str, bytes: usize) -> usize {
    let ends = (0..=bytes.min(text.len())).rev();
    let mut ends = ends.filter(|end| text.is_char_boundary(*end));
    ends.next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_and_cut_as_postgresql_does() {
        let long = "a".repeat(40);
        let of =
            |table: &str, columns: &str, word| Stem::of(&Name::new("public", table), columns, word);
        for (stem, pass, expected) in [
            (of("t", "", "pkey"), 0, "t_pkey".to_owned()),
            (of("t", "a_b", "key"), 2, "t_a_b_key2".to_owned()),
            (
                of(&long, &long, "idx"),
                0,
                format!("{}_{}_idx", "a".repeat(29), "a".repeat(29)),
            ),
            (
                of(&long, &long, "check"),
                12,
                format!("{}_{}_check12", "a".repeat(27), "a".repeat(27)),
            ),
            (
                of(&"ž".repeat(31), "", "pkey"),
                0,
                format!("{}_pkey", "ž".repeat(29)),
            ),
        ] {
            let columns = stem.columns.clone().unwrap_or_default();
            assert_eq!(stem.name(&columns, pass), expected);
        }
    }

    #[test]
    fn what_may_be_made_is_recognised() {
        let long = "a".repeat(60);
        let cut = format!("{}_{}_idx3", "a".repeat(29), "b".repeat(28));
        for (table, name, expected) in [
            ("t", "t_a_idx", true),
            ("t", "t_idx12", true),
            ("t", "tt_a_idx", false),
            ("t", "t_a_key", false),
            (&long, &cut, true),
            ("b", &cut, false),
        ] {
            let stem = Stem::any(&Name::new("public", table), "idx");
            assert_eq!(stem.may_be(name), expected, "{table} {name}");
        }
    }
}
