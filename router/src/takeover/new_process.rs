//! The side of the new process: it asks for the ports, and says when it is ready.

use super::link::{Talk, live};
use super::old_process::is_allowed;
use super::ports::Port;
use crate::core::Shared;
use crate::other_process::Side;
use crate::other_process::words::{Facts, VERSION, Word};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;

/// Each word of the old process may take so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why nothing was taken over. The old process goes on as if nothing had happened.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    /// There is no place to ask at.
    #[error("listen.takeover is not set: it says where the running process is asked")]
    NoPlace,
    /// The conversation broke off.
    #[error("speak with the running process")]
    Talk(#[source] io::Error),
    /// It said no.
    #[error("the running process refuses: {0}")]
    Refused(String),
    /// Rows would be looked for where the running process has not put them.
    #[error(
        "`{0}` is not what it is in the running process; where rows are cannot change while both serve: end that one first"
    )]
    Layout(String),
    /// It said something else.
    #[error("the running process did not say what was expected")]
    Strange,
}

/// What was taken over, before it is in force.
#[derive(Debug)]
pub struct Inheritance {
    talk: Talk,
    /// The ports.
    pub ports: Vec<Port>,
    /// What else the old process has told.
    pub facts: Facts,
}

impl Inheritance {
    /// Asks the process that serves for its ports. None: there is none.
    ///
    /// # Errors
    /// When there is one and it does not give them.
    pub async fn ask(place: &Path) -> Result<Option<Inheritance>, TakeoverError> {
        let stream = match UnixStream::connect(place).await {
            Ok(stream) => stream,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(TakeoverError::Talk(error)),
        };
        let mut talk = Talk::new(stream);
        let uid = talk.uid().map_err(TakeoverError::Talk)?;
        if !is_allowed(uid) {
            let why = format!("it runs as another user, {uid}");
            return Err(TakeoverError::Refused(why));
        }
        let word = Word::TakeOver {
            version: VERSION,
            pid: std::process::id(),
        };
        talk.say(&word, &[]).await.map_err(TakeoverError::Talk)?;
        let mut ports = Vec::new();
        loop {
            match hear(&mut talk).await? {
                Word::Sockets { uses } => {
                    for used in uses {
                        let socket = talk.descriptor().ok_or(TakeoverError::Strange)?;
                        ports.push(Port::inherited(used, socket, ports.len()));
                    }
                }
                Word::Facts(facts) => return Ok(Some(Inheritance { talk, ports, facts })),
                Word::Refused { why } => return Err(TakeoverError::Refused(why)),
                _ => return Err(TakeoverError::Strange),
            }
        }
    }

    /// This process can accept. When this returns the old one does no more.
    ///
    /// # Errors
    /// When the old one has changed its mind.
    pub async fn take(
        mut self,
        kept: Vec<usize>,
        shared: &Arc<Shared>,
    ) -> Result<(), TakeoverError> {
        let pid = self.facts.pid;
        // Before the first client, as its cancel keys and its writes need it.
        let outgoing = shared.other_process.join(Side::Old, pid);
        let said = self.talk.say(&Word::Ready { kept }, &[]).await;
        said.map_err(TakeoverError::Talk)?;
        match hear(&mut self.talk).await? {
            Word::Yours => {}
            Word::Refused { why } => return Err(TakeoverError::Refused(why)),
            _ => return Err(TakeoverError::Strange),
        }
        tracing::info!(
            pid,
            "taken over; the process before this one ends with its clients"
        );
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            live(self.talk, Side::Old, &shared, outgoing, || {}).await;
            let clocks = shared.topology().clocks();
            shared
                .other_process
                .part(clocks.values().map(|clock| &**clock));
            tracing::info!(pid, "the process before this one has ended");
        });
        Ok(())
    }
}

async fn hear(talk: &mut Talk) -> Result<Word, TakeoverError> {
    let heard = tokio::time::timeout(PATIENCE, talk.hear()).await;
    let late = |_| TakeoverError::Talk(io::ErrorKind::TimedOut.into());
    let word = heard.map_err(late)?.map_err(TakeoverError::Talk)?;
    word.ok_or_else(|| TakeoverError::Talk(io::ErrorKind::UnexpectedEof.into()))
}
