//! What the client was told by ParameterStatus, and what follows from it for reading its statements.
//!
//! Every server connection has such a list of its own, and after a moment nearly all of them are equal. Equal lists
//! are made one, so that the next comparison is one of pointers.

use mothership_pool::connection::{Parameters, remember};
use mothership_shardmap::{Encoding, TextContext, TimeZone};
use mothership_sql::places::Characters;
use std::sync::Arc;

/// What of it says how values are written, beside the settings that a client has changed.
pub const FORMS: [&str; 2] = ["TimeZone", "DateStyle"];

/// Names and values that the client knows.
#[derive(Clone, Debug)]
pub struct ReportedParameters {
    list: Arc<Parameters>,
    /// The same when its session began.
    first: Arc<Parameters>,
    /// Derived from the list, whenever it changes.
    standard_strings: bool,
    server_version: u32,
    text: TextContext,
    characters: Characters,
}

impl ReportedParameters {
    /// The client was told all of this.
    pub fn new(list: Arc<Parameters>) -> Self {
        let text = |name: &[u8]| {
            let value = value(&list, name).unwrap_or_default();
            std::str::from_utf8(value).unwrap_or_default()
        };
        Self {
            standard_strings: value(&list, b"standard_conforming_strings")
                .is_none_or(|v| v == b"on"),
            server_version: major(text(b"server_version")),
            characters: Characters::of(text(b"client_encoding"), text(b"server_encoding")),
            text: TextContext {
                time_zone: TimeZone::from_setting(text(b"TimeZone")),
                encoding: Encoding::from_settings(
                    text(b"client_encoding"),
                    text(b"server_encoding"),
                ),
            },
            first: Arc::clone(&list),
            list,
        }
    }

    /// All of it when the session began.
    pub fn first(&self) -> &Arc<Parameters> {
        &self.first
    }

    /// The session begins now.
    pub fn begin(&mut self) {
        self.first = Arc::clone(&self.list);
    }

    /// All of it, in any order.
    pub fn list(&self) -> &Arc<Parameters> {
        &self.list
    }

    /// What the client knows of one.
    pub fn value(&self, name: &[u8]) -> Option<&[u8]> {
        value(&self.list, name)
    }

    /// True if the client knows that this is the value.
    pub fn has(&self, name: &[u8], value: &[u8]) -> bool {
        self.list.iter().any(|(n, v)| n == name && v == value)
    }

    /// The client was told one more.
    pub fn add(&mut self, name: &[u8], value: &[u8]) {
        let mut list = Arc::clone(&self.list);
        remember(Arc::make_mut(&mut list), name, value);
        let first = Arc::clone(&self.first);
        *self = Self {
            first,
            ..Self::new(list)
        };
    }

    /// True if the client knows what a server reports, and the server reports no less than that.
    pub fn is_same(&mut self, reported: &mut Arc<Parameters>) -> bool {
        if Arc::ptr_eq(&self.list, reported) {
            return true;
        }
        // No name is twice in a list, so equal length and containment make them equal but for their order.
        let same =
            self.list.len() == reported.len() && reported.iter().all(|(n, v)| self.has(n, v));
        if same {
            // The lower one, on both sides: so all clients and servers come to have one soon. By turns the client's
            // and the server's would stay different for ever.
            if Arc::as_ptr(&self.list) < Arc::as_ptr(reported) {
                *reported = Arc::clone(&self.list);
            } else {
                self.list = Arc::clone(reported);
            }
        }
        same
    }

    /// True if who was told by `known` how values are written writes them as the client expects.
    pub fn has_forms(&self, known: &mut Option<Arc<Parameters>>) -> bool {
        let Some(known) = known else {
            return false;
        };
        if Arc::ptr_eq(&self.list, known) {
            return true;
        }
        let same = FORMS.iter().all(|name| {
            let name = name.as_bytes();
            value(known, name) == self.value(name)
        });
        if same {
            *known = Arc::clone(&self.list);
        }
        same
    }

    /// Whether a backslash in a plain string is only a backslash.
    pub fn standard_strings(&self) -> bool {
        self.standard_strings
    }

    /// The first number of PostgreSQL's version; 0 if that is not known.
    pub fn server_version(&self) -> u32 {
        self.server_version
    }

    /// How servers count the characters of the client's texts.
    pub fn characters(&self) -> Characters {
        self.characters
    }

    /// What the text of a value means.
    pub fn text(&self) -> &TextContext {
        &self.text
    }
}

fn value<'l>(list: &'l Parameters, name: &[u8]) -> Option<&'l [u8]> {
    let found = list.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_slice())
}

/// Of `18beta1` it is 18.
fn major(version: &str) -> u32 {
    let end = version.find(|c: char| !c.is_ascii_digit());
    let digits = &version[..end.unwrap_or(version.len())];
    digits.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(pairs: &[(&str, &str)]) -> Arc<Parameters> {
        let own = |text: &str| text.as_bytes().to_vec();
        Arc::new(pairs.iter().map(|(n, v)| (own(n), own(v))).collect())
    }

    #[test]
    fn what_is_told_later_counts() {
        let mut told = ReportedParameters::new(list(&[]));
        assert!(told.standard_strings());
        assert_eq!(*told.text(), TextContext::UNKNOWN);
        told.add(b"standard_conforming_strings", b"off");
        told.add(b"TimeZone", b"UTC");
        told.add(b"client_encoding", b"UTF8");
        told.add(b"server_encoding", b"UTF8");
        assert!(!told.standard_strings());
        assert_eq!(*told.text(), TextContext::UTC);
        told.add(b"standard_conforming_strings", b"on");
        told.add(b"TimeZone", b"Europe/Berlin");
        assert!(told.standard_strings());
        assert_eq!(told.text().time_zone, TimeZone::Other);
        assert_eq!(told.list().len(), 4);
        assert_eq!(told.server_version(), 0);
        told.add(b"server_version", b"15.18 (Debian 15.18-0+deb12u1)");
        assert_eq!(told.server_version(), 15);
        told.add(b"server_version", b"19devel");
        assert_eq!(told.server_version(), 19);
    }

    #[test]
    fn equal_lists_become_one_and_others_stay() {
        let mut told = ReportedParameters::new(list(&[("a", "1"), ("b", "2")]));
        let mut same = list(&[("b", "2"), ("a", "1")]);
        assert!(told.is_same(&mut same));
        assert!(Arc::ptr_eq(&same, told.list()));
        for other in [
            &[("a", "1"), ("b", "3")][..],
            &[("a", "1")],
            &[("a", "1"), ("c", "2")],
            &[("a", "1"), ("b", "2"), ("c", "3")],
        ] {
            let mut reported = list(other);
            assert!(!told.is_same(&mut reported), "{other:?}");
            assert_eq!(reported, list(other));
        }
    }

    #[test]
    fn lists_of_many_clients_and_servers_become_one() {
        let mut clients =
            [(); 3].map(|()| ReportedParameters::new(list(&[("a", "1"), ("b", "2")])));
        let mut servers = [(); 4].map(|()| list(&[("a", "1"), ("b", "2")]));
        for _ in 0..2 {
            for server in &mut servers {
                clients.iter_mut().for_each(|client| {
                    assert!(client.is_same(server));
                });
            }
        }
        let one = clients[0].list();
        assert!(clients.iter().all(|client| Arc::ptr_eq(client.list(), one)));
        assert!(servers.iter().all(|server| Arc::ptr_eq(server, one)));
    }

    #[test]
    fn forms_are_those_of_times() {
        let told = ReportedParameters::new(list(&[("TimeZone", "UTC"), ("a", "1")]));
        let mut known = None;
        assert!(!told.has_forms(&mut known));
        known = Some(list(&[("TimeZone", "UTC"), ("a", "2")]));
        assert!(told.has_forms(&mut known));
        assert!(Arc::ptr_eq(&known.unwrap(), told.list()));
        let others = [
            &[("TimeZone", "GMT")][..],
            &[],
            &[("TimeZone", "UTC"), ("DateStyle", "SQL")],
        ];
        for other in others {
            assert!(!told.has_forms(&mut Some(list(other))), "{other:?}");
        }
    }

    #[test]
    fn what_one_is_told_is_not_told_to_another() {
        let mut one = ReportedParameters::new(list(&[("a", "1")]));
        let other = one.clone();
        one.add(b"a", b"2");
        assert!(one.has(b"a", b"2"));
        assert!(other.has(b"a", b"1"));
    }
}
