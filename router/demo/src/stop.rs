//! The wish to stop: Ctrl-C, SIGTERM or SIGHUP, as one thing that can be asked for
//! and waited for.
//!
//! The first ends everything in order. The second ends this process at once; servers
//! and router, which are tied to it, then end by themselves.

use super::error::DemoError;
use std::process::exit;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// As shells say it of a process that was ended by SIGINT.
const EXIT_INTERRUPTED: i32 = 130;

/// Knows whether we shall stop. Clones know the same.
#[derive(Debug, Clone)]
pub(super) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// From now on these signals no longer end the process by themselves.
    pub(super) fn on_signals() -> Result<Stop, DemoError> {
        let doing = "catch signals";
        let runtime = Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(|cause| DemoError::System { doing, cause })?;
        let handlers = {
            let _context = runtime.enter();
            [
                SignalKind::interrupt(),
                SignalKind::terminate(),
                SignalKind::hangup(),
            ]
            .map(signal)
        };
        let [interrupt, terminate, hangup] = handlers;
        let all = interrupt.and_then(|i| Ok((i, terminate?, hangup?)));
        let (mut interrupt, mut terminate, mut hangup) =
            all.map_err(|cause| DemoError::System { doing, cause })?;
        let (sender, receiver) = watch::channel(false);
        let wait = async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                if sender.send_replace(true) {
                    exit(EXIT_INTERRUPTED);
                }
            }
        };
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || runtime.block_on(wait))
            .map_err(|cause| DemoError::System { doing, cause })?;
        Ok(Stop(receiver))
    }

    /// Whether we shall stop.
    pub(super) fn is_asked(&self) -> bool {
        *self.0.borrow()
    }

    /// An error if we shall stop: for use between two steps.
    pub(super) fn check(&self) -> Result<(), DemoError> {
        match self.is_asked() {
            true => Err(DemoError::Stopped),
            false => Ok(()),
        }
    }

    /// Returns when we shall stop. Cancel safe.
    pub(super) async fn asked(&self) {
        // The sender lives as long as the process.
        let _ = self.0.clone().wait_for(|asked| *asked).await;
    }
}
