//! Checks the servers of each shard: at least one, at most one primary, no address twice, TLS and Patroni settings that
//! belong together.

use std::collections::BTreeSet;

use crate::config::names::ServerAddress;
use crate::config::problem::Findings;
use crate::config::shards::{ChannelBinding, Role, Server, ServerTls, WrittenShard};

pub(super) fn check(shards: &[WrittenShard], findings: &mut Findings) {
    for shard in shards {
        let name = &shard.name;
        if shard.server.is_empty() {
            let what = format!("shard `{}` has no server", name.value);
            findings.add(name.offset, what, "add a [[shard.server]] with its address");
        }
        primaries(shard, findings);
        addresses(shard, findings);
        shard.server.iter().for_each(|server| tls(server, findings));
        patroni(shard, findings);
    }
}

fn patroni(shard: &WrittenShard, findings: &mut Findings) {
    let name = &shard.name;
    if shard.patroni_user.is_some() != shard.patroni_password.is_some() {
        let what = format!(
            "shard `{}` has one of `patroni_user` and `patroni_password`",
            name.value
        );
        findings.add(name.offset, what, "give both or none");
    }
    let tcp = |server: &Server| matches!(server.address.value, ServerAddress::Tcp { .. });
    if !shard.patroni.is_empty() && !shard.server.iter().all(tcp) {
        let what = format!("shard `{}` has `patroni` and a unix socket", name.value);
        let fix = "give the host and port that Patroni names (`postgresql.connect_address`)";
        findings.add(name.offset, what, fix);
    }
}

fn primaries(shard: &WrittenShard, findings: &mut Findings) {
    let mut primaries = shard
        .server
        .iter()
        .filter(|server| server.role.value == Role::Primary);
    let Some(first) = primaries.next() else {
        let replicas = shard
            .server
            .iter()
            .filter(|server| server.role.value == Role::Replica)
            .count();
        if replicas > 0 && replicas == shard.server.len() {
            let what = format!("shard `{}` has replicas only", shard.name.value);
            findings.add(
                shard.name.offset,
                what,
                "add its primary, or let one have the role \"auto\"",
            );
        }
        return;
    };
    for second in primaries {
        let what = format!(
            "shard `{}` has a second primary, {}",
            shard.name.value, second.address.value
        );
        let fix = format!(
            "{} is the primary already; use \"replica\" or \"auto\"",
            first.address.value
        );
        findings.add(second.role.offset, what, fix);
    }
}

/// The same server twice in one shard would get twice its part of the load. In
/// different shards it is right: shards may be databases of one server.
fn addresses(shard: &WrittenShard, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for server in &shard.server {
        if !seen.insert(&server.address.value) {
            let what = format!(
                "shard `{}` has the server {} twice",
                shard.name.value, server.address.value
            );
            findings.add(
                server.address.offset,
                what,
                "use `weight` to give it a larger part of the reads",
            );
        }
    }
}

fn tls(server: &Server, findings: &mut Findings) {
    let at = server.address.offset;
    let address = &server.address.value;
    if server.tls_certificate.is_some() != server.tls_key.is_some() {
        findings.add(
            at,
            format!("server {address} has one of `tls_certificate` and `tls_key`"),
            "give both or none",
        );
    }
    let certain = !matches!(server.tls, ServerTls::Disable | ServerTls::Prefer);
    if server.tls_direct && !certain {
        let what = format!(
            "server {address} has `tls_direct` and `tls` = \"{}\"",
            server.tls
        );
        findings.add(at, what, "set `tls` to \"require\" or more");
    }
    if server.channel_binding == ChannelBinding::Require && !certain {
        let what = format!(
            "server {address} requires channel binding and has `tls` = \"{}\"",
            server.tls
        );
        findings.add(at, what, "set `tls` to \"require\" or more");
    }
    if certain && matches!(address, ServerAddress::Unix(_)) {
        let what = format!(
            "server {address} is a unix socket and has `tls` = \"{}\"",
            server.tls
        );
        findings.add(
            at,
            what,
            "there is no TLS on unix sockets; set it to \"disable\"",
        );
    }
}
