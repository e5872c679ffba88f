//! Everything up to the StartupMessage: encryption is offered, a cancel request is passed on.

use super::Refused;
use crate::core::{ClientNumber, Core};
use crate::takeover::link;
use crate::topology::Topology;
use mothership_pool::wire::{Address, Wire};
use mothership_proto::report::{Report, sqlstate};
use mothership_proto::startup::{Bounds, FirstPacket, MAX_CANCEL_KEY, Startup, StartupError};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

/// What a cancel request has before the secret: its length, its code and the number of the client.
const CANCEL_HEADER: usize = 12;

/// Everything up to the StartupMessage. The handshake is boxed: it is large, and most clients of a sidecar have none.
pub(super) async fn first_packets(
    core: &Core,
    topology: &Topology,
    client: &mut Wire,
) -> Result<Startup, Refused> {
    let bounds = bounds(topology);
    let (mut asked_ssl, mut asked_gss) = (false, false);
    loop {
        let parsed = FirstPacket::parse_within(client.input(), bounds);
        let parsed = parsed.map_err(Refused::Startup)?;
        let Some((packet, length)) = parsed else {
            // The rest may be long in coming, and nobody knows yet who that is.
            client.fit_input();
            if client.fill().await? == 0 {
                return Err(Refused::Gone);
            }
            continue;
        };
        let rest = client.input().len() - length;
        match packet {
            FirstPacket::Startup(startup) => {
                client.consume(length);
                return Ok(startup);
            }
            FirstPacket::Cancel { pid, secret } => {
                deliver_cancel(core, topology, client, pid, secret).await;
                return Err(Refused::Gone);
            }
            // Bytes behind a request for encryption were slipped in (CVE-2021-23214).
            FirstPacket::Ssl | FirstPacket::Gss if rest > 0 => {
                let message = "received unencrypted data after an encryption request";
                return Err(Report::fatal(sqlstate::PROTOCOL_VIOLATION, message).into());
            }
            FirstPacket::Gss if !asked_gss => {
                asked_gss = true;
                client.consume(length);
                client.send(b"N");
            }
            FirstPacket::Ssl if !asked_ssl && client.tls().is_none() => {
                asked_ssl = true;
                client.consume(length);
                match &topology.tls {
                    Some(offer) => {
                        client.send(b"S");
                        Box::pin(client.accept_tls(Arc::clone(&offer.config))).await?;
                    }
                    None => client.send(b"N"),
                }
            }
            FirstPacket::DirectTls if client.tls().is_none() && topology.config.tls.direct => {
                let Some(offer) = &topology.tls else {
                    return Err(Refused::Gone);
                };
                Box::pin(client.accept_direct_tls(Arc::clone(&offer.config))).await?;
                let alpn = client.tls().and_then(|tls| tls.alpn.as_deref());
                if alpn != Some(b"postgresql") {
                    let message = "received direct SSL connection request without ALPN protocol negotiation extension";
                    return Err(Report::fatal(sqlstate::PROTOCOL_VIOLATION, message).into());
                }
            }
            // What was answered once is no request any more, but a version that does not exist.
            FirstPacket::Ssl | FirstPacket::DirectTls => return Err(asked_again(5679)),
            FirstPacket::Gss => return Err(asked_again(5680)),
        }
    }
}

/// The cancel request that a connection begins with, if it does: the number and the secret of a client. No more is read
/// than such a request may have.
pub(super) async fn cancel_only(client: &mut Wire) -> Option<(i32, Vec<u8>)> {
    let bounds = Bounds {
        packet: CANCEL_HEADER + MAX_CANCEL_KEY,
        parameters: 0,
    };
    loop {
        match FirstPacket::parse_within(client.input(), bounds) {
            Ok(Some((FirstPacket::Cancel { pid, secret }, _))) => {
                return Some((pid, secret.to_vec()));
            }
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => return None,
        }
        if client.fill().await.ok()? == 0 {
            return None;
        }
    }
}

fn bounds(topology: &Topology) -> Bounds {
    let limits = &topology.config.limits;
    Bounds {
        packet: limits.startup_packet.bytes(),
        parameters: limits.startup_parameters.get() as usize,
    }
}

/// Passes a cancel request on to whoever has the client. Too many of an address, or of all, are dropped.
pub(super) async fn deliver_cancel(
    core: &Core,
    topology: &Topology,
    client: &Wire,
    pid: i32,
    secret: &[u8],
) {
    let (number, shared) = (ClientNumber::decode(pid), &core.shared);
    if !may_cancel(core, topology.config.limits.cancel_rate, client) {
        return;
    }
    let Some((ticket, ended)) = link::admit(shared) else {
        return;
    };
    match number.process == shared.other_process.process {
        true => link::cancel(shared, number, secret.to_vec(), ticket),
        // It may be for a client of the process before or after this one.
        false => shared.other_process.forward_cancel(pid, secret, ticket),
    }
    // As with PostgreSQL, who has seen this connection end knows that the next request is not meant.
    let limit = topology.config.pool.cancel_timeout;
    let _ = tokio::time::timeout(limit, ended).await;
}

/// Whether its address has not sent too many cancel requests lately.
fn may_cancel(core: &Core, rate: u32, client: &Wire) -> bool {
    let address = match client.peer() {
        Ok(Address::Unix(_)) => return true,
        Ok(Address::Tcp(address)) => address.ip(),
        // Who has reset the connection already is counted with all who do.
        Err(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    core.shared
        .cancel_buckets
        .take(address, rate, Instant::now())
}

/// PostgreSQL's answer to an encryption request that comes a second time, or inside TLS.
fn asked_again(minor: u16) -> Refused {
    Refused::Startup(StartupError::Version { major: 1234, minor })
}
