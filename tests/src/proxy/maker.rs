//! Which process has made a connection of this machine, by what the kernel shows in /proc; see proc(5).

use std::net::SocketAddr;

/// Whether the process has the socket with this address of IPv4.
pub(super) fn is(process: u32, address: SocketAddr) -> bool {
    let Some(inode) = inode(address) else {
        return false;
    };
    let socket = format!("socket:[{inode}]");
    let files = std::fs::read_dir(format!("/proc/{process}/fd"));
    let mut files = files.into_iter().flatten().flatten();
    files.any(|file| std::fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == &*socket))
}

/// What a socket of TCP is called by those that hold it.
fn inode(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else {
        return None;
    };
    // The address is a number as this machine has it in memory, the port is not.
    let ip = u32::from_ne_bytes(address.ip().octets());
    let wanted = format!("{ip:08X}:{:04X}", address.port());
    let sockets = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let mut sockets = sockets
        .lines()
        .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let found = sockets.find(|socket| socket.get(1) == Some(&&*wanted))?;
    found.get(9).map(|inode| (*inode).to_owned())
}
