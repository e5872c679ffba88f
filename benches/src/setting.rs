//! Where and with what a run measured: without that its figures mean nothing.

use crate::options::Options;
use mothership_cluster::Binaries;
use mothership_tests::mongo::mongod;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::process::Command;

/// What was read of the machine and of the programs, for people.
#[derive(Debug, Clone, Default)]
pub struct Setting {
    /// The day, in UTC.
    pub date: String,
    /// Processor and number of cores.
    pub machine: String,
    /// The kernel's version.
    pub kernel: String,
    /// PostgreSQL's, PgBouncer's, the router's and MongoDB's versions.
    pub versions: Vec<String>,
}

impl Setting {
    /// Of this machine, now. What cannot be read is left empty.
    pub fn read(options: &Options, binaries: &Binaries) -> Setting {
        let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let version = |program: &OsStr| first_line(Command::new(program).arg("--version"));
        let mut versions = vec![version(binaries.program("postgres").as_os_str())];
        if let Some(pgbouncer) = &options.pgbouncer {
            versions.push(version(pgbouncer.as_os_str()));
        }
        versions.push(version(options.router.as_os_str()));
        if options
            .targets
            .iter()
            .any(|target| target.is_of_documents())
        {
            let program = mongod();
            let version = program.map(|program| version(program.as_os_str()));
            versions.extend(version.map(|text| text.replace("db version v", "mongod ")));
        }
        Setting {
            date: first_line(Command::new("date").args(["-u", "+%Y-%m-%d"])),
            machine: format!("{cores} cores, {}", model(&cpus)),
            kernel: first_line(Command::new("uname").arg("-sr")),
            versions,
        }
    }

    /// As one JSON object.
    pub fn json(&self, options: &Options) -> Value {
        json!({
            "date": self.date,
            "machine": self.machine,
            "kernel": self.kernel,
            "versions": self.versions,
            "seed": options.seed,
            "rounds": options.rounds,
            "seconds": options.duration.as_secs(),
        })
    }

    /// In one sentence.
    pub fn in_words(&self) -> String {
        let versions = self.versions.join(", ");
        format!(
            "{}; {}; {}; {versions}",
            self.date, self.machine, self.kernel
        )
    }
}

/// The processor's name in /proc/cpuinfo.
fn model(cpus: &str) -> &str {
    let line = cpus.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(':'));
    name.map_or("processor unknown", |(_, name)| name.trim())
}

fn first_line(command: &mut Command) -> String {
    let output = command.output().map(|out| out.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&output);
    text.lines().next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_has_the_name_that_the_kernel_gives_it() {
        let cpus = "processor\t: 0\nmodel name\t: Some CPU @ 2.00GHz\nflags\t: fpu\n";
        assert_eq!(model(cpus), "Some CPU @ 2.00GHz");
        assert_eq!(model(""), "processor unknown");
    }
}
