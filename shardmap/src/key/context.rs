//! What a session's settings say about the reading of values.
//!
//! DateStyle is absent on purpose: only date forms that every DateStyle reads alike are taken as keys.

/// The settings under which PostgreSQL would read a client's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextContext {
    /// The session's `TimeZone`.
    pub time_zone: TimeZone,
    /// The encodings on both sides of the session.
    pub encoding: Encoding,
}

/// As much of `TimeZone` as matters for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeZone {
    /// Local time is UTC at all times.
    Utc,
    /// Any other zone, or an unknown one: a timestamptz without an offset is not certain.
    Other,
}

/// As much of `client_encoding` and `server_encoding` as matters for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Both are UTF8: bytes are stored as they are sent.
    Utf8,
    /// Anything else: only ASCII bytes are certain to be stored as they are sent.
    Other,
}

impl TextContext {
    /// UTC and UTF8 on both sides.
    pub const UTC: TextContext = TextContext {
        time_zone: TimeZone::Utc,
        encoding: Encoding::Utf8,
    };

    /// Nothing is known of the session.
    pub const UNKNOWN: TextContext = TextContext {
        time_zone: TimeZone::Other,
        encoding: Encoding::Other,
    };

    /// Whether the server reads exactly these bytes.
    pub(crate) fn is_certain(&self, bytes: &[u8]) -> bool {
        self.encoding == Encoding::Utf8 || bytes.is_ascii()
    }
}

impl TimeZone {
    /// From the value of the setting, as `SHOW TimeZone` and ParameterStatus give it.
    pub fn from_setting(name: &str) -> TimeZone {
        const UTC_NAMES: [&str; 18] = [
            "UTC",
            "GMT",
            "UCT",
            "Zulu",
            "Universal",
            "Greenwich",
            "GMT0",
            "GMT+0",
            "GMT-0",
            "Etc/UTC",
            "Etc/GMT",
            "Etc/UCT",
            "Etc/Zulu",
            "Etc/Universal",
            "Etc/Greenwich",
            "Etc/GMT0",
            "Etc/GMT+0",
            "Etc/GMT-0",
        ];
        match UTC_NAMES.iter().any(|utc| utc.eq_ignore_ascii_case(name)) {
            true => TimeZone::Utc,
            false => TimeZone::Other,
        }
    }
}

impl Encoding {
    /// From the values of `client_encoding` and `server_encoding`.
    pub fn from_settings(client: &str, server: &str) -> Encoding {
        let is_utf8 = |name: &str| {
            ["UTF8", "UTF-8", "unicode"]
                .iter()
                .any(|utf8| utf8.eq_ignore_ascii_case(name))
        };
        match is_utf8(client) && is_utf8(server) {
            true => Encoding::Utf8,
            false => Encoding::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_zones_that_are_utc_for_ever_count_as_utc() {
        for name in ["UTC", "Etc/UTC", "gmt", "Etc/GMT+0"] {
            assert_eq!(TimeZone::from_setting(name), TimeZone::Utc, "{name}");
        }
        for name in [
            "Europe/London",
            "Etc/GMT+1",
            "Africa/Abidjan",
            "<+00>-00",
            "",
        ] {
            assert_eq!(TimeZone::from_setting(name), TimeZone::Other, "{name}");
        }
    }

    #[test]
    fn encodings_must_be_utf8_on_both_sides() {
        assert_eq!(Encoding::from_settings("UTF8", "UTF8"), Encoding::Utf8);
        assert_eq!(
            Encoding::from_settings("UTF8", "SQL_ASCII"),
            Encoding::Other
        );
        assert_eq!(Encoding::from_settings("LATIN1", "UTF8"), Encoding::Other);
    }
}
