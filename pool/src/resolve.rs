//! Addresses of host names, remembered for a while.
//!
//! One memory for each thread: the names are those of the configuration, so it stays
//! small. A name that cannot be resolved any longer keeps the addresses that it had.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// How names become addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolving {
    /// A name is asked for again after so long.
    pub interval: Duration,
    /// Addresses of one name that are used: the first ones.
    pub most: usize,
}

struct Known {
    since: Instant,
    addresses: Vec<IpAddr>,
}

thread_local! {
    static KNOWN: RefCell<HashMap<String, Known>> = RefCell::default();
}

/// The addresses of a host, in the order in which they are to be tried.
///
/// # Errors
/// The name never had an address.
pub async fn addresses(host: &str, port: u16, resolving: Resolving) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let known = KNOWN.with_borrow(|known| {
        let known = known.get(host)?;
        let fresh = known.since.elapsed() < resolving.interval;
        Some((fresh, known.addresses.clone()))
    });
    let ips = match known {
        Some((true, ips)) => ips,
        before => match tokio::net::lookup_host((host, port)).await {
            Ok(found) => remember(host, found.map(|address| address.ip()), resolving.most)?,
            Err(error) => match before {
                Some((_, ips)) => {
                    tracing::warn!(host, error = %error, "a host name cannot be resolved; its last addresses are used");
                    ips
                }
                None => return Err(error),
            },
        },
    };
    let ips = ips.into_iter().take(resolving.most);
    Ok(ips.map(|ip| SocketAddr::new(ip, port)).collect())
}

fn remember(
    host: &str,
    found: impl Iterator<Item = IpAddr>,
    most: usize,
) -> io::Result<Vec<IpAddr>> {
    let addresses: Vec<_> = found.take(most).collect();
    if addresses.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the host name has no address",
        ));
    }
    let known = Known {
        since: Instant::now(),
        addresses: addresses.clone(),
    };
    KNOWN.with_borrow_mut(|all| all.insert(host.to_owned(), known));
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    // R12
    #[tokio::test]
    async fn of_ten_thousand_addresses_the_first_few_are_used_until_the_name_is_asked_again() {
        let many = (0..10_000_u32).map(|n| IpAddr::from((0x0a00_0000 + n).to_be_bytes()));
        let first = remember("many.test", many, 16).unwrap();
        assert_eq!(first.len(), 16);
        for most in [16, 3] {
            let resolving = Resolving {
                interval: HOUR,
                most,
            };
            let used = addresses("many.test", 5432, resolving).await.unwrap();
            assert_eq!(used.len(), most);
            assert_eq!(used[0].to_string(), "10.0.0.0:5432");
        }
    }

    #[tokio::test]
    async fn a_name_that_is_gone_keeps_its_addresses_and_an_unknown_one_has_none() {
        let resolving = Resolving {
            interval: Duration::ZERO,
            most: 16,
        };
        remember(
            "gone.invalid",
            std::iter::once(IpAddr::from([10, 0, 0, 1])),
            16,
        )
        .unwrap();
        let kept = addresses("gone.invalid", 1, resolving).await.unwrap();
        assert_eq!(kept[0].to_string(), "10.0.0.1:1");
        assert!(addresses("never.invalid", 1, resolving).await.is_err());
    }

    #[tokio::test]
    async fn an_address_needs_no_resolver_and_localhost_is_found() {
        let resolving = Resolving {
            interval: HOUR,
            most: 1,
        };
        for host in ["127.0.0.1", "::1", "localhost"] {
            let found = addresses(host, 5432, resolving).await.unwrap();
            assert_eq!(found.len(), 1);
            assert!(found[0].ip().is_loopback(), "{host}: {found:?}");
        }
    }
}
