//! Checks settings that depend on each other: a minimum above its maximum, nothing to listen on, one port for two
//! purposes, TLS without its files. Before that it lowers the defaults that do not fit a value in the file.

use std::num::NonZeroU32;

use crate::config::listen::ClientTls;
use crate::config::problem::Findings;
use crate::config::value::At;
use crate::config::written::Written;

use super::Places;

/// Lowers defaults that are above a value in the file: `pool.max = 5` alone is allowed, although `pool.min` is 10 by
/// default.
pub(super) fn fit_defaults(written: &mut Written, places: &Places) {
    let given = |path: &str| places.contains_key(path);
    if !given("pool.min") {
        written.pool.min = written.pool.min.min(written.pool.max.get());
    }
    let limits = &mut written.limits;
    if !given("limits.statement") {
        limits.statement = limits.statement.min(limits.client_message);
    }
    if !given("limits.parsed_statement") {
        limits.parsed_statement = limits.parsed_statement.min(limits.statement);
    }
}

pub(super) fn check(written: &Written, places: &Places, findings: &mut Findings) {
    order(written, places, findings);
    pools(written, findings);
    listen(written, places, findings);
    tls(written, places, findings);
}

/// The offset in the file of the first of these settings that it has; 0 if it has none of them.
fn place(places: &Places, paths: &[&str]) -> usize {
    paths
        .iter()
        .find_map(|path| places.get(*path))
        .copied()
        .unwrap_or(0)
}

fn order(written: &Written, places: &Places, findings: &mut Findings) {
    let (pool, limits) = (&written.pool, &written.limits);
    let mut ordered = |least: &str, most: &str, right: bool| {
        if !right {
            let fix = format!("make `{most}` at least as large");
            findings.add(
                place(places, &[least, most]),
                format!("`{least}` is more than `{most}`"),
                fix,
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
        limits.statement <= limits.client_message,
    );
    ordered(
        "limits.parsed_statement",
        "limits.statement",
        limits.parsed_statement <= limits.statement,
    );
}

fn pools(written: &Written, findings: &mut Findings) {
    let mut fits = |what: String, offset: usize, min: Option<u32>, max: Option<NonZeroU32>| {
        let max = max.unwrap_or(written.pool.max);
        if min.is_some_and(|min| min > max.get()) {
            let what = format!("the `pool_min` of {what} is more than its pool's maximum of {max}");
            findings.add(offset, what, "raise `pool_max`");
        }
    };
    for user in &written.user {
        let At {
            value: name,
            offset,
        } = &user.name;
        fits(
            format!("user `{name}`"),
            *offset,
            user.pool_min,
            user.pool_max,
        );
    }
    for database in &written.database {
        let At {
            value: name,
            offset,
        } = &database.name;
        fits(
            format!("database `{name}`"),
            *offset,
            database.pool_min,
            database.pool_max,
        );
    }
}

fn listen(written: &Written, places: &Places, findings: &mut Findings) {
    let (listen, metrics) = (&written.listen, &written.metrics);
    if listen.address.is_empty() && listen.unix_socket.is_none() {
        let fix = "give `listen.address` or `listen.unix_socket`";
        findings.add(
            place(places, &["listen.address"]),
            "there is nothing to listen on",
            fix,
        );
    }
    let same_port = metrics.port == Some(listen.port);
    let any = metrics.address.is_unspecified();
    if same_port
        && listen
            .address
            .iter()
            .any(|one| any || one.is_unspecified() || *one == metrics.address)
    {
        let at = place(places, &["metrics.port"]);
        findings.add(
            at,
            "`metrics.port` is also `listen.port`",
            "give one of them another port",
        );
    }
}

fn tls(written: &Written, places: &Places, findings: &mut Findings) {
    let tls = &written.tls;
    let verified = matches!(tls.mode, ClientTls::VerifyCa | ClientTls::VerifyFull);
    let needed = [
        (
            "certificate",
            tls.certificate.is_some(),
            tls.mode != ClientTls::Disable,
        ),
        ("key", tls.key.is_some(), tls.mode != ClientTls::Disable),
        ("client_ca", tls.client_ca.is_some(), verified),
    ];
    for (name, _, _) in needed.iter().filter(|(_, given, needed)| *needed && !given) {
        let what = format!("`tls.mode` is \"{}\" and `tls.{name}` is missing", tls.mode);
        findings.add(
            place(places, &["tls.mode"]),
            what,
            "give the path of a PEM file",
        );
    }
}
