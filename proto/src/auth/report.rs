//! An ErrorResponse or NoticeResponse that a server sent while we logged in.
//!
//! Any field may be missing, repeated or cut off (S9); text is kept for logs, so it is
//! shortened and freed of control characters (R11).

use std::fmt;

use crate::frame::take_str;

/// Bytes of a field that are kept.
const MAX_FIELD: usize = 1_000;

/// The fields that matter. Each may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerReport {
    /// `FATAL`, `ERROR`, ...; untranslated where the server gives it.
    pub severity: Option<String>,
    /// Five letters or digits, else `None`.
    pub sqlstate: Option<String>,
    /// The message.
    pub message: Option<String>,
    /// The detail.
    pub detail: Option<String>,
    /// The hint.
    pub hint: Option<String>,
}

impl ServerReport {
    /// Reads the body of the message. Never fails: what cannot be read is missing. Of a repeated field
    /// the first counts.
    pub fn parse(body: &[u8]) -> Self {
        let mut report = Self::default();
        let mut localized = None;
        let mut reader = body;
        while let Some([code, text @ ..]) = take_str(&mut reader) {
            let field = match code {
                b'S' => &mut localized,
                b'V' => &mut report.severity,
                b'C' => &mut report.sqlstate,
                b'M' => &mut report.message,
                b'D' => &mut report.detail,
                b'H' => &mut report.hint,
                _ => continue,
            };
            field.get_or_insert_with(|| clean(text));
        }
        let is_sqlstate = |code: &String| {
            code.len() == 5 && code.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        report.sqlstate = report.sqlstate.filter(is_sqlstate);
        report.severity = report.severity.or(localized);
        report
    }
}

impl fmt::Display for ServerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message.as_deref().unwrap_or("no message"))?;
        match &self.sqlstate {
            Some(sqlstate) => write!(f, " (SQLSTATE {sqlstate})"),
            None => Ok(()),
        }
    }
}

fn clean(text: &[u8]) -> String {
    let text = &text[..text.len().min(MAX_FIELD)];
    let shown = |character: char| {
        if character.is_control() {
            ' '
        } else {
            character
        }
    };
    String::from_utf8_lossy(text).chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // See: CVE-2026-6666, a pooler that needed the SQLSTATE.
    #[test]
    fn every_subset_of_fields_is_read_in_any_state_of_termination() {
        let fields = [
            ("S", "FATAL"),
            ("V", "FATAL"),
            ("C", "28P01"),
            ("M", "no"),
            ("D", "d"),
            ("H", "h"),
        ];
        for subset in 0_u32..64 {
            let chosen = fields
                .iter()
                .enumerate()
                .filter(|(bit, _)| subset >> bit & 1 == 1);
            let whole: String = chosen
                .map(|(_, (code, text))| format!("{code}{text}\0"))
                .collect();
            let report = ServerReport::parse(format!("{whole}\0").as_bytes());
            let has = |bit: u32| subset >> bit & 1 == 1;
            assert_eq!(report.severity.is_some(), has(0) || has(1));
            assert_eq!(report.sqlstate.as_deref(), has(2).then_some("28P01"));
            assert_eq!(report.message.as_deref(), has(3).then_some("no"));
            assert_eq!(report.detail.is_some(), has(4));
            assert_eq!(report.hint.is_some(), has(5));
            (0..whole.len()).for_each(|end| drop(ServerReport::parse(&whole.as_bytes()[..end])));
        }
    }

    #[test]
    fn text_for_the_log_is_short_and_one_line() {
        let body = [b"M".as_slice(), b"a\n\x1b[31m\xff", &[b'x'; 9_000], b"\0\0"].concat();
        let message = ServerReport::parse(&body).message.unwrap();
        assert!(message.starts_with("a  [31m\u{fffd}xxx"));
        assert!(message.chars().count() <= MAX_FIELD);
    }

    #[test]
    fn the_first_of_a_repeated_field_counts_and_a_false_sqlstate_does_not() {
        let report = ServerReport::parse(b"Mone\0Mtwo\0C\xff\xff\0\0");
        assert_eq!(
            (report.message.as_deref(), report.sqlstate),
            (Some("one"), None)
        );
    }
}
