//! Free TCP ports on 127.0.0.1.
//!
//! Ports are taken from below the kernel's range for outgoing connections: one
//! from inside it (as binding to port 0 gives) can be lost to any client's own
//! end while a server restarts. A port is tried by binding it and is given away
//! once per process. Between the trial and the server's own bind another
//! process may take it: a small race, for which `server.rs` tries another port.

use super::error::ClusterError;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Below this are ports that well-known services use.
const FIRST: u16 = 20_000;

/// Where the kernel's own range begins if it does not say.
const KERNEL_FIRST: u16 = 32_768;

/// A port that nobody listens on, never given twice by one process.
pub fn free_port() -> Result<u16, ClusterError> {
    static GIVEN: OnceLock<Mutex<HashSet<u16>>> = OnceLock::new();
    let given = GIVEN.get_or_init(Mutex::default);
    // A set of numbers is whole after a panic in another thread.
    let mut given = given.lock().unwrap_or_else(PoisonError::into_inner);
    let last = kernel_first().max(FIRST + 1) - 1;
    let count = u64::from(last - FIRST) + 1;
    // A random start keeps processes that start together apart.
    let start = RandomState::new().hash_one(std::process::id());
    (0..count)
        .filter_map(|step| u16::try_from(start.wrapping_add(step) % count).ok())
        .map(|offset| FIRST + offset)
        .find(|port| is_free(*port) && given.insert(*port))
        .ok_or(ClusterError::NoPort { first: FIRST, last })
}

/// The same bind that PostgreSQL does: std sets SO_REUSEADDR as it does.
fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn kernel_first() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let first = range.unwrap_or_default();
    first
        .split_whitespace()
        .next()
        .and_then(|port| port.parse().ok())
        .unwrap_or(KERNEL_FIRST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let ports: HashSet<_> = (0..50).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 50);
    }

    #[test]
    fn a_port_in_use_is_not_given() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(!is_free(listener.local_addr().unwrap().port()));
    }
}
