//! The state folder: where it is, what state it is in, how it is removed.
//!
//! ```text
//! mothership-demo.lock   whose folder this is; see lock.rs
//! shop                   what the shop was made from; written last, so without it all else is half-made
//! events                 by which mongod the events were made; written last, so without it docs is half-made
//! s1/primary, s1/replica, s2/…   data folders, sockets, logs
//! docs/m1, docs/m2, docs/m3      the same of the replica set
//! router/                its configuration, the control role's password, its log
//! demo.log               of a demo in the background
//! ```
//!
//! PostgreSQL refuses root, so as root another account has to pass through every
//! folder above its data. Where HOME is closed to it, /var/lib takes its place.

use super::error::{DemoError, Doing};
use super::lock;
use super::options::{Options, Recipe};
use mothership_cluster::Account;
use std::ffi::OsString;
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The state folder's name below the usual place.
const NAME: &str = "mothership-demo";
/// The usual place of root, whose home others cannot enter.
const OF_ROOT: &str = "/var/lib";
/// The file that says what the shop was made from.
const SHOP: &str = "shop";
/// The file that says by which mongod the events were made.
const EVENTS: &str = "events";
/// Six servers without rows need about 80 MiB each, with some WAL; measured, and rounded up.
const NEEDED: u64 = 1 << 30;
/// A row on disk: in a primary and a replica, in the WAL of both, with its index entry; rounded up.
const NEEDED_PER_ROW: u64 = 1 << 10;
/// Three members without rows take 200 MiB each, most of it for their journals; measured.
const NEEDED_FOR_EVENTS: u64 = 3 << 28;

/// What is in a state folder that is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contents {
    /// Nothing yet.
    Empty,
    /// What a first start left that did not get to its end.
    Half,
    /// Shards with a shop.
    Shop(Recipe),
}

/// Where the state is kept: what `--state` says, else the usual place.
pub(super) fn locate(options: &Options) -> Result<PathBuf, DemoError> {
    let account = Account::choose()?;
    if let Some(state) = &options.state {
        let path = std::path::absolute(state).doing("find", state)?;
        return match closed_to(&account, &path) {
            None => Ok(path),
            Some(closed) => Err(DemoError::Closed { closed }),
        };
    }
    let usual = usual(std::env::var_os("XDG_STATE_HOME"), std::env::var_os("HOME"));
    match (usual, account) {
        (Some(path), account) if closed_to(&account, &path).is_none() => Ok(path),
        (_, Account::Other { .. }) => Ok(Path::new(OF_ROOT).join(NAME)),
        (Some(path), Account::Own) => Ok(path),
        (None, Account::Own) => Err(DemoError::NoHome),
    }
}

/// `$XDG_STATE_HOME`, else `~/.local/state`; a relative one counts as not set, as its specification says.
fn usual(state_home: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let absolute = |path: &PathBuf| path.is_absolute();
    let state_home = state_home.map(PathBuf::from).filter(absolute);
    let home = home.map(PathBuf::from).filter(absolute);
    let base = state_home.or_else(|| home.map(|home| home.join(".local/state")))?;
    Some(base.join(NAME))
}

/// The first folder on the way to `path`, or that itself, which this account may not pass through.
fn closed_to(account: &Account, path: &Path) -> Option<PathBuf> {
    let Account::Other { uid, gid } = *account else {
        return None;
    };
    let mut way: Vec<_> = path.ancestors().collect();
    way.reverse();
    let closed = way.into_iter().find(|folder| {
        // What is not there yet is made by us, open.
        folder
            .metadata()
            .is_ok_and(|folder| !may_pass(folder.mode(), folder.uid() == uid, folder.gid() == gid))
    });
    closed.map(Path::to_path_buf)
}

/// Whether the execute bit is set that counts; see path_resolution(7).
fn may_pass(mode: u32, owner: bool, group: bool) -> bool {
    let bit = match (owner, group) {
        (true, _) => 0o100,
        (false, true) => 0o010,
        (false, false) => 0o001,
    };
    mode & bit != 0
}

/// Makes a folder and those above it, so that others can pass through what is new, whatever the umask says.
pub(super) fn make(path: &Path) -> Result<(), DemoError> {
    let missing = |folder: &&Path| !folder.exists();
    let mut new: Vec<_> = path.ancestors().take_while(missing).collect();
    new.reverse();
    for folder in new {
        match std::fs::create_dir(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => made.doing("create", folder)?,
        }
        std::fs::set_permissions(folder, Permissions::from_mode(0o755))
            .doing("set the permissions of", folder)?;
    }
    Ok(())
}

/// Whether `path` may be used: it is ours, empty, or not there.
pub(super) fn check_ours(path: &Path) -> Result<(), DemoError> {
    let folder = path.to_path_buf();
    match names(path) {
        Ok(names) if names.is_empty() || names.iter().any(|name| name == lock::FILE) => Ok(()),
        Ok(_) => Err(DemoError::Foreign { folder }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            Err(DemoError::Foreign { folder })
        }
        Err(error) => Err(error).doing("read", path),
    }
}

fn names(folder: &Path) -> std::io::Result<Vec<OsString>> {
    let entries = std::fs::read_dir(folder)?;
    entries
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect()
}

/// What is in the folder, beside the lock.
pub(super) fn contents(folder: &Path) -> Result<Contents, DemoError> {
    let path = folder.join(SHOP);
    match std::fs::read_to_string(&path) {
        // A file that we cannot read is none of ours, or of another version: made anew.
        Ok(text) => Ok(parse(&text).map_or(Contents::Half, Contents::Shop)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let names = names(folder).doing("read", folder)?;
            Ok(match names.iter().all(|name| name == lock::FILE) {
                true => Contents::Empty,
                false => Contents::Half,
            })
        }
        Err(error) => Err(error).doing("read", path),
    }
}

/// Says that everything but the events is made.
pub(super) fn complete(folder: &Path, recipe: Recipe) -> Result<(), DemoError> {
    put(folder, SHOP, render(recipe).as_bytes())
}

/// By which mongod the events were made; `None` as long as there are none, or only some.
pub(super) fn events(folder: &Path) -> Result<Option<PathBuf>, DemoError> {
    let path = folder.join(EVENTS);
    match std::fs::read(&path) {
        Ok(mongod) => Ok(Some(OsString::from_vec(mongod).into())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).doing("read", path),
    }
}

/// Says that the events are made.
pub(super) fn complete_events(folder: &Path, mongod: &Path) -> Result<(), DemoError> {
    put(folder, EVENTS, mongod.as_os_str().as_bytes())
}

/// Writes a file that appears whole or not at all.
fn put(folder: &Path, name: &str, text: &[u8]) -> Result<(), DemoError> {
    let new = folder.join(format!("{name}.new"));
    let path = folder.join(name);
    let write = || {
        let mut file = std::fs::File::create(&new)?;
        file.write_all(text)?;
        file.sync_all()?;
        std::fs::rename(&new, &path)
    };
    write().doing("write", &path)
}

fn render(recipe: Recipe) -> String {
    format!("shop 1\nrows {}\nseed {}\n", recipe.rows, recipe.seed)
}

fn parse(text: &str) -> Option<Recipe> {
    let mut lines = text.lines();
    (lines.next()? == "shop 1").then_some(())?;
    Some(Recipe {
        rows: lines.next()?.strip_prefix("rows ")?.parse().ok()?,
        seed: lines.next()?.strip_prefix("seed ")?.parse().ok()?,
    })
}

/// Removes all but the lock, which goes last: without it the rest would look like somebody else's.
pub(super) fn empty(folder: &Path) -> Result<(), DemoError> {
    // First of all what says that the rest is whole.
    for name in [SHOP, EVENTS] {
        let path = folder.join(name);
        if path.exists() {
            std::fs::remove_file(&path).doing("remove", &path)?;
        }
    }
    for name in names(folder).doing("read", folder)? {
        let path = folder.join(&name);
        if name == lock::FILE {
            continue;
        }
        let kind = path.symlink_metadata().doing("read", &path)?;
        match kind.is_dir() {
            true => std::fs::remove_dir_all(&path),
            false => std::fs::remove_file(&path),
        }
        .doing("remove", &path)?;
    }
    Ok(())
}

/// Removes the folder with all that is in it.
pub(super) fn remove(folder: &Path) -> Result<(), DemoError> {
    empty(folder)?;
    std::fs::remove_dir_all(folder).doing("remove", folder)
}

/// What a new demo takes on disk: the shards with a shop of this size, if it is to be made, and the events likewise.
pub(super) fn space(shop: Option<Recipe>, events: bool) -> u64 {
    let shop = shop.map_or(0, |recipe| NEEDED + u64::from(recipe.rows) * NEEDED_PER_ROW);
    shop + if events { NEEDED_FOR_EVENTS } else { 0 }
}

/// Whether so many bytes are free.
pub(super) fn check_space(folder: &Path, needed: u64) -> Result<(), DemoError> {
    let free = free_space(folder).doing("look for free space in", folder)?;
    match free >= needed {
        true => Ok(()),
        false => Err(DemoError::Space {
            folder: folder.to_path_buf(),
            free,
            needed,
        }),
    }
}

/// Bytes that others than root may still write; see statvfs(3).
fn free_space(folder: &Path) -> std::io::Result<u64> {
    let path = std::ffi::CString::new(folder.as_os_str().as_bytes())?;
    let mut answer = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends with a zero and the answer is large enough.
    if unsafe { libc::statvfs(path.as_ptr(), answer.as_mut_ptr()) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: statvfs succeeded, so it has filled it in.
    let answer = unsafe { answer.assume_init() };
    Ok(answer.f_bavail.saturating_mul(answer.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that is removed with the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let name = format!("mothership-folder-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            make(&path).unwrap();
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_usual_place_follows_the_environment() {
        let at = |state: Option<&str>, home: Option<&str>| {
            let path = usual(state.map(Into::into), home.map(Into::into));
            path.map(|path| path.display().to_string())
        };
        let home = Some("/home/me");
        let of_home = Some("/home/me/.local/state/mothership-demo".to_owned());
        assert_eq!(at(None, home), of_home);
        assert_eq!(at(Some("here"), home), of_home);
        assert_eq!(at(Some("/s"), home), Some("/s/mothership-demo".into()));
        assert_eq!(at(None, Some("")), None);
        assert_eq!(at(None, None), None);
    }

    #[test]
    fn an_account_passes_by_the_bit_that_concerns_it() {
        assert!(may_pass(0o755, false, false));
        assert!(!may_pass(0o700, false, false));
        assert!(!may_pass(0o750, false, false));
        assert!(may_pass(0o750, false, true));
        assert!(!may_pass(0o707, false, true));
        assert!(!may_pass(0o077, true, true));
    }

    #[test]
    fn a_closed_folder_above_is_found() {
        let scratch = Scratch::new("closed");
        let state = scratch.0.join("a/b");
        let stranger = Account::Other {
            uid: 4_000_000_000,
            gid: 4_000_000_000,
        };
        assert_eq!(closed_to(&stranger, &state), None);
        std::fs::set_permissions(&scratch.0, Permissions::from_mode(0o700)).unwrap();
        assert_eq!(closed_to(&stranger, &state), Some(scratch.0.clone()));
        assert_eq!(closed_to(&stranger, &scratch.0), Some(scratch.0.clone()));
        assert_eq!(closed_to(&Account::Own, &state), None);
    }

    #[test]
    fn a_folder_goes_from_empty_over_half_to_a_shop_and_back() {
        let scratch = Scratch::new("states");
        let folder = &scratch.0;
        let recipe = Recipe { rows: 3, seed: 4 };
        std::fs::write(folder.join(lock::FILE), "").unwrap();
        assert_eq!(contents(folder).unwrap(), Contents::Empty);
        make(&folder.join("s1")).unwrap();
        assert_eq!(contents(folder).unwrap(), Contents::Half);
        complete(folder, recipe).unwrap();
        assert_eq!(contents(folder).unwrap(), Contents::Shop(recipe));
        assert_eq!(events(folder).unwrap(), None);
        let mongod = Path::new("/usr/bin/mongod");
        complete_events(folder, mongod).unwrap();
        assert_eq!(events(folder).unwrap().as_deref(), Some(mongod));
        std::fs::write(folder.join(SHOP), "shop 2\n").unwrap();
        assert_eq!(contents(folder).unwrap(), Contents::Half);
        empty(folder).unwrap();
        assert_eq!(contents(folder).unwrap(), Contents::Empty);
    }

    #[test]
    fn a_folder_of_somebody_else_is_left_alone() {
        let scratch = Scratch::new("foreign");
        let folder = &scratch.0;
        check_ours(folder).unwrap();
        check_ours(&folder.join("new")).unwrap();
        std::fs::write(folder.join("letter"), "dear").unwrap();
        let refused = check_ours(folder);
        assert!(
            matches!(refused, Err(DemoError::Foreign { .. })),
            "{refused:?}"
        );
        let refused = check_ours(&folder.join("letter"));
        assert!(
            matches!(refused, Err(DemoError::Foreign { .. })),
            "{refused:?}"
        );
        std::fs::write(folder.join(lock::FILE), "").unwrap();
        check_ours(folder).unwrap();
    }

    #[test]
    fn space_is_counted_in_the_file_system_of_the_folder() {
        assert!(free_space(Path::new("/proc")).is_ok_and(|free| free == 0));
        assert!(free_space(Path::new("/no such folder")).is_err());
        let recipe = Recipe {
            rows: 1024,
            seed: 1,
        };
        let needed = space(Some(recipe), true);
        let refused = check_space(Path::new("/proc"), needed).unwrap_err();
        let said = "0 MiB are free in /proc, and the demo needs about 1793 MiB";
        assert_eq!(refused.to_string(), said);
        check_space(Path::new("/proc"), space(None, false)).unwrap();
    }
}
