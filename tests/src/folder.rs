//! Folders for what tests leave on disk, removed when dropped, at the latest
//! when the process ends.
//!
//! All lie below one folder of this process, which holds a file that it keeps
//! locked. A process that was killed cannot tidy up: the next run removes every
//! such folder whose lock is free.

use std::ffi::CString;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

const PREFIX: &str = "mothership-tests-";

/// A file system in memory, used if it is there and large enough, and TMPDIR says nothing else.
const MEMORY: &str = "/dev/shm";

/// A folder that is removed with all that is in it when this is dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes an empty folder; `name` is for the human who looks into it.
    pub fn new(name: &str) -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = home().join(format!("{name}-{number}"));
        std::fs::create_dir(&path).unwrap();
        Folder { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Has `act` run when the process ends in an orderly way, in the order of the calls, before the folders are removed.
pub fn at_exit(act: impl FnOnce() + Send + 'static) {
    home();
    acts().lock().unwrap().push(Box::new(act));
}

type Act = Box<dyn FnOnce() + Send>;

fn acts() -> &'static Mutex<Vec<Act>> {
    static ACTS: Mutex<Vec<Act>> = Mutex::new(Vec::new());
    &ACTS
}

/// The folder of this process.
fn home() -> &'static Path {
    static HOME: OnceLock<(PathBuf, File)> = OnceLock::new();
    let (path, _lock) = HOME.get_or_init(|| {
        let disk = std::env::temp_dir();
        sweep(&disk);
        let chosen = std::env::var_os("TMPDIR").is_some();
        let memory = Some(Path::new(MEMORY)).filter(|path| !chosen && holds_much(path));
        memory.map(sweep);
        let made = make(memory.unwrap_or(&disk));
        // SAFETY: the handler takes no argument and does not unwind.
        unsafe { libc::atexit(leave) };
        made
    });
    path
}

/// Whether a file system in memory has room for the servers of tests, and the machine memory for it. To make a database
/// is to make 300 files: 20 ms there, 50 to 90 ms on a disk.
fn holds_much(root: &Path) -> bool {
    const ROOM: u64 = 8 << 30;
    let path = CString::new(root.as_os_str().as_bytes()).unwrap();
    // SAFETY: all zeroes are a value of this type of numbers.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are of things that live; the path ends with a zero.
    if unsafe { libc::statvfs(path.as_ptr(), &raw mut found) } != 0 {
        return false;
    }
    let runs = found.f_flag & (libc::ST_NOEXEC | libc::ST_RDONLY) == 0;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    runs && free >= ROOM && available().is_some_and(|memory| memory >= ROOM)
}

/// Bytes of memory that can be had without swapping.
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

fn make(root: &Path) -> (PathBuf, File) {
    use std::os::unix::fs::PermissionsExt;
    let id = std::process::id();
    // It gets the name that `sweep` looks for only when its lock is held.
    let new = root.join(format!("new-{PREFIX}{id}"));
    std::fs::create_dir_all(&new).unwrap_or_else(|e| panic!("create {}: {e}", new.display()));
    // The account that runs PostgreSQL passes through it.
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
    let lock = File::create(new.join("lock")).unwrap();
    lock.lock().unwrap();
    let path = root.join(format!("{PREFIX}{id}"));
    std::fs::rename(&new, &path).unwrap();
    (path, lock)
}

/// Removes what killed test processes have left.
fn sweep(root: &Path) {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let ours = name.to_string_lossy().starts_with(PREFIX);
        let lock = File::open(entry.path().join("lock"));
        if ours && lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

extern "C" fn leave() {
    let tidy = || {
        let acts = std::mem::take(&mut *acts().lock().unwrap_or_else(|e| e.into_inner()));
        acts.into_iter().for_each(|act| act());
        let _ = std::fs::remove_dir_all(home());
    };
    // Unwinding out of an exit handler would abort and hide the tests' verdict.
    let _ = std::panic::catch_unwind(tidy);
}
