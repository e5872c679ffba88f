//! ErrorResponse and NoticeResponse: the fields of a report, read and written.
//!
//! Every error that the router itself raises is a [`Report`] with a SQLSTATE, in
//! PostgreSQL's manner (manual, "Error Message Style Guide"): the message is lower
//! case and factual, advice goes into the hint.

use crate::backend::tag;
use crate::frame::{put, put_str, take_str};
use std::borrow::Cow;
use std::ops::Deref;

/// SQLSTATE codes that the router raises or acts on (manual, appendix A).
pub mod sqlstate {
    #![allow(missing_docs)]
    pub const SUCCESS: &str = "00000";
    pub const CONNECTION_EXCEPTION: &str = "08000";
    pub const CONNECTION_FAILURE: &str = "08006";
    pub const UNKNOWN_OUTCOME: &str = "08007";
    pub const PROTOCOL_VIOLATION: &str = "08P01";
    pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
    pub const ACTIVE_TRANSACTION: &str = "25001";
    pub const NO_ACTIVE_TRANSACTION: &str = "25P01";
    pub const IN_FAILED_TRANSACTION: &str = "25P02";
    pub const IDLE_IN_TRANSACTION_TIMEOUT: &str = "25P03";
    pub const INVALID_STATEMENT_NAME: &str = "26000";
    pub const INVALID_AUTHORIZATION: &str = "28000";
    pub const INVALID_PASSWORD: &str = "28P01";
    pub const INVALID_CURSOR_NAME: &str = "34000";
    pub const INVALID_CATALOG_NAME: &str = "3D000";
    pub const SAVEPOINT_MISSING: &str = "3B001";
    pub const SERIALIZATION_FAILURE: &str = "40001";
    pub const DEADLOCK_DETECTED: &str = "40P01";
    pub const SYNTAX_ERROR: &str = "42601";
    pub const INSUFFICIENT_PRIVILEGE: &str = "42501";
    pub const UNDEFINED_OBJECT: &str = "42704";
    pub const UNDEFINED_FUNCTION: &str = "42883";
    pub const DUPLICATE_OBJECT: &str = "42710";
    pub const DUPLICATE_TABLE: &str = "42P07";
    pub const UNDEFINED_TABLE: &str = "42P01";
    pub const DUPLICATE_CURSOR: &str = "42P03";
    pub const DUPLICATE_STATEMENT: &str = "42P05";
    pub const OUT_OF_MEMORY: &str = "53200";
    pub const TOO_MANY_CONNECTIONS: &str = "53300";
    pub const LIMIT_EXCEEDED: &str = "53400";
    pub const PROGRAM_LIMIT_EXCEEDED: &str = "54000";
    pub const NOT_IN_PREREQUISITE_STATE: &str = "55000";
    pub const QUERY_CANCELED: &str = "57014";
    pub const ADMIN_SHUTDOWN: &str = "57P01";
    pub const CANNOT_CONNECT_NOW: &str = "57P03";
    pub const IDLE_SESSION_TIMEOUT: &str = "57P05";
    pub const INVALID_PARAMETER_VALUE: &str = "22023";
    pub const INTERNAL_ERROR: &str = "XX000";
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed.
    Error,
    /// The connection ends.
    Fatal,
    /// Something the client should know.
    Warning,
    /// Something the client may want to know.
    Notice,
}

impl Severity {
    /// The word on the wire, which is not translated.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Warning => "WARNING",
            Self::Notice => "NOTICE",
        }
    }
}

/// An error or notice that the router raises.
///
/// It is one pointer wide, because every step of a request returns a result that may carry one, and what makes one is
/// cold, so that it stands beside the path that is taken and not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report(Box<Content>);

/// What a [`Report`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// How bad it is.
    pub severity: Severity,
    /// SQLSTATE.
    pub code: Cow<'static, str>,
    /// What happened.
    pub message: Cow<'static, str>,
    /// Facts that help to understand it.
    pub detail: Option<Cow<'static, str>>,
    /// What to do about it.
    pub hint: Option<Cow<'static, str>>,
    /// The function of PostgreSQL that raises the same error: some drivers look at it.
    pub routine: Option<&'static str>,
    /// What else a server's own report says, by the codes of the fields: where, schema, table, column, constraint.
    pub more: Vec<(u8, String)>,
}

impl Deref for Report {
    type Target = Content;

    fn deref(&self) -> &Content {
        &self.0
    }
}

impl Report {
    /// An error of one statement.
    #[cold]
    pub fn error(
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(Severity::Error, code, message)
    }

    /// An error that ends the connection.
    #[cold]
    pub fn fatal(
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(Severity::Fatal, code, message)
    }

    /// A warning.
    #[cold]
    pub fn warning(
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(Severity::Warning, code, message)
    }

    /// A notice.
    #[cold]
    pub fn notice(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Severity::Notice, sqlstate::SUCCESS, message)
    }

    fn new(
        severity: Severity,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Content {
            severity,
            code: code.into(),
            message: message.into(),
            detail: None,
            hint: None,
            routine: None,
            more: Vec::new(),
        }))
    }

    /// A server's report to the router, for the client: all of it but places in the text, which is not the client's.
    #[cold]
    pub fn of_server(mut body: &[u8]) -> Self {
        let mut report = Self::error(
            sqlstate::INTERNAL_ERROR,
            "server reported an error without a message",
        );
        let content = &mut report.0;
        while let Some((&code, rest)) = body.split_first() {
            body = rest;
            let Some(text) = take_str(&mut body).filter(|_| code != 0) else {
                break;
            };
            let text = String::from_utf8_lossy(text).into_owned();
            match code {
                b'C' => content.code = text.into(),
                b'M' => content.message = text.into(),
                b'D' => content.detail = Some(text.into()),
                b'H' => content.hint = Some(text.into()),
                b'S' | b'V' | b'P' | b'p' | b'q' => {}
                _ => content.more.push((code, text)),
            }
        }
        report
    }

    /// Adds the detail.
    #[cold]
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Adds the hint.
    #[cold]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds one of the fields that say where: `s` the schema, `t` the table, `c` the column, `n` the constraint.
    #[cold]
    pub fn field(mut self, code: u8, text: impl Into<String>) -> Self {
        self.0.more.push((code, text.into()));
        self
    }

    /// Names the function of PostgreSQL that raises the same error.
    #[cold]
    pub fn routine(mut self, routine: &'static str) -> Self {
        self.0.routine = Some(routine);
        self
    }

    /// The same, ending the connection.
    #[cold]
    pub fn into_fatal(mut self) -> Self {
        self.0.severity = Severity::Fatal;
        self
    }

    /// Writes the message: ErrorResponse for errors, NoticeResponse for the rest.
    pub fn put(&self, out: &mut Vec<u8>) {
        let tag = match self.severity {
            Severity::Error | Severity::Fatal => tag::ERROR,
            Severity::Warning | Severity::Notice => tag::NOTICE,
        };
        let field = |body: &mut Vec<u8>, code: u8, text: &str| {
            body.push(code);
            // A zero byte in a name that a client chose must not cut the message.
            let clean: Vec<u8> = text.bytes().filter(|&b| b != 0).collect();
            put_str(body, &clean);
        };
        put(out, tag, |body| {
            field(body, b'S', self.severity.word());
            field(body, b'V', self.severity.word());
            field(body, b'C', &self.code);
            field(body, b'M', &self.message);
            if let Some(detail) = &self.detail {
                field(body, b'D', detail);
            }
            if let Some(hint) = &self.hint {
                field(body, b'H', hint);
            }
            if let Some(routine) = self.routine {
                field(body, b'R', routine);
            }
            for (code, text) in &self.more {
                field(body, *code, text);
            }
            body.push(0);
        });
    }
}

/// The fields of a report that a server sent. Missing ones are `None`: a server
/// may leave out any of them (CVE-2026-6666 was a pooler that trusted it not to).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields<'a> {
    /// Untranslated severity, or the translated one of old servers.
    pub severity: Option<&'a [u8]>,
    /// SQLSTATE.
    pub code: Option<&'a [u8]>,
    /// The message.
    pub message: Option<&'a [u8]>,
    /// Where it came from: the functions and queries around it.
    pub context: Option<&'a [u8]>,
    /// The function of PostgreSQL's source that raised it; never translated.
    pub routine: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    /// Reads a body. What is cut short or not understood is left out.
    pub fn read(mut body: &'a [u8]) -> Self {
        let mut fields = Self::default();
        while let Some((&code, rest)) = body.split_first() {
            if code == 0 {
                break;
            }
            body = rest;
            let Some(text) = take_str(&mut body) else {
                break;
            };
            match code {
                b'V' => fields.severity = Some(text),
                b'S' => fields.severity = fields.severity.or(Some(text)),
                b'C' => fields.code = Some(text),
                b'M' => fields.message = Some(text),
                b'W' => fields.context = Some(text),
                b'R' => fields.routine = Some(text),
                _ => {}
            }
        }
        fields
    }

    /// True when the server ends the connection after this.
    pub fn is_fatal(&self) -> bool {
        matches!(self.severity, Some(b"FATAL" | b"PANIC"))
    }

    /// True of the warning that a transaction is committed, but perhaps on no standby: the wait for one was cancelled.
    /// <https://www.postgresql.org/docs/current/warm-standby.html#SYNCHRONOUS-REPLICATION-HA>
    pub fn is_unreplicated(&self) -> bool {
        self.routine == Some(b"SyncRepWaitForLSN")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_report_reads_back_as_it_was_written() {
        let mut out = Vec::new();
        Report::error(sqlstate::FEATURE_NOT_SUPPORTED, "not yet")
            .detail("because")
            .hint("try this")
            .put(&mut out);
        let fields = Fields::read(&out[5..]);
        assert_eq!(out[0], b'E');
        assert_eq!(fields.code, Some(&b"0A000"[..]));
        assert_eq!(fields.message, Some(&b"not yet"[..]));
        assert!(!fields.is_fatal());
    }

    #[test]
    fn a_servers_report_is_passed_on_with_all_that_concerns_the_client() {
        let body = b"SERROR\0VERROR\0C23505\0Mtwice\0DKey (id)=(1).\0P7\0Wat work\0tt\0nt_pkey\0\0";
        let mut out = Vec::new();
        Report::of_server(body).put(&mut out);
        let told = b"SERROR\0VERROR\0C23505\0Mtwice\0DKey (id)=(1).\0Wat work\0tt\0nt_pkey\0\0";
        assert_eq!(&out[5..], told);
        assert_eq!(&*Report::of_server(b"C").code, sqlstate::INTERNAL_ERROR);
    }

    // See: CVE-2026-6666
    #[test]
    fn every_subset_of_fields_is_read_without_harm() {
        let all: [&[u8]; 4] = [b"SERROR\0", b"VFATAL\0", b"C57P01\0", b"Mgoing down\0"];
        for subset in 0..16u8 {
            let mut body: Vec<u8> = (0..4)
                .filter(|i| subset & (1 << i) != 0)
                .flat_map(|i| all[i].to_vec())
                .collect();
            let unterminated = Fields::read(&body).code.map(<[u8]>::to_vec);
            body.push(0);
            assert_eq!(Fields::read(&body).code.is_some(), subset & 4 != 0);
            assert_eq!(Fields::read(&body).code.map(<[u8]>::to_vec), unterminated);
        }
    }

    proptest! {
        #[test]
        fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Fields::read(&body);
        }
    }
}
