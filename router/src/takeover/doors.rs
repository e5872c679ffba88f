//! Accepting on the ports: begun, stopped, and begun again.

use super::old_process::{self, Event};
use super::ports::Ports;
use crate::core::{Mail, Shared};
use crate::exporter::http::Http;
use crate::other_process::words::Use;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The ports, and who accepts on them.
pub struct Doors {
    ports: Ports,
    shared: Arc<Shared>,
    /// To whoever supervises the process.
    events: mpsc::UnboundedSender<Event>,
    /// The configuration file, for a successor.
    config: Arc<Path>,
    accepting: Vec<(Use, JoinHandle<()>)>,
}

impl Doors {
    /// Nobody accepts yet.
    pub fn new(
        ports: Ports,
        shared: &Arc<Shared>,
        events: mpsc::UnboundedSender<Event>,
        config: &Path,
    ) -> Doors {
        Doors {
            ports,
            shared: Arc::clone(shared),
            events,
            config: config.into(),
            accepting: Vec::new(),
        }
    }

    /// Begins to accept on all ports. Cores stop by themselves when the process' life says so.
    pub fn open(&mut self) -> io::Result<()> {
        self.stop();
        self.ports.answer_for();
        for socket in self.ports.of(Use::Metrics) {
            let http = Http::new(socket.try_clone()?.into());
            let serving = tokio::spawn(http.serve(Arc::clone(&self.shared)));
            self.accepting.push((Use::Metrics, serving));
        }
        let cores = &self.shared.mail;
        for (at, socket) in self.ports.of(Use::Clients).enumerate() {
            // A core that has ended takes nobody.
            let _ = cores[at % cores.len()].send(Mail::Listen(socket.try_clone()?.into()));
        }
        for socket in self.ports.of(Use::Unix) {
            let listener = UnixListener::from_std(socket.try_clone()?.into())?;
            let dealing = tokio::spawn(deal(listener, Arc::clone(&self.shared)));
            self.accepting.push((Use::Unix, dealing));
        }
        for socket in self.ports.of(Use::Takeover) {
            let listener = UnixListener::from_std(socket.try_clone()?.into())?;
            let shared = Arc::clone(&self.shared);
            let (events, config) = (self.events.clone(), Arc::clone(&self.config));
            let listening = tokio::spawn(old_process::listen(listener, shared, events, config));
            self.accepting.push((Use::Takeover, listening));
        }
        Ok(())
    }

    /// Copies of all ports, for another process.
    pub fn copies(&self) -> io::Result<Vec<(Use, OwnedFd)>> {
        self.ports.copies()
    }

    /// The places of the ports that were taken over.
    pub fn kept(&self) -> Vec<usize> {
        self.ports.kept()
    }

    /// Another process accepts from now on. What it has no use for is closed.
    pub fn hand_over(&mut self, kept: &[usize]) {
        self.stop();
        self.ports.hand_over(kept);
    }

    /// Nobody new comes in but administrators and scrapers.
    pub fn close(&mut self) {
        const CLOSED: [Use; 2] = [Use::Clients, Use::Takeover];
        self.accepting.retain(|(used, task)| {
            let is_open = !CLOSED.contains(used);
            if !is_open {
                task.abort();
            }
            is_open
        });
        self.ports.close(&CLOSED);
    }

    /// Nobody comes in any more, here or elsewhere.
    pub fn give_up(&mut self) {
        self.stop();
        self.ports = Ports::default();
    }

    /// True if there is nothing to accept on.
    pub fn are_gone(&self) -> bool {
        self.ports.are_closed()
    }

    fn stop(&mut self) {
        for (_, task) in self.accepting.drain(..) {
            task.abort();
        }
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Accepts clients of the unix socket and deals them out to the cores.
async fn deal(listener: UnixListener, shared: Arc<Shared>) {
    let mut next = 0;
    loop {
        let accepted = listener.accept().await;
        match accepted.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => {
                let mut client = Mail::Client(stream);
                for _ in 0..shared.mail.len() {
                    next = (next + 1) % shared.mail.len();
                    // A core that has ended takes nobody; another may.
                    match shared.mail[next].send(client) {
                        Ok(()) => break,
                        Err(refused) => client = refused.0,
                    }
                }
            }
            Err(error) => {
                tracing::warn!(error = %error, "a client could not be accepted");
                tokio::time::sleep(shared.topology().config.limits.accept_pause).await;
            }
        }
    }
}
