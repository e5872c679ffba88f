//! Every row: the fault, and how it is shown or why it is not.

use crate::protocol::{SHARED, SHORT_LOGIN};
use crate::servers::{OTHER_POOL, SHORT_CATALOG, SHORT_DRAIN};
use crate::standbys::{self, REPLICATED};
use crate::takeover::TAKEOVER;
use crate::world::{PLAIN, Setup, World};
use crate::{
    apart, clients, commits, corrupt, crowd, disk, encrypted, lost, moved, network, proofs,
    protocol, queue, random, reloads, scarce, servers, takeover,
};
use mothership_tests::proof::Verdict;

/// One row of the table.
#[derive(Debug)]
pub struct Row {
    /// Its number.
    pub number: u32,
    /// What goes wrong.
    pub fault: &'static str,
    /// How it is shown.
    pub show: Show,
}

/// What is done for a row.
#[derive(Debug)]
pub enum Show {
    /// This is played, with this configuration.
    By(Setup, fn(&mut World<'_>, &mut Verdict)),
    /// Nothing, and why.
    Not(&'static str),
}

const fn row(number: u32, fault: &'static str, act: fn(&mut World<'_>, &mut Verdict)) -> Row {
    with(number, fault, PLAIN, act)
}

const fn with(
    number: u32,
    fault: &'static str,
    setup: Setup,
    act: fn(&mut World<'_>, &mut Verdict),
) -> Row {
    let show = Show::By(setup, act);
    Row {
        number,
        fault,
        show,
    }
}

const fn not(number: u32, fault: &'static str, why: &'static str) -> Row {
    let show = Show::Not(why);
    Row {
        number,
        fault,
        show,
    }
}

/// All of them.
#[rustfmt::skip] // One row, one line.
pub const ROWS: &[Row] = &[
    row(1, "server RST while idle in the pool", lost::idle),
    row(2, "server RST in a read before any row", lost::read_before_rows),
    row(3, "server RST in a read after some rows", lost::read_after_rows),
    row(4, "server RST in a transaction", lost::in_transaction),
    row(5, "server RST after COMMIT was sent", lost::at_commit),
    row(6, "server FIN in place of RST", lost::by_fin),
    row(7, "silent partition between router and server", network::silent),
    row(8, "one-way partition, nothing from the server", network::one_way),
    with(9, "silent partition between client and router", apart::KEEPALIVE, apart::silent),
    row(10, "client RST in a query", clients::in_query),
    row(11, "client RST in a transaction", clients::in_transaction),
    row(12, "client RST in COPY FROM STDIN", clients::in_copy),
    row(13, "client that does not read a big result", clients::does_not_read),
    row(14, "client that writes byte by byte", network::client_byte_by_byte),
    row(15, "server that answers byte by byte", network::server_byte_by_byte),
    row(16, "latency of 100 ms with jitter", network::latency),
    row(17, "rate of 1 Mbit/s", network::narrow),
    with(18, "10 % packet loss", apart::LOSSY, apart::lossy),
    with(19, "bytes changed between server and router", corrupt::SETUP, corrupt::types_and_lengths),
    row(20, "backend killed with SIGKILL", servers::backend_killed),
    with(21, "postmaster stopped with SIGSTOP", OTHER_POOL, servers::postmaster_stopped),
    with(22, "one backend stopped with SIGSTOP", OTHER_POOL, servers::backend_stopped),
    with(23, "primary killed, standby promoted", REPLICATED, standbys::primary_killed),
    with(24, "planned switchover", REPLICATED, standbys::switchover),
    with(25, "old primary comes back writable", REPLICATED, standbys::old_primary_returns),
    with(26, "standby killed", REPLICATED, standbys::standby_killed),
    with(27, "standby lags 30 s", REPLICATED, standbys::standby_lags),
    with(28, "conflict with recovery on a standby", standbys::READ, standbys::conflict),
    row(29, "server has too many connections", servers::too_many_connections),
    row(30, "server is starting up", servers::starting_up),
    row(31, "disk of a server is full", disk::full),
    row(32, "session ended by an administrator", lost::terminated),
    row(33, "timeouts of the server", servers::server_timeouts),
    with(34, "cancels at any moment", SHARED, protocol::cancels),
    row(35, "1,000 clients connect at once", crowd::at_once),
    with(36, "pool exhausted", queue::SETUP, queue::exhausted),
    with(37, "half a startup packet", SHORT_LOGIN, protocol::half_a_startup),
    row(38, "wrong startup packets", protocol::wrong_startups),
    row(39, "random messages after login", random::streams),
    row(40, "message that claims 1 GB", protocol::long_claims),
    row(41, "65,535 parameters, many names and portals", protocol::very_many),
    with(42, "one statement name, two texts, two clients", SHARED, protocol::same_name),
    with(43, "DDL under prepared statements", SHARED, protocol::definitions_change),
    with(44, "DEALLOCATE and DISCARD ALL of one client", SHARED, protocol::deallocates),
    with(45, "session state of one client", SHARED, protocol::session_state),
    with(46, "one shard down", SHORT_CATALOG, servers::shard_down),
    row(47, "shard dies between PREPARE and COMMIT PREPARED", commits::shard_dies),
    row(48, "router dies between PREPARE and COMMIT PREPARED", commits::router_dies),
    row(49, "COPY over shards, one of which is lost", commits::copy_loses_a_shard),
    not(50, "resharding with a fault in each step", "comes with resharding"),
    with(51, "SIGTERM under load", SHORT_DRAIN, servers::terminated),
    with(52, "takeover by a new binary", TAKEOVER, takeover::taken_over),
    with(53, "reload with a bad file, fewer servers, other passwords", REPLICATED, reloads::reloads),
    row(54, "TLS: expired, wrong authority, EOF, downgrade", encrypted::tls),
    row(55, "SCRAM: wrong proof, replay, long messages", proofs::lies),
    row(56, "no descriptors left", scarce::descriptors),
    with(57, "memory limit", scarce::MEMORY, scarce::memory),
    row(58, "router without CPU for 5 s", servers::router_stopped),
    with(59, "clock jumps", moved::CLOCK, moved::clock_jumps),
    with(60, "address of a server changes", moved::NAMES, moved::address_changes),
    with(61, "roles that flap", REPLICATED, standbys::flapping),
    row(62, "pipeline cut at one of its statements", lost::pipeline),
];
