//! The options of an EXPLAIN that the router itself heeds; the servers are given all of them as they are written.

use mothership_sql::lexer::{Kind, Lexer};

/// How the answer looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Format {
    /// Lines.
    #[default]
    Text,
    /// One document.
    Json,
    /// XML, YAML, or what PostgreSQL will refuse.
    Other,
}

/// The options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// The statement is executed.
    pub analyze: bool,
    /// Texts are shown.
    pub verbose: bool,
    pub format: Format,
    timing: Option<bool>,
    summary: Option<bool>,
}

impl Options {
    /// Those of an EXPLAIN up to the statement that it explains. The last one of a name holds.
    pub(super) fn of(head: &[u8], strings: bool) -> Options {
        let mut options = Options::default();
        let mut name = String::new();
        let mut value = String::new();
        let listed = Lexer::new(head, strings).any(|token| token.kind == Kind::LParen);
        for token in Lexer::new(head, strings).skip(1) {
            let text = String::from_utf8_lossy(token.text(head)).to_ascii_lowercase();
            match token.kind {
                Kind::LParen => {}
                Kind::Comma | Kind::RParen => {
                    options.set(&std::mem::take(&mut name), &std::mem::take(&mut value));
                }
                _ if !listed => options.set(text.trim_matches('"'), ""),
                _ if name.is_empty() => name = text.trim_matches('"').to_owned(),
                _ => value = text.trim_matches(['\'', '"']).to_owned(),
            }
        }
        options
    }

    fn set(&mut self, name: &str, value: &str) {
        let on = !matches!(value, "off" | "false" | "0");
        match name {
            "analyze" | "analyse" => self.analyze = on,
            "verbose" => self.verbose = on,
            "timing" => self.timing = Some(on),
            "summary" => self.summary = Some(on),
            "format" => {
                self.format = match value {
                    "text" => Format::Text,
                    "json" => Format::Json,
                    _ => Format::Other,
                };
            }
            _ => {}
        }
    }

    /// Whether times are told.
    pub(super) fn times(&self) -> bool {
        self.analyze && self.timing.unwrap_or(true)
    }

    /// Whether the time of all of it is told.
    pub(super) fn sums_up(&self) -> bool {
        self.times() && self.summary.unwrap_or(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_in_both_forms() {
        let read = |head: &str| Options::of(head.as_bytes(), true);
        assert_eq!(read("EXPLAIN "), Options::default());
        let both = read("explain ANALYZE verbose ");
        assert!(both.analyze && both.verbose && both.sums_up());
        let list = read("EXPLAIN (ANALYZE, TIMING off, \"verbose\" 'false', FORMAT 'JSON') ");
        assert!(list.analyze && !list.verbose && !list.times());
        assert_eq!(list.format, Format::Json);
        assert!(!read("EXPLAIN (analyze on, analyze 0, costs off) ").analyze);
        assert!(!read("EXPLAIN (analyze, summary false) ").sums_up());
        assert_eq!(read("EXPLAIN (FORMAT yaml)").format, Format::Other);
    }
}
