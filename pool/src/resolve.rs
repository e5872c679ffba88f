//! Addresses of host names, remembered for a while.
//!
//! One memory for all threads: the names are those of the configuration, so it stays
//! small. A name that cannot be resolved any longer keeps the addresses that it had.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
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

fn known_names() -> MutexGuard<'static, HashMap<String, Known>> {
    static KNOWN: LazyLock<Mutex<HashMap<String, Known>>> = LazyLock::new(Mutex::default);
    // Every entry is written whole.
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The addresses of a host, in the order in which they are to be tried.
///
/// # Errors
/// The name never had an address.
pub async fn addresses(host: &str, port: u16, resolving: Resolving) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let known = known_names().get(host).map(|known| {
        let fresh = known.since.elapsed() < resolving.interval;
        (fresh, known.addresses.clone())
    });
    let ips = match known {
        Some((true, ips)) => ips,
        before => match tokio::net::lookup_host((host, port)).await {
            Ok(found) => {
                let found: Vec<_> = found.map(|address| address.ip()).collect();
                match before {
                    // Nobody connects to another server before its prober has seen that it is another one.
                    Some((_, ips)) if has_moved(&ips, &found) => ips,
                    _ => remember(host, found.into_iter(), resolving.most)?,
                }
            }
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

/// What a name means from now on, for all. To be called by whoever watches the server, and knows that it is another one.
pub fn adopt(host: &str, addresses: &[IpAddr]) {
    let known = Known {
        since: Instant::now(),
        addresses: addresses.to_vec(),
    };
    known_names().insert(host.to_owned(), known);
}

/// Whether a name means another server now: none of its addresses is one that it had. A name with several addresses is
/// expected to have them all each time, in any order.
pub fn has_moved(before: &[IpAddr], now: &[IpAddr]) -> bool {
    !before.is_empty() && !now.is_empty() && !now.iter().any(|ip| before.contains(ip))
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
    known_names().insert(host.to_owned(), known);
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

    #[test]
    fn a_name_has_moved_when_it_has_no_address_that_it_had() {
        let ips = |last: &[u8]| -> Vec<IpAddr> {
            last.iter().map(|n| IpAddr::from([10, 0, 0, *n])).collect()
        };
        for (before, now, moved) in [
            (&[][..], &[1][..], false),
            (&[1], &[1], false),
            (&[1], &[2], true),
            (&[1], &[], false),
            (&[1, 2], &[2, 1], false),
            (&[1, 2], &[2, 3], false),
            (&[1, 2], &[3, 4], true),
        ] {
            assert_eq!(
                has_moved(&ips(before), &ips(now)),
                moved,
                "{before:?} {now:?}"
            );
        }
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
