//! Finds PostgreSQL's server programs.
//!
//! In this order: `PG_BIN`, what `pg_config` says, the folders that Debian and
//! Red Hat use (newest version first), PATH. A folder counts only if it has both
//! `initdb` and `postgres`: `pg_config` also comes with the client library alone.

use super::error::ClusterError;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder with `postgres`, `initdb`, `pg_basebackup`, `pg_ctl` and `psql`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    folder: PathBuf,
}

impl Binaries {
    /// Searches this machine.
    pub fn find() -> Result<Binaries, ClusterError> {
        if let Some(folder) = std::env::var_os("PG_BIN").filter(|v| !v.is_empty()) {
            let folder = PathBuf::from(folder);
            return match complete(&folder) {
                true => Ok(Binaries { folder }),
                false => Err(ClusterError::WrongPgBin { folder }),
            };
        }
        let candidates = pg_config_bindir()
            .into_iter()
            .chain(newest_first(versions("/usr/lib/postgresql", "")))
            .chain(newest_first(versions("/usr", "pgsql-")))
            .chain(path_folders());
        candidates
            .into_iter()
            .find(|folder| complete(folder))
            .map(|folder| Binaries { folder })
            .ok_or(ClusterError::NotInstalled)
    }

    /// The path of one program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The folder that holds the programs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Whether a server can be made and started with what is in `folder`.
fn complete(folder: &Path) -> bool {
    ["initdb", "postgres"]
        .iter()
        .all(|program| folder.join(program).is_file())
}

fn pg_config_bindir() -> Option<PathBuf> {
    let out = Command::new("pg_config").arg("--bindir").output().ok()?;
    let folder = String::from_utf8(out.stdout).ok()?;
    out.status
        .success()
        .then(|| PathBuf::from(folder.trim_end()))
}

/// Folders `root/PREFIX<version>/bin` with their versions.
fn versions(root: &str, prefix: &str) -> Vec<(u32, PathBuf)> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = name.strip_prefix(prefix)?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect()
}

/// Versions are compared as numbers: 9 is older than 15.
fn newest_first(mut found: Vec<(u32, PathBuf)>) -> impl Iterator<Item = PathBuf> {
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, folder)| folder)
}

fn path_folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_comes_first_by_number() {
        let found = [9, 15, 16, 10].map(|v| (v, PathBuf::from(v.to_string())));
        let order: Vec<_> = newest_first(found.to_vec()).collect();
        assert_eq!(order, ["16", "15", "10", "9"].map(PathBuf::from));
    }

    #[test]
    fn a_folder_without_initdb_does_not_count() {
        assert!(!complete(Path::new("/usr/include")));
    }
}
