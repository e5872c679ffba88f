//! The running process's side of a takeover: it accepts connections at `listen.takeover` and passes its listening sockets
//! to the new process.

use super::layout::layout;
use super::link::{Talk, live};
use super::passing;
use super::successor;
use crate::core::Shared;
use crate::other_process::Side;
use crate::other_process::words::{Facts, Use, VERSION, Word};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

/// Who knocks says what it wants for so long.
const FIRST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// The new process starts for so long before it is given up.
pub const PREPARES: Duration = Duration::from_secs(120);

/// What is asked of whoever supervises the process.
pub enum Event {
    /// Copies of all ports, or why there are none.
    Offer(oneshot::Sender<Result<Vec<(Use, OwnedFd)>, String>>),
    /// To take nobody new; the ports at these places are another's.
    HandOver {
        /// Places among what was offered.
        kept: Vec<usize>,
        /// When that is so.
        done: oneshot::Sender<()>,
    },
    /// Whoever had taken over is gone.
    NewProcessGone,
    /// Whoever had taken over ends in good order.
    NewProcessCloses,
}

/// Accepts connections on `listener` until it is dropped.
pub async fn listen(
    listener: UnixListener,
    shared: Arc<Shared>,
    events: mpsc::UnboundedSender<Event>,
    config: Arc<Path>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (shared, events) = (Arc::clone(&shared), events.clone());
                let config = Arc::clone(&config);
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &shared, &events, &config).await {
                        tracing::warn!(error = %error, "takeover failed");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(error = %error, "cannot accept a connection on listen.takeover");
                tokio::time::sleep(shared.topology().config.limits.accept_pause).await;
            }
        }
    }
}

/// Whether to trust the process at the other end: it runs as root, or as the user of this process.
pub fn is_allowed(uid: u32) -> bool {
    // SAFETY: geteuid cannot fail and touches no memory.
    uid == 0 || uid == unsafe { libc::geteuid() }
}

async fn converse(
    stream: UnixStream,
    shared: &Arc<Shared>,
    events: &mpsc::UnboundedSender<Event>,
    config: &Path,
) -> io::Result<()> {
    let mut talk = Talk::new(stream);
    let uid = talk.uid()?;
    if !is_allowed(uid) {
        let why =
            "only root and the user of the running process may use listen.takeover".to_owned();
        tracing::warn!(uid, why);
        return talk.say(&Word::Refused { why }, &[]).await;
    }
    let first = tokio::time::timeout(FIRST_MESSAGE_TIMEOUT, talk.hear()).await;
    match first.map_err(io::Error::other)?? {
        Some(Word::TakeOver { version, pid }) => {
            hand_over(talk, version, pid, shared, events).await
        }
        Some(Word::Upgrade) => {
            let answer = match successor::start(shared, config).await {
                Ok(pid) => Word::Upgraded {
                    pid,
                    clients: shared.clients.load(std::sync::atomic::Ordering::Relaxed),
                },
                Err(why) => Word::Refused { why },
            };
            talk.say(&answer, &[]).await
        }
        // Somebody looked whether anybody is there.
        None => Ok(()),
        Some(_) => Err(io::Error::other("nothing was wanted that is known here")),
    }
}

async fn hand_over(
    mut talk: Talk,
    version: u32,
    pid: u32,
    shared: &Arc<Shared>,
    events: &mpsc::UnboundedSender<Event>,
) -> io::Result<()> {
    let refuse = async |talk: &Talk, why: String| {
        tracing::warn!(pid, why, "a takeover is refused");
        talk.say(&Word::Refused { why }, &[]).await
    };
    if version != VERSION {
        let why = format!(
            "the new process uses takeover protocol version {version}, this process uses version {VERSION}"
        );
        return refuse(&talk, why).await;
    }
    let Some(_busy) = shared.other_process.begin() else {
        return refuse(&talk, "another takeover is under way".to_owned()).await;
    };
    let offered = match ask(events, Event::Offer).await {
        Some(Ok(offered)) => offered,
        Some(Err(why)) => return refuse(&talk, why).await,
        None => return refuse(&talk, "this process is ending".to_owned()).await,
    };
    tracing::info!(pid, "a new process prepares to take over");
    for some in offered.chunks(passing::MAX_DESCRIPTORS) {
        let uses = some.iter().map(|(used, _)| *used).collect();
        let descriptors: Vec<_> = some.iter().map(|(_, socket)| socket.as_fd()).collect();
        talk.say(&Word::Sockets { uses }, &descriptors).await?;
    }
    drop(offered);
    let disabled = shared.gates.read().disabled.iter().cloned().collect();
    let facts = Facts {
        pid: std::process::id(),
        process: shared.other_process.process,
        disabled,
        layout: layout(shared.topology().config.entries()),
    };
    talk.say(&Word::Facts(facts), &[]).await?;
    let kept = match tokio::time::timeout(PREPARES, talk.hear()).await {
        Ok(Ok(Some(Word::Ready { kept }))) => kept,
        Ok(_) => {
            return Err(io::Error::other(
                "the new process ended before it was ready; this one goes on",
            ));
        }
        Err(_) => {
            let why = format!("it was not ready within {PREPARES:?}");
            return refuse(&talk, why).await;
        }
    };
    let outgoing = shared.other_process.join(Side::New, pid);
    let handed = ask(events, |done| Event::HandOver { kept, done }).await;
    if handed.is_some() && talk.say(&Word::Yours, &[]).await.is_ok() {
        tracing::info!(
            pid,
            "a new process has taken over; clients that are here stay until they leave"
        );
        let _ = shared.other_process.new_process.send_replace(Some(pid));
        let closing = || drop(events.send(Event::NewProcessCloses));
        live(talk, Side::New, shared, outgoing, closing).await;
        let _ = shared.other_process.new_process.send_replace(None);
    }
    let clocks = shared.topology().clocks();
    shared
        .other_process
        .part(clocks.values().map(|clock| &**clock));
    let _ = events.send(Event::NewProcessGone);
    Ok(())
}

/// Asks the supervisor. None if the process ends.
async fn ask<T>(
    events: &mpsc::UnboundedSender<Event>,
    event: impl FnOnce(oneshot::Sender<T>) -> Event,
) -> Option<T> {
    let (answer, answered) = oneshot::channel();
    events.send(event(answer)).ok()?;
    answered.await.ok()
}
