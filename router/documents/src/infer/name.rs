//! Names of columns, tables and keys, made of those that fields and collections have.

use std::collections::BTreeSet;

/// The longest name that PostgreSQL keeps, in bytes.
const MAX_BYTES: usize = 63;
/// Columns that every table of PostgreSQL has.
const OF_THE_SYSTEM: [&str; 6] = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];

/// A name that needs no quotes for its letters' sake: `createdAt` becomes `created_at`, `a-b` becomes `a_b`.
pub(super) fn plain(text: &str) -> String {
    let mut name = String::new();
    let mut before = '_';
    for c in text.chars() {
        if c.is_uppercase() && (before.is_lowercase() || before.is_numeric()) {
            name.push('_');
        }
        match c.is_alphanumeric() {
            true => name.extend(c.to_lowercase()),
            false => name.push('_'),
        }
        before = c;
    }
    if name.is_empty() || name.starts_with(|c: char| c.is_numeric()) {
        name.insert(0, '_');
    }
    if OF_THE_SYSTEM.contains(&name.as_str()) {
        name.push('_');
    }
    shortened(&name, MAX_BYTES).to_owned()
}

/// The name, or the first one with a number behind it that is not taken; it is taken then.
pub(super) fn free(name: &str, taken: &mut BTreeSet<String>) -> String {
    let mut free = name.to_owned();
    let mut number = 2_u32;
    while taken.contains(&free) {
        let ending = format!("_{number}");
        free = format!("{}{ending}", shortened(name, MAX_BYTES - ending.len()));
        number += 1;
    }
    taken.insert(free.clone());
    free
}

/// As much of a name as so many bytes hold.
pub(super) fn shortened(name: &str, bytes: usize) -> &str {
    let fits = |at: &usize| name.is_char_boundary(*at);
    let end = (0..=bytes.min(name.len())).rev().find(fits);
    &name[..end.unwrap_or(0)]
}

/// The name of a key as PostgreSQL would choose it: of the table, the columns and what it is.
pub(super) fn of_key(table: &str, columns: &[&str], what: &str) -> String {
    let whole = std::iter::once(table).chain(columns.iter().copied());
    let whole = whole.collect::<Vec<_>>().join("_");
    format!("{}_{what}", shortened(&whole, MAX_BYTES - what.len() - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_need_no_quotes_for_their_letters() {
        for (text, name) in [
            ("createdAt", "created_at"),
            ("userID", "user_id"),
            ("HTTP", "http"),
            ("a-b c", "a_b_c"),
            ("_class", "_class"),
            ("2fa", "_2fa"),
            ("", "_"),
            ("xmin", "xmin_"),
            ("Größe", "größe"),
        ] {
            assert_eq!(plain(text), name);
        }
        assert_eq!(plain(&"é".repeat(40)).len(), 62);
    }

    #[test]
    fn a_name_is_given_once() {
        let mut taken = BTreeSet::new();
        assert_eq!(free("a", &mut taken), "a");
        assert_eq!(free("a", &mut taken), "a_2");
        assert_eq!(free("a", &mut taken), "a_3");
        let long = "x".repeat(63);
        assert_eq!(free(&long, &mut taken), long);
        assert_eq!(free(&long, &mut taken), format!("{}_2", "x".repeat(61)));
        assert_eq!(of_key("t", &["a", "b"], "key"), "t_a_b_key");
        assert_eq!(of_key(&long, &["a"], "pkey").len(), 63);
    }
}
