//! The ports of the process: bound, or taken over from the one before.
//!
//! They stay open here for as long as the process answers for them; who accepts on them has copies
//! ([`super::doors`]). A unix socket's file is removed with its port, unless somebody else has the port now.

use crate::config::Config;
use crate::other_process::words::Use;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// One open port.
#[derive(Debug)]
pub struct Port {
    /// What it is for.
    pub used: Use,
    /// It listens.
    pub socket: Socket,
    /// The file of a unix socket, removed with the port.
    file: Option<PathBuf>,
    /// Its place among those that were taken over.
    place: Option<usize>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Ports(Vec<Port>);

impl Port {
    /// One that another process has opened; `place` is its place among those that came.
    pub fn inherited(used: Use, descriptor: OwnedFd, place: usize) -> Port {
        Port {
            used,
            socket: descriptor.into(),
            file: None,
            place: Some(place),
        }
    }

    fn is(&self, used: Use, address: &SockAddr) -> bool {
        let own = self.socket.local_addr().ok();
        let path = |address: &SockAddr| address.as_pathname().map(Path::to_owned);
        let is_same = own.is_some_and(|own| match address.as_socket() {
            Some(address) => own.as_socket() == Some(address),
            None => path(&own).is_some() && path(&own) == path(address),
        });
        used == self.used && is_same
    }

    /// The port lives on without this process.
    fn leave(&mut self) {
        self.file = None;
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // Best effort: a left-over file is removed at the next start.
            let _ = std::fs::remove_file(file);
        }
    }
}

impl Ports {
    /// Opens what the configuration wants, with a socket of each address for each of so many cores. What is among the
    /// inherited is not opened anew; what nobody wants of them is left.
    ///
    /// # Errors
    /// When a port is taken by somebody else.
    pub fn open(
        config: &Config,
        cores: usize,
        mut inherited: Vec<Port>,
    ) -> Result<Ports, ListenError> {
        let mut ports = Ports::default();
        let listen = &config.listen;
        // The one for metrics first: who reaches the clients' port finds it open.
        if let Some(port) = config.metrics.port {
            let address = SocketAddr::new(config.metrics.address, port);
            ports.want(Use::Metrics, &address.into(), &mut inherited, || {
                let socket = tcp(address)?;
                socket.set_reuse_address(true)?;
                socket.bind(&address.into())?;
                Ok(socket)
            })?;
        }
        for ip in &listen.address {
            let address = SocketAddr::new(*ip, listen.port);
            let mut found = ports.take(Use::Clients, &address.into(), &mut inherited);
            if found == 0 {
                is_free(address).map_err(|cause| cannot(&address, cause))?;
            }
            while found < cores {
                let socket = shared(address).map_err(|cause| cannot(&address, cause))?;
                ports.add(Use::Clients, socket, None);
                found += 1;
            }
        }
        let folder = listen.unix_socket.as_ref();
        let file = folder.map(|folder| folder.join(format!(".s.PGSQL.{}", listen.port)));
        for (used, file, mode) in [
            (Use::Unix, file.as_ref(), listen.unix_socket_mode.0),
            (Use::Takeover, listen.takeover.as_ref(), 0o600),
        ] {
            let Some(file) = file else { continue };
            let address = SockAddr::unix(file).map_err(|cause| cannot(&file.display(), cause))?;
            ports.want(used, &address, &mut inherited, || unix(file, &address))?;
            let allowed = std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode));
            allowed.map_err(|cause| cannot(&file.display(), cause))?;
        }
        for port in &ports.0 {
            let backlog = match port.used {
                Use::Clients => i32::try_from(listen.backlog).unwrap_or(i32::MAX),
                Use::Unix | Use::Metrics | Use::Takeover => 128,
            };
            let ready = port
                .socket
                .set_nonblocking(true)
                .and_then(|()| port.socket.listen(backlog));
            ready.map_err(|cause| cannot(&"a port", cause))?;
        }
        Ok(ports)
    }

    /// Moves what was inherited for an address; returns how many there were.
    fn take(&mut self, used: Use, address: &SockAddr, inherited: &mut Vec<Port>) -> usize {
        let before = self.0.len();
        let wanted = inherited.extract_if(.., |port| port.is(used, address));
        self.0.extend(wanted);
        self.0.len() - before
    }

    /// Takes or opens one port.
    fn want(
        &mut self,
        used: Use,
        address: &SockAddr,
        inherited: &mut Vec<Port>,
        open: impl FnOnce() -> io::Result<Socket>,
    ) -> Result<(), ListenError> {
        let file = address.as_pathname().map(Path::to_owned);
        if self.take(used, address, inherited) == 0 {
            let socket = open().map_err(|cause| match (&file, address.as_socket()) {
                (Some(file), _) => cannot(&file.display(), cause),
                (None, Some(address)) => cannot(&address, cause),
                (None, None) => cannot(&"a socket", cause),
            })?;
            self.add(used, socket, file);
        }
        Ok(())
    }

    fn add(&mut self, used: Use, socket: Socket, file: Option<PathBuf>) {
        self.0.push(Port {
            used,
            socket,
            file,
            place: None,
        });
    }

    /// Those of one use.
    pub fn of(&self, used: Use) -> impl Iterator<Item = &Socket> {
        let ports = self.0.iter().filter(move |port| port.used == used);
        ports.map(|port| &port.socket)
    }

    /// Copies of all, for another process.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn copies(&self) -> io::Result<Vec<(Use, OwnedFd)>> {
        let copy = |port: &Port| Ok((port.used, port.socket.try_clone()?.into()));
        self.0.iter().map(copy).collect()
    }

    /// The places of those that were taken over.
    pub fn kept(&self) -> Vec<usize> {
        self.0.iter().filter_map(|port| port.place).collect()
    }

    /// This process answers for what it has taken over, also for the files.
    pub fn answer_for(&mut self) {
        for port in &mut self.0 {
            if port.place.take().is_some() {
                let address = port.socket.local_addr().ok();
                let file = address.as_ref().and_then(SockAddr::as_pathname);
                port.file = file.map(Path::to_owned);
            }
        }
    }

    /// Another process answers for those at these places from now on; the others are closed.
    pub fn hand_over(&mut self, kept: &[usize]) {
        let mut place = 0;
        self.0.retain_mut(|port| {
            let is_kept = kept.contains(&place);
            place += 1;
            if is_kept {
                port.leave();
                port.place = Some(0);
            }
            is_kept
        });
    }

    /// Closes those of some uses.
    pub fn close(&mut self, uses: &[Use]) {
        self.0.retain(|port| !uses.contains(&port.used));
    }

    /// True if there are none.
    pub fn are_closed(&self) -> bool {
        self.0.is_empty()
    }
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("listen on {what}")]
pub struct ListenError {
    /// Which.
    what: String,
    /// Why.
    #[source]
    cause: io::Error,
}

fn cannot(what: &dyn std::fmt::Display, cause: io::Error) -> ListenError {
    ListenError {
        what: what.to_string(),
        cause,
    }
}

fn tcp(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// One of several sockets on the same port.
fn shared(address: SocketAddr) -> io::Result<Socket> {
    let socket = tcp(address)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// `SO_REUSEPORT` lets another process of the same user listen on the same port unseen; asking without it first says
/// that the port is taken.
fn is_free(address: SocketAddr) -> io::Result<()> {
    let socket = tcp(address)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

fn unix(file: &Path, address: &SockAddr) -> io::Result<Socket> {
    // A file that nobody listens on was left by a process that was killed.
    if file.exists() && std::os::unix::net::UnixStream::connect(file).is_err() {
        std::fs::remove_file(file)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn config(text: &str) -> Config {
        let shard = "[[shard]]\nname = \"s\"\n[[shard.server]]\naddress = \"127.0.0.1:5\"\n\
            [control]\nuser = \"c\"\npassword = \"p\"\n";
        let text = format!("{text}{shard}");
        Config::parse(Path::new("t.toml"), &text, &crate::config::Process).unwrap()
    }

    fn free() -> u16 {
        mothership_cluster::free_port().unwrap()
    }

    fn inherited(ports: &Ports) -> Vec<Port> {
        let copies = ports.copies().unwrap().into_iter().enumerate();
        copies
            .map(|(place, (used, descriptor))| Port::inherited(used, descriptor, place))
            .collect()
    }

    #[test]
    fn what_both_want_is_taken_over_the_rest_is_opened_and_left() {
        let folder = std::env::temp_dir().join(format!("ports-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (port, first, second) = (free(), free(), free());
        let text = |metrics: u16, takeover: &str| {
            let folder = folder.display();
            config(&format!(
                "[listen]\nport = {port}\nunix_socket = \"{folder}\"\ntakeover = \"{folder}/{takeover}\"\n\
                 [metrics]\nport = {metrics}\n"
            ))
        };
        let mut old = Ports::open(&text(first, "old"), 2, Vec::new()).unwrap();
        assert!(folder.join("old").exists());
        let mut new = Ports::open(&text(second, "new"), 3, inherited(&old)).unwrap();
        // Metrics and takeover lie elsewhere now.
        assert_eq!(new.kept(), [1, 2, 3]);
        assert_eq!(new.of(Use::Clients).count(), 3);
        let kept = new.kept();
        old.hand_over(&kept);
        new.answer_for();
        assert!(!folder.join("old").exists());
        assert_eq!(old.copies().unwrap().len(), 3);
        drop(old);
        let file = folder.join(format!(".s.PGSQL.{port}"));
        std::os::unix::net::UnixStream::connect(&file).unwrap();
        for port in [port, second] {
            std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        }
        let taken = Ports::open(&text(second, "new"), 1, Vec::new());
        assert!(matches!(taken, Err(ListenError { .. })));
        assert!(std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, first)).is_err());
        drop(new);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        std::fs::remove_dir(&folder).unwrap();
    }
}
