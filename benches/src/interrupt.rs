//! The wish to stop: Ctrl-C or SIGTERM sets a flag, and whoever waits looks at it.
//!
//! What was started is then ended by going back through its owners. A second signal ends this
//! process at once; its children are tied to it and end as well, only a folder stays behind.

use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);

/// From now on the first such signal no longer ends the process.
pub fn watch() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler only touches an atomic, and calls what is async-signal-safe.
        unsafe { libc::signal(signal, note as *const () as libc::sighandler_t) };
    }
}

/// Whether we shall stop.
pub fn is_asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// An error if we shall stop: for use between two steps.
pub fn check() -> Result<(), String> {
    match is_asked() {
        true => Err("stopped by a signal".into()),
        false => Ok(()),
    }
}

extern "C" fn note(_: libc::c_int) {
    /// As shells say it of a process that was ended by SIGINT.
    const INTERRUPTED: libc::c_int = 130;
    if ASKED.swap(true, Ordering::Relaxed) {
        // SAFETY: _exit is async-signal-safe.
        unsafe { libc::_exit(INTERRUPTED) };
    }
}
