//! Makes a streaming replica of a running server with pg_basebackup.
//!
//! The replica connects to its primary by the unix socket, which needs no password. So its files contain no password.

use super::binaries::Binaries;
use super::error::{ClusterError, Doing};
use super::process::run_tool;
use super::server::{Cluster, Spec};
use std::path::Path;

/// Whether the primary keeps WAL for the replica while it is away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// The primary does not keep WAL for the replica.
    None,
    /// The primary keeps it, in a new replication slot of this name.
    Named(String),
}

impl Cluster {
    /// Copies `primary`, starts the copy as its streaming replica and waits until it accepts reads.
    ///
    /// The copy does not get the settings of the primary. Give those that must not be smaller than the primary's
    /// (`max_connections`, `max_prepared_transactions`).
    pub fn replica_of(
        primary: &Cluster,
        binaries: &Binaries,
        spec: Spec,
        slot: &Slot,
    ) -> Result<Cluster, ClusterError> {
        let mut replica = Cluster::prepare(binaries, spec)?;
        replica.make_data(|replica, data| replica.base_backup(primary, data, slot))?;
        replica.start()?;
        Ok(replica)
    }

    /// Makes a replica of `primary` from a server that was a primary itself or has failed. Ends the server if it runs,
    /// and removes its data. Its port stays.
    pub fn become_replica_of(&mut self, primary: &Cluster) -> Result<(), ClusterError> {
        self.kill9();
        let data = self.data();
        std::fs::remove_dir_all(&data).doing("remove", &data)?;
        self.make_data(|replica, data| replica.base_backup(primary, data, &Slot::None))?;
        self.start()?;
        // If the primary was once a replica, the copied settings name the slot that it used.
        self.follow(primary)
    }

    /// Makes a running replica follow another primary, without a slot.
    pub fn follow(&self, primary: &Cluster) -> Result<(), ClusterError> {
        let host = primary.socket_folder();
        let (host, port, user) = (host.display(), primary.port(), primary.superuser());
        for sql in [
            "ALTER SYSTEM SET primary_slot_name = ''",
            &format!("ALTER SYSTEM SET primary_conninfo = 'host={host} port={port} user={user}'"),
            "SELECT pg_reload_conf()",
        ] {
            self.sql("postgres", sql)?;
        }
        Ok(())
    }

    fn base_backup(&self, primary: &Cluster, data: &Path, slot: &Slot) -> Result<(), ClusterError> {
        let program = self.binaries.program("pg_basebackup");
        let mut backup = self.account.command(&program);
        backup
            .arg("-D")
            .arg(data)
            .arg("-h")
            .arg(primary.socket_folder());
        backup.arg("-p").arg(primary.port().to_string());
        backup.arg("-U").arg(primary.superuser());
        backup.args([
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "--no-sync",
            "--no-password",
        ]);
        if let Slot::Named(name) = slot {
            backup.args(["-C", "-S", name]);
        }
        run_tool("pg_basebackup", backup, &self.tool_log(), self.spec.limit)
    }
}
