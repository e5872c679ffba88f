//! Gives the reads of one statement a common number, so that MongoDB answers all of them from one snapshot.
//!
//! PostgreSQL reads several tables in one query. MongoDB needs one command for each collection. So the router gives
//! these reads a number: reads with the same number on one connection are read as of one time. The number is in the
//! name of the portal, which the router chooses itself.

use std::sync::atomic::{AtomicU64, Ordering};

const PREFIX: &[u8] = b"mothership_reading_";

/// A number that no earlier call has returned.
pub fn next() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The name of the portal of a read with this number.
pub fn portal(number: u64) -> Vec<u8> {
    [PREFIX, number.to_string().as_bytes()].concat()
}

/// The number in the name of a portal; `None` if the read shares its snapshot with no other read.
pub fn number(portal: &[u8]) -> Option<u64> {
    let digits = portal.strip_prefix(PREFIX)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
