//! Starts the next process: by the command `mothership upgrade`, or by SIGUSR2.
//!
//! The program is the one that this process was started as: by now a newer one may lie there. It gets the same
//! configuration file, and takes over as any other would.

use super::link::Talk;
use super::new_process::TakeoverError;
use crate::config::{Config, ConfigError, Surroundings};
use crate::core::Shared;
use crate::other_process::words::Word;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

/// Starts it and waits until it has taken over. Returns its process id.
///
/// # Errors
/// What went wrong; this process goes on then.
pub async fn start(shared: &Shared, config: &Path) -> Result<u32, String> {
    let mut new_process = shared.other_process.new_process.subscribe();
    let program = std::env::args_os()
        .next()
        .ok_or("its own name is unknown")?;
    let mut command = Command::new(&program);
    command.args(["run", "--take-over", "--config"]).arg(config);
    command.stdin(Stdio::null());
    let cannot = |error: io::Error| format!("{} cannot be started: {error}", program.display());
    let mut child = command.spawn().map_err(cannot)?;
    let pid = child.id();
    tracing::info!(pid, "a successor is started");
    let (ended, end) = oneshot::channel();
    let reaper = std::thread::Builder::new().name("reaper".to_owned());
    let waits = reaper.spawn(move || {
        // Whoever asked may be gone; the child is to be waited for all the same.
        let _ = ended.send(child.wait());
    });
    waits.map_err(cannot)?;
    tokio::select! {
        taken = new_process.wait_for(|new_process| *new_process == Some(pid)) => match taken {
            Ok(_) => Ok(pid),
            Err(_) => Err("this process is ending".to_owned()),
        },
        end = end => {
            let how = match end {
                Ok(Ok(status)) => status.to_string(),
                _ => "an unknown status".to_owned(),
            };
            tracing::error!(pid, how, "the successor ended before it took over; this process goes on");
            Err(format!("the new process ended with {how} before it took over; its log says why"))
        }
    }
}

/// Whoever gives the command need not have the secrets of the process that it is for.
struct Unread;

impl Surroundings for Unread {
    fn variable(&self, _: &str) -> Option<String> {
        Some("unread".to_owned())
    }

    fn file(&self, _: &Path) -> io::Result<String> {
        Ok("unread".to_owned())
    }
}

/// The configuration, as far as the command needs it.
///
/// # Errors
/// As [`Config::load`].
pub fn config(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    Ok(Config::parse(path, &text, &Unread)?)
}

/// The command: has the running process start its successor. Returns what happened, for a reader.
///
/// # Errors
/// Why nothing has changed.
pub fn upgrade(config: &Config) -> Result<String, TakeoverError> {
    let place = config
        .listen
        .takeover
        .as_ref()
        .ok_or(TakeoverError::NoPlace)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.map_err(TakeoverError::Talk)?.block_on(async {
        let stream = UnixStream::connect(place).await.map_err(|error| {
            let what = format!("nobody answers at {}: {error}", place.display());
            TakeoverError::Talk(io::Error::new(error.kind(), what))
        })?;
        let mut talk = Talk::new(stream);
        let said = talk.say(&Word::Upgrade, &[]).await;
        said.map_err(TakeoverError::Talk)?;
        match talk.hear().await.map_err(TakeoverError::Talk)? {
            Some(Word::Upgraded { pid, clients }) => Ok(format!(
                "process {pid} serves now; {clients} clients stay with the one before until they leave\n"
            )),
            Some(Word::Refused { why }) => Err(TakeoverError::Refused(why)),
            Some(_) => Err(TakeoverError::Strange),
            None => Err(TakeoverError::Talk(io::ErrorKind::UnexpectedEof.into())),
        }
    })
}
