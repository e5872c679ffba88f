//! Settings of one section that contradict each other.

use crate::config::listen::{ClientTls, Tls};
use crate::config::problem::Findings;
use crate::config::written::Written;

pub(super) fn check(written: &Written, findings: &mut Findings) {
    let pool = &written.pool;
    let mut ordered = |least: &str, most: &str, right: bool| {
        if !right {
            findings.add(
                0,
                format!("`{least}` is more than `{most}`"),
                format!("make `{most}` at least as large"),
            );
        }
    };
    ordered("pool.min", "pool.max", pool.min <= pool.max.get());
    ordered(
        "pool.retry_pause",
        "pool.retry_pause_max",
        pool.retry_pause <= pool.retry_pause_max,
    );
    ordered(
        "limits.statement",
        "limits.client_message",
        written.limits.statement <= written.limits.client_message,
    );
    ordered(
        "limits.parsed_statement",
        "limits.statement",
        written.limits.parsed_statement <= written.limits.statement,
    );
    for user in &written.user {
        let (min, max) = (
            user.pool_min.unwrap_or(0),
            user.pool_max.unwrap_or(pool.max),
        );
        if min > max.get() {
            let what = format!(
                "user `{}` keeps {min} connections of a pool of {max}",
                user.name.value
            );
            findings.add(
                user.name.offset,
                what,
                "make `pool_max` at least as large as `pool_min`",
            );
        }
    }
    for database in &written.database {
        let (min, max) = (
            database.pool_min.unwrap_or(0),
            database.pool_max.unwrap_or(pool.max),
        );
        if min > max.get() {
            let what = format!(
                "database `{}` keeps {min} connections of a pool of {max}",
                database.name.value
            );
            findings.add(
                database.name.offset,
                what,
                "make `pool_max` at least as large as `pool_min`",
            );
        }
    }
    listen(written, findings);
    tls(&written.tls, findings);
}

fn listen(written: &Written, findings: &mut Findings) {
    let listen = &written.listen;
    if listen.address.is_empty() && listen.unix_socket.is_none() {
        findings.add(
            0,
            "there is nothing to listen on",
            "give `listen.address` or `listen.unix_socket`",
        );
    }
    let metrics = written.metrics.port.is_some_and(|port| port == listen.port);
    if metrics
        && listen
            .address
            .iter()
            .any(|address| address.is_unspecified() || *address == written.metrics.address)
    {
        findings.add(
            0,
            "`metrics.port` is also `listen.port`",
            "give one of them another port",
        );
    }
}

fn tls(tls: &Tls, findings: &mut Findings) {
    if tls.mode == ClientTls::Disable {
        return;
    }
    let mut needed = |name: &str, given: bool| {
        if !given {
            let what = format!("`tls.mode` is \"{}\" and `tls.{name}` is missing", tls.mode);
            findings.add(0, what, "give the path of a PEM file");
        }
    };
    needed("certificate", tls.certificate.is_some());
    needed("key", tls.key.is_some());
    if matches!(tls.mode, ClientTls::VerifyCa | ClientTls::VerifyFull) {
        needed("client_ca", tls.client_ca.is_some());
    }
}
