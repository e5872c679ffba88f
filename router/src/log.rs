//! Sets up the log: one line an event, to standard error, as text or as JSON.
//!
//! What must not be logged is kept out where events are made: statements appear only in
//! their shape, secrets print as `***`. Text that clients chose passes through [`client_text`],
//! so that it can neither break a line nor fill the disk.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, LogLevel, Logging};

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("set up the log")]
pub struct LogError(#[from] tracing_subscriber::util::TryInitError);

/// Changes a log that is running.
pub struct LogControl {
    level: Box<dyn Fn(LevelFilter) + Send + Sync>,
    pace: Arc<Pace>,
}

impl LogControl {
    /// Applies the level of a reloaded configuration; its other settings need a restart.
    pub fn set_level(&self, level: LogLevel) {
        (self.level)(filter(level));
    }
}

/// The log of this process, once it was started.
static RUNNING: OnceLock<LogControl> = OnceLock::new();

/// Sends the events of this process to standard error from now on. To be called once.
/// `rate` is the most lines a second of one kind.
///
/// # Errors
/// When it was called before.
pub fn start(logging: &Logging, rate: u32) -> Result<(), LogError> {
    let (subscriber, control) = subscriber(logging, std::io::stderr);
    subscriber.try_init()?;
    control.pace.set_rate(rate);
    // Only the first start succeeds, so nothing is there yet.
    let _ = RUNNING.set(control);
    Ok(())
}

/// Applies what a reload may change, if the log of this process was started.
pub fn reload(logging: &Logging, rate: u32) {
    if let Some(control) = RUNNING.get() {
        control.set_level(logging.level);
        control.pace.set_rate(rate);
    }
}

/// Says how many lines were left out since the last call, and of which modules.
pub fn tell_left_out() {
    let Some(control) = RUNNING.get() else { return };
    for (module, lines) in control.pace.take_left_out() {
        tracing::warn!(module, lines, "log lines were left out");
    }
}

/// Counts the lines of each kind, which is each place in the code that logs, and leaves
/// out what is more than so many a second. What only developers see is not counted.
#[derive(Default)]
struct Pace {
    rate: AtomicU32,
    kinds: Mutex<HashMap<Identifier, Kind>>,
}

struct Kind {
    module: &'static str,
    since: Instant,
    lines: u32,
    left_out: u64,
}

impl Pace {
    /// No rate leaves nothing out.
    fn set_rate(&self, rate: u32) {
        self.rate.store(rate, Ordering::Relaxed);
    }

    fn admits(&self, metadata: &Metadata<'static>) -> bool {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == 0 || *metadata.level() > Level::INFO {
            return true;
        }
        let now = Instant::now();
        let mut kinds = self.kinds.lock().expect("nobody panics while holding it");
        // As many as there are such places in the code.
        let kind = kinds.entry(metadata.callsite()).or_insert_with(|| Kind {
            module: metadata.target(),
            since: now,
            lines: 0,
            left_out: 0,
        });
        if now.saturating_duration_since(kind.since) >= Duration::from_secs(1) {
            kind.since = now;
            kind.lines = 0;
        }
        kind.lines = kind.lines.saturating_add(1);
        let admitted = kind.lines <= rate;
        kind.left_out += u64::from(!admitted);
        admitted
    }

    fn take_left_out(&self) -> Vec<(&'static str, u64)> {
        let mut kinds = self.kinds.lock().expect("nobody panics while holding it");
        let kinds = kinds.values_mut().filter(|kind| kind.left_out > 0);
        kinds
            .map(|kind| (kind.module, std::mem::take(&mut kind.left_out)))
            .collect()
    }
}

/// The pace of a log as a filter of its lines.
struct Paced(Arc<Pace>);

impl<S> Filter<S> for Paced {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        self.0.admits(event.metadata())
    }
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
    let pace = Arc::<Pace>::default();
    let control = LogControl {
        level: Box::new(move |level| drop(handle.reload(level))),
        pace: Arc::clone(&pace),
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(writer);
    let registry = tracing_subscriber::registry().with(level);
    let paced = Paced(pace);
    match logging.format {
        LogFormat::Text => (Box::new(registry.with(lines.with_filter(paced))), control),
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_filter(paced);
            (Box::new(registry.with(lines)), control)
        }
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
    fn no_kind_of_line_fills_the_log_and_what_is_left_out_is_counted() {
        let mut told = Vec::new();
        let lines = logged(LogFormat::Text, LogLevel::Info, |control| {
            control.pace.set_rate(3);
            for _ in 0..10 {
                tracing::info!("often");
            }
            tracing::info!("once");
            told = control.pace.take_left_out();
        });
        assert_eq!(lines.matches("often").count(), 3, "{lines}");
        assert!(lines.contains("once"), "{lines}");
        assert_eq!(told, [("mothership::log::tests", 7)]);
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
