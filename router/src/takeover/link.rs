//! What is said between the two processes: words over the socket, and what follows from them while both serve.

use super::passing;
use crate::core::{ClientNumber, Mail, Shared};
use crate::other_process::words::{Word, undigits};
use crate::other_process::{Outgoing, Side};
use crate::throttle::CancelTicket;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

/// How often it is looked whether there is something to tell.
const LOOK: Duration = Duration::from_millis(100);

/// One end of the conversation.
#[derive(Debug)]
pub struct Talk {
    stream: UnixStream,
    input: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl Talk {
    /// Over this stream.
    pub fn new(stream: UnixStream) -> Talk {
        Talk {
            stream,
            input: Vec::new(),
            descriptors: VecDeque::new(),
        }
    }

    /// The user at the other end.
    pub fn uid(&self) -> io::Result<u32> {
        Ok(self.stream.peer_cred()?.uid())
    }

    /// Says a word, with descriptors beside it.
    pub async fn say(&self, word: &Word, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let line = word.line();
        let (mut rest, mut along) = (&line[..], descriptors);
        while !rest.is_empty() {
            let send = || passing::send(self.stream.as_fd(), rest, along);
            let sent = self.stream.async_io(Interest::WRITABLE, send).await?;
            rest = &rest[sent..];
            along = &[];
        }
        Ok(())
    }

    /// The next word; none when the other end is gone. Cancel safe.
    pub async fn hear(&mut self) -> io::Result<Option<Word>> {
        loop {
            if let Some(word) = Word::take(&mut self.input).map_err(io::Error::other)? {
                return Ok(Some(word));
            }
            let (mut bytes, mut descriptors) = ([0; 4096], Vec::new());
            let receive = || passing::receive(self.stream.as_fd(), &mut bytes, &mut descriptors);
            let received = self.stream.async_io(Interest::READABLE, receive).await?;
            if received == 0 {
                return Ok(None);
            }
            self.input.extend_from_slice(&bytes[..received]);
            self.descriptors.extend(descriptors);
        }
    }

    /// The next descriptor that came beside a word.
    pub fn descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptors.pop_front()
    }
}

/// Speaks with the other process until it is gone. `closing` is told when it has closed its ports for good.
pub async fn live(
    mut talk: Talk,
    side: Side,
    shared: &Arc<Shared>,
    mut outgoing: mpsc::UnboundedReceiver<Outgoing>,
    mut closing: impl FnMut(),
) {
    let mut ticks = tokio::time::interval(LOOK);
    let mut epoch = shared.schema_epoch.load(Ordering::SeqCst);
    let mut told = None;
    loop {
        let heard = tokio::select! {
            heard = talk.hear() => heard,
            Some((word, ticket)) = outgoing.recv() => {
                if talk.say(&word, &[]).await.is_err() {
                    return;
                }
                drop(ticket);
                shared.other_process.said();
                continue;
            }
            _ = ticks.tick() => {
                let now = shared.schema_epoch.load(Ordering::SeqCst);
                if std::mem::replace(&mut epoch, now) != now {
                    shared.other_process.tell(Word::Schema);
                }
                let count = shared.clients.load(Ordering::Relaxed);
                if side == Side::New && told.replace(count) != Some(count) {
                    shared.other_process.tell(Word::Clients { count });
                }
                continue;
            }
        };
        match heard {
            Ok(Some(Word::Cancel { number, secret })) => {
                if let Some(secret) = undigits(&secret) {
                    deliver(shared, number, secret);
                }
            }
            Ok(Some(Word::Schema)) => {
                shared.code_epoch.fetch_add(1, Ordering::SeqCst);
                let before = shared.schema_epoch.fetch_add(1, Ordering::SeqCst);
                // What it has told is not told back to it; what happened here meanwhile is.
                if before == epoch {
                    epoch += 1;
                }
            }
            Ok(Some(Word::Clients { count })) => shared.other_process.note_clients(count),
            Ok(Some(Word::Closing)) => closing(),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return,
        }
    }
}

/// Cancels what a client of this process does.
fn deliver(shared: &Shared, number: i32, secret: Vec<u8>) {
    let client = ClientNumber::decode(number);
    if client.process != shared.other_process.process {
        return;
    }
    if let Some((ticket, _ended)) = admit(shared) {
        cancel(shared, client, secret, ticket);
    }
}

/// A place for one more cancel request, and what ends with it.
pub fn admit(shared: &Shared) -> Option<(CancelTicket, oneshot::Receiver<()>)> {
    let limits = &shared.topology().config.limits;
    shared
        .cancels
        .admit(limits.cancels.get() + limits.cancel_queue)
}

/// Gives a cancel request to the core that the client is on.
pub fn cancel(shared: &Shared, client: ClientNumber, secret: Vec<u8>, ticket: CancelTicket) {
    if let Some(owner) = shared.mail.get(client.core) {
        // A core that has ended has nobody to cancel.
        let _ = owner.send(Mail::Cancel {
            slot: client.slot,
            secret,
            ticket,
        });
    }
}
