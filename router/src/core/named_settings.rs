//! The settings of applications' own (`app.tenant`) that statements have named: servers list them nowhere, so where a
//! session's settings have to be asked for, they are asked for by these names.

use crate::statements::named_settings::MAX_NAMES;
use std::collections::VecDeque;

/// The names, the newest last. Each has a number: who has asked for all of them knows those up to the last number.
#[derive(Debug, Default)]
pub struct NamedSettings {
    names: VecDeque<String>,
    dropped: usize,
}

impl NamedSettings {
    /// Adds the names of a statement. Gives the number of the newest of them; 0 if there is none.
    pub fn add(&mut self, names: &[String]) -> u16 {
        let mut newest = 0;
        for name in names {
            let place = self.names.iter().position(|known| known == name);
            let place = place.unwrap_or_else(|| {
                self.names.push_back(name.clone());
                self.names.len() - 1
            });
            newest = newest.max(number(self.dropped + place + 1));
        }
        let surplus = self.names.len().saturating_sub(MAX_NAMES);
        self.names.drain(..surplus);
        self.dropped += surplus;
        newest
    }

    /// The number of the newest name.
    pub fn last(&self) -> u16 {
        number(self.dropped + self.names.len())
    }

    /// The names.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }
}

/// The last number stands for all names from there on: they count as new again and again.
fn number(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statements::named_settings::named_by;

    #[test]
    fn each_name_has_a_number_for_as_long_as_it_is_kept() {
        let mut named = NamedSettings::default();
        let mut add = |sql: &str| named.add(&named_by(sql.as_bytes()));
        assert_eq!(add("SELECT 1"), 0);
        assert_eq!(add("SELECT current_setting('app.a')"), 1);
        assert_eq!(add("SET app.b = '1'"), 2);
        assert_eq!(add("SET app.a = '1'"), 1);
        for n in 0..MAX_NAMES {
            add(&format!("SET app.n{n} = '1'"));
        }
        assert_eq!(named.iter().count(), MAX_NAMES);
        assert_eq!(named.last(), number(MAX_NAMES) + 2);
        let again = named.add(&named_by(b"SET app.a = '1'"));
        assert_eq!(again, number(MAX_NAMES) + 3);
    }
}
