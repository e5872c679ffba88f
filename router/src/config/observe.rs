//! What can be seen from outside: metrics, the admin console, the log.

use std::net::{IpAddr, Ipv4Addr};

use super::names::Name;
use super::section::settings;
use super::value::words;

settings! {
    /// Prometheus metrics, `/health` and `/ready` over HTTP.
    pub struct Metrics {
        /// Address to listen on.
        restart address: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
        /// Port to listen on.
        restart port: Option<u16> = None, 1..=65535;
    }
}

settings! {
    /// The admin console, which is a database of its own. Its users log in like all others.
    pub struct Console {
        /// Database names under which the console is reached. They hide databases of the same name.
        reload databases: Vec<Name> = names(&["mothership", "pgbouncer"]);
        /// Users who may give every command.
        reload admin_users: Vec<Name>;
        /// Users who may only look (SHOW).
        reload stats_users: Vec<Name>;
        /// Let the router's own operating-system user in over the unix socket as user `pgbouncer` without a password.
        reload peer: bool = true;
        /// The version that is told to tools made for PgBouncer.
        reload version: String = "1.25.2".to_owned();
    }
}

settings! {
    /// The log goes to standard error. It never contains a parameter's value or a secret.
    pub struct Logging {
        /// Lines for people or for machines.
        restart format: LogFormat = LogFormat::Text;
        /// The least severe level that is logged.
        reload level: LogLevel = LogLevel::Info;
        /// Whether statements appear: never, or in their shape, with `?` for every literal and for the value of a SET.
        reload statements: LogStatements = LogStatements::Off;
        /// Log each login and logout.
        reload connections: bool = true;
    }
}

words! {
    /// How a line of the log looks.
    pub enum LogFormat {
        /// Time, level, text, fields.
        Text = "text",
        /// One JSON object.
        Json = "json",
    }
}

words! {
    /// How severe an event must be.
    pub enum LogLevel {
        /// Something failed and somebody should look.
        Error = "error",
        /// Something is odd and was dealt with.
        Warn = "warn",
        /// What an operator wants to know.
        Info = "info",
        /// What a developer wants to know.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

words! {
    /// How statements appear in the log.
    pub enum LogStatements {
        /// Not at all.
        Off = "off",
        /// Without their literals.
        Shape = "shape",
    }
}

fn names(texts: &[&str]) -> Vec<Name> {
    texts.iter().filter_map(|text| Name::new(text)).collect()
}
