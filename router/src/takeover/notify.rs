//! Tells systemd what the process does, see sd_notify(3). Without systemd it does nothing.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The process serves, and is the one that counts: after a takeover no longer the one before.
pub fn serving() {
    let pid = std::process::id();
    say(&format!("MAINPID={pid}\nREADY=1\nSTATUS=serving"));
}

/// The process ends.
pub fn stopping() {
    say("STOPPING=1\nSTATUS=draining");
}

fn say(text: &str) {
    let Some(place) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = say_at(&place, text) {
        tracing::warn!(error = %error, "systemd was not told");
    }
}

/// At a path, or at an abstract name behind `@`.
fn say_at(place: &OsStr, text: &str) -> io::Result<()> {
    let address = match place.as_encoded_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(place)?,
    };
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_wherever_systemd_listens() {
        let name = format!("notify-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let hears = |listening: UnixDatagram, place: &OsStr| {
            say_at(place, "READY=1").unwrap();
            let mut heard = [0; 32];
            let size = listening.recv(&mut heard).unwrap();
            assert_eq!(&heard[..size], b"READY=1");
        };
        hears(UnixDatagram::bind(&path).unwrap(), path.as_os_str());
        std::fs::remove_file(&path).unwrap();
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let place = format!("@{name}");
        hears(UnixDatagram::bind_addr(&address).unwrap(), place.as_ref());
        assert!(say_at(path.as_os_str(), "READY=1").is_err());
    }
}
