//! How long texts are with the definitions of the views that they name: a short statement may stand for a long one.

use mothership_catalog::Catalog;
use mothership_catalog::types::words;
use std::collections::{BTreeSet, HashMap};

/// Views in views are planned no deeper than this.
const MAX_DEPTH: usize = 40;

/// The lengths in bytes of the definitions of views, those of the views within them included.
#[derive(Debug, Default)]
pub struct ViewLengths {
    /// By the views' names in lower case, whatever their schemas are.
    of: HashMap<String, usize>,
    /// The sum of those whose names are not a single word. Any text may name them.
    odd: usize,
    /// The sum of all.
    sum: usize,
}

impl ViewLengths {
    /// Of all views of a catalog.
    pub fn of(catalog: &Catalog) -> ViewLengths {
        let mut own: HashMap<String, usize> = HashMap::new();
        let mut definitions: Vec<(String, String)> = Vec::new();
        for relation in catalog.relations.values() {
            if let Some(definition) = &relation.definition {
                let name = relation.name.name.to_lowercase();
                *own.entry(name.clone()).or_default() += definition.len();
                definitions.push((name, definition.to_lowercase()));
            }
        }
        let within = definitions.iter().map(|(name, definition)| {
            let named = words(definition).filter(|word| word != name && own.contains_key(*word));
            (name.as_str(), named.collect::<BTreeSet<&str>>())
        });
        let within: Vec<(&str, BTreeSet<&str>)> = within.collect();
        let mut all = own.clone();
        for _ in 0..MAX_DEPTH {
            let mut next = own.clone();
            for (name, named) in &within {
                let more = named.iter().filter_map(|view| all.get(*view));
                let more = more.copied().fold(0, usize::saturating_add);
                if let Some(length) = next.get_mut(*name) {
                    *length = length.saturating_add(more);
                }
            }
            if next == all {
                break;
            }
            all = next;
        }
        let is_odd = |name: &str| words(name).next() != Some(name);
        let odd = all.iter().filter(|(name, _)| is_odd(name));
        let odd = odd
            .map(|(_, length)| *length)
            .fold(0, usize::saturating_add);
        let sum = all.values().copied().fold(0, usize::saturating_add);
        ViewLengths { of: all, odd, sum }
    }

    /// Whether a text has more than so many bytes with the definitions of the views that it may name.
    pub fn exceed(&self, sql: &str, most: usize) -> bool {
        sql.len().saturating_add(self.odd).saturating_add(self.sum) > most && self.with(sql) > most
    }

    /// The length of a text with the definitions of the views that it may name, each counted once.
    fn with(&self, sql: &str) -> usize {
        let lower = sql.to_lowercase();
        // An identifier with Unicode escapes may be any name.
        let named: BTreeSet<&str> = match lower.contains("u&\"") {
            true => self.of.keys().map(String::as_str).collect(),
            false => words(&lower)
                .filter(|word| self.of.contains_key(*word))
                .collect(),
        };
        let lengths = named.iter().filter_map(|view| self.of.get(*view));
        let lengths = lengths.copied().chain([self.odd]);
        lengths.fold(sql.len(), usize::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mothership_catalog::text::parse;

    #[test]
    fn a_text_is_as_long_as_it_is_with_its_views() {
        let catalog = parse(
            "table public.t\n column id bigint\nview public.a (id) as SELECT id FROM public.t\n\
             view public.bb (id) as SELECT id FROM public.a",
        );
        let lengths = ViewLengths::of(&catalog.unwrap());
        let (a, b) = (
            "SELECT id FROM public.t".len(),
            "SELECT id FROM public.a".len(),
        );
        for (sql, views) in [
            ("SELECT 1 FROM t", 0),
            ("SELECT 1 FROM A, a", a),
            ("SELECT 1 FROM bb", a + b),
            ("SELECT 1 FROM bb JOIN a USING (id)", 2 * a + b),
            ("SELECT 1 FROM U&\"\\0061\"", 2 * a + b),
        ] {
            assert_eq!(lengths.with(sql), sql.len() + views, "{sql}");
        }
    }
}
