//! Sets up the log: one line an event, to standard error, as text or as JSON.
//!
//! What must not be logged is kept out where events are made: statements appear only in
//! their shape, secrets print as `***`. Text that clients chose passes through [`client_text`],
//! so that it can neither break a line nor fill the disk.

use std::fmt;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, LogLevel, Logging};

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("set up the log")]
pub struct LogError(#[from] tracing_subscriber::util::TryInitError);

/// Changes the level of a log that is running.
pub struct LogControl(Box<dyn Fn(LevelFilter) + Send + Sync>);

impl LogControl {
    /// Applies the level of a reloaded configuration; its other settings need a restart.
    pub fn set_level(&self, level: LogLevel) {
        (self.0)(filter(level));
    }
}

/// Sends the events of this process to standard error from now on. To be called once.
///
/// # Errors
/// When it was called before.
pub fn start(logging: &Logging) -> Result<LogControl, LogError> {
    let (subscriber, control) = subscriber(logging, std::io::stderr);
    subscriber.try_init()?;
    Ok(control)
}

/// The same with another place for the lines.
fn subscriber<W>(
    logging: &Logging,
    writer: W,
) -> (Box<dyn tracing::Subscriber + Send + Sync>, LogControl)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (level, handle) = reload::Layer::new(filter(logging.level));
    // It fails only when the log is gone, and then there is nothing to set.
    let control = LogControl(Box::new(move |level| drop(handle.reload(level))));
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(writer);
    let registry = tracing_subscriber::registry().with(level);
    match logging.format {
        LogFormat::Text => (Box::new(registry.with(lines)), control),
        LogFormat::Json => (
            Box::new(registry.with(lines.json().flatten_event(true))),
            control,
        ),
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Text that a client chose (a user, an application name), fit for one log line: control
/// characters are escaped, and what is longer than `most` characters is cut.
pub fn client_text(text: &str, most: usize) -> impl fmt::Display + '_ {
    ClientText { text, most }
}

struct ClientText<'a> {
    text: &'a str,
    most: usize,
}

impl fmt::Display for ClientText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut characters = self.text.chars();
        for character in characters.by_ref().take(self.most) {
            // Also what only looks like a line end or turns the reading direction.
            if character.is_control()
                || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            {
                write!(f, "{}", character.escape_unicode())?;
            } else {
                fmt::Write::write_char(f, character)?;
            }
        }
        if characters.next().is_some() {
            f.write_str("...")
        } else {
            Ok(())
        }
    }
}

/// An error with its causes, on one line.
pub struct Chain<'a>(pub &'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::config::{LogStatements, Secret};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, level: LogLevel, event: impl FnOnce(&LogControl)) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let logging = Logging {
            format,
            level,
            statements: LogStatements::Off,
            connections: true,
        };
        let (subscriber, control) = subscriber(&logging, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || event(&control));
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_event_is_one_line_in_either_format() {
        let event = |_: &LogControl| tracing::info!(shard = "s1", password = %Secret::new("hunter2".into()), "server is up");
        let text = logged(LogFormat::Text, LogLevel::Info, event);
        assert!(
            text.ends_with(
                " INFO mothership::log::tests: server is up shard=\"s1\" password=***\n"
            ),
            "{text}"
        );
        let json = logged(LogFormat::Json, LogLevel::Info, event);
        assert!(
            json.starts_with('{') && json.ends_with("}\n") && json.matches('\n').count() == 1,
            "{json}"
        );
        assert!(
            json.contains(r#""message":"server is up","shard":"s1","password":"***""#),
            "{json}"
        );
    }

    #[test]
    fn less_severe_events_are_left_out_until_the_level_is_set() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let lines = logged(format, LogLevel::Warn, |control| {
                tracing::info!("before");
                control.set_level(LogLevel::Info);
                tracing::info!("after");
            });
            assert!(
                !lines.contains("before") && lines.contains("after"),
                "{lines}"
            );
        }
    }

    #[test]
    fn a_client_cannot_write_lines_of_its_own() {
        assert_eq!(
            client_text("a\nERROR b\u{202e}", 100).to_string(),
            "a\\u{a}ERROR b\\u{202e}"
        );
        assert_eq!(client_text("ääää", 3).to_string(), "äää...");
        assert_eq!(client_text("äää", 3).to_string(), "äää");
    }
}
