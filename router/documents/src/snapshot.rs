//! What says that several reads of the router's are parts of one statement and are to see the same documents.
//!
//! PostgreSQL reads them in one query. MongoDB has a command for each collection, so they get a number, and what has the
//! same number on one connection is read as of one time. The number is in the name of the portal, which is the router's own.

use std::sync::atomic::{AtomicU64, Ordering};

const PREFIX: &[u8] = b"mothership_reading_";

/// A number that nothing before had.
pub fn next() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The portal of a read with this number.
pub fn portal(number: u64) -> Vec<u8> {
    [PREFIX, number.to_string().as_bytes()].concat()
}

/// The number of a portal; `None` if what it reads belongs to nothing else.
pub fn number(portal: &[u8]) -> Option<u64> {
    let digits = portal.strip_prefix(PREFIX)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
