//! Which account of the operating system runs PostgreSQL, which refuses root.
//!
//! As root: `postgres` where there is one, else `nobody`. Otherwise: whoever we
//! are. Only /etc/passwd is read: accounts of daemons are local.

use super::error::{ClusterError, Doing};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The account that PostgreSQL's programs run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    /// The account of this process.
    Own,
    /// Another one, because this process is root.
    Other {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
}

impl Account {
    /// Chooses the account for this process.
    pub fn choose() -> Result<Account, ClusterError> {
        // SAFETY: geteuid has no preconditions and cannot fail.
        if unsafe { libc::geteuid() } != 0 {
            return Ok(Account::Own);
        }
        let path = Path::new("/etc/passwd");
        let passwd = std::fs::read_to_string(path).doing("read", path)?;
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| find(&passwd, name))
            .ok_or(ClusterError::NoAccount)
    }

    /// A command that will run as this account, in `/`, with a small and fixed environment.
    ///
    /// The environment is cleared because PGDATA, PGPORT, PGOPTIONS and the like
    /// would silently change what the programs do, and LC_ALL what they print.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").env_clear();
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin");
        command.env("LC_ALL", "C.UTF-8").env("HOME", "/");
        if let Account::Other { uid, gid } = *self {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// The same for a program in a folder that this account may not get to, such as one below the home of root: the
    /// process goes there before it becomes the other account, and stays.
    pub fn command_there(&self, program: &Path) -> Command {
        let (Account::Other { uid, gid }, Some(folder), Some(name)) =
            (self, program.parent(), program.file_name())
        else {
            return self.command(program);
        };
        let (uid, gid) = (*uid, *gid);
        let mut command = Account::Own.command(&Path::new(".").join(name));
        command.current_dir(folder);
        // SAFETY: between fork and exec these calls touch no memory of ours; std makes the same.
        unsafe {
            command.pre_exec(move || {
                let done = libc::setgroups(0, std::ptr::null()) == 0
                    && libc::setgid(gid) == 0
                    && libc::setuid(uid) == 0;
                match done {
                    true => Ok(()),
                    false => Err(io::Error::last_os_error()),
                }
            });
        }
        command
    }

    /// Makes a folder that only this account can enter (root can, of course).
    pub fn make_folder(&self, path: &Path) -> Result<(), ClusterError> {
        use std::os::unix::fs::PermissionsExt;
        std::fs::create_dir_all(path).doing("create", path)?;
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(path, private).doing("set the permissions of", path)?;
        self.give(path)
    }

    /// Makes this account the owner of `path`.
    pub(super) fn give(&self, path: &Path) -> Result<(), ClusterError> {
        match *self {
            Account::Own => Ok(()),
            Account::Other { uid, gid } => {
                std::os::unix::fs::chown(path, Some(uid), Some(gid)).doing("change owner of", path)
            }
        }
    }
}

/// Finds `name` in the text of /etc/passwd.
fn find(passwd: &str, name: &str) -> Option<Account> {
    let line = passwd
        .lines()
        .find(|line| line.split(':').next() == Some(name))?;
    let mut ids = line.split(':').skip(2);
    Some(Account::Other {
        uid: ids.next()?.parse().ok()?,
        gid: ids.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let passwd =
            "root:x:0:0::/:/bin/sh\npostgres2:x:9:9::/:\npostgres:x:101:104::/:\nbad:x:y:z";
        let found = Account::Other { uid: 101, gid: 104 };
        assert_eq!(find(passwd, "postgres"), Some(found));
        assert_eq!(find(passwd, "nobody"), None);
        assert_eq!(find(passwd, "bad"), None);
    }
}
