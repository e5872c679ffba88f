//! The proxy's thread: accepts, and carries bytes in both directions of each connection as the state says.

use super::cutter::Cutter;
use super::maker;
use super::trap::{Effect, End, Progress};
use super::{Side, State, Travel};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use socket2::{Domain, Socket, Type};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Pieces on their way in one direction, before the sender has to wait.
const ON_THE_WAY: usize = 64;
const CHUNK: usize = 16 << 10;
/// How long a side that was told FIN may take to close, too.
const LINGER: Duration = Duration::from_secs(5);

/// The proxy's port, which stays its own while nobody listens on it: a socket that is bound and does not listen refuses
/// connections and keeps the port from all who ask for any. Without it the port can go to a client's own end meanwhile.
pub(super) struct Claim {
    address: SocketAddr,
    first: std::net::TcpListener,
    /// Bound as long as the proxy is.
    _bound: Socket,
}

impl Claim {
    /// Of this port at this address of the machine, 0 is a free one; it listens already.
    pub(super) fn on(address: Ipv4Addr, port: u16) -> io::Result<Claim> {
        let bound = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        bound.set_reuse_address(true)?;
        bound.bind(&SocketAddr::from((address, port)).into())?;
        let address = bound.local_addr()?.as_socket().ok_or(ErrorKind::Other)?;
        Ok(Claim {
            address,
            first: std::net::TcpListener::bind(address)?,
            _bound: bound,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Runs until the proxy is dropped.
pub(super) fn run(claim: Claim, state: watch::Sender<State>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, accept(claim, state));
}

async fn accept(claim: Claim, state: watch::Sender<State>) {
    let Claim {
        address,
        first,
        _bound,
    } = claim;
    first.set_nonblocking(true).unwrap();
    let mut listener = Some(TcpListener::from_std(first).unwrap());
    let mut changes = state.subscribe();
    loop {
        let (is_over, refuses) = {
            let state = changes.borrow_and_update();
            (state.is_over, state.is_refusing)
        };
        if is_over {
            return;
        }
        if refuses == listener.is_some() {
            listener = match refuses {
                true => None,
                false => Some(TcpListener::bind(address).await.unwrap()),
            };
            state.send_modify(|state| state.is_listening = !refuses);
        }
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await.ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            near = accepted => if let Some((near, _)) = near {
                tokio::task::spawn_local(serve(near, state.clone()));
            },
            _ = changes.changed() => {}
        }
    }
}

/// One connection, from its accept to its end.
struct Connection {
    state: watch::Sender<State>,
    progress: RefCell<Option<Progress>>,
    is_frozen: watch::Sender<bool>,
    /// The address of who has connected.
    from: Option<SocketAddr>,
    /// For each process that was asked about, whether it is the one.
    makers: RefCell<HashMap<u32, bool>>,
}

async fn serve(mut near: TcpStream, state: watch::Sender<State>) {
    let mut changes = state.subscribe();
    let (target, cuts, thaws) = {
        let state = changes.borrow_and_update();
        (state.target, state.cuts, state.thaws)
    };
    let mut number = 0;
    state.send_modify(|state| {
        state.accepted += 1;
        number = state.accepted;
        state.open.insert(number);
    });
    let connection = Rc::new(Connection {
        state: state.clone(),
        progress: RefCell::new(None),
        is_frozen: watch::Sender::new(false),
        from: near.peer_addr().ok(),
        makers: RefCell::default(),
    });
    let over = || {
        state.send_modify(|state| {
            state.open.remove(&number);
        });
    };
    let goes_on = |state: &State| !state.keeps_new || state.is_over;
    let _ = state.subscribe().wait_for(goes_on).await.is_ok();
    let far = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await;
    let Ok(mut far) = far else {
        let _ = near.set_zero_linger();
        over();
        return;
    };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let end = {
        let (near_read, near_write) = near.split();
        let (far_read, far_write) = far.split();
        let there = connection.pass(Side::Client, near_read, far_write, number);
        let back = connection.pass(Side::Server, far_read, near_write, number);
        tokio::select! {
            passed = async { tokio::try_join!(there, back) } => passed.err(),
            end = connection.ended(cuts, thaws) => Some(end),
        }
    };
    match end {
        None | Some(End::Reset) => {
            if end.is_some() {
                let _ = (near.set_zero_linger(), far.set_zero_linger());
            }
            drop((near, far));
            over();
        }
        Some(End::Finish) => {
            // What was closed with bytes unread would be reset.
            let _ = tokio::join!(near.shutdown(), far.shutdown());
            over();
            let rest = async { tokio::join!(drain(&mut near), drain(&mut far)) };
            let _ = tokio::time::timeout(LINGER, rest).await;
        }
    }
}

async fn drain(stream: &mut TcpStream) {
    let mut chunk = [0; 1024];
    while stream.read(&mut chunk).await.is_ok_and(|read| read > 0) {}
}

/// What travels.
enum Item {
    Bytes(Vec<u8>, Instant),
    Effect(Effect),
}

impl Connection {
    /// Waits until somebody ends all connections, or the frozen ones and this is one.
    async fn ended(&self, cuts: u64, thaws: u64) -> End {
        let mut changes = self.state.subscribe();
        loop {
            {
                let state = changes.borrow_and_update();
                let thawed = state.thaws != thaws && *self.is_frozen.borrow();
                if state.cuts != cuts {
                    return state.end;
                }
                if thawed || state.is_over {
                    return End::Reset;
                }
            }
            let _ = changes.changed().await;
        }
    }

    /// Carries what one side sends, to its end.
    async fn pass(
        &self,
        from: Side,
        mut source: ReadHalf<'_>,
        sink: WriteHalf<'_>,
        number: u64,
    ) -> Result<(), End> {
        let (sender, items) = mpsc::channel(ON_THE_WAY);
        let read = async move {
            let mut cutter = Cutter::new(from);
            // The same in every run: a fault that is found is to be found again.
            let mut rng = StdRng::seed_from_u64(number * 2 + from as u64);
            let mut chunk = vec![0; CHUNK];
            let mut due = Instant::now();
            loop {
                self.may_go(from).await;
                let read = source.read(&mut chunk).await;
                // A side that was reset resets the other.
                let count = read.map_err(|_| End::Reset)?;
                if count == 0 {
                    if let Some(rest) = cutter.rest() {
                        let _ = sender.send(Item::Bytes(rest.bytes, due)).await;
                    }
                    return Ok(());
                }
                due = due.max(Instant::now() + self.delay(from, &mut rng));
                for item in self.look(from, &mut cutter, &chunk[..count], due) {
                    // Nobody takes it when the other direction has ended the connection.
                    let _ = sender.send(item).await;
                }
            }
        };
        tokio::try_join!(read, self.write(from, items, sink))?;
        Ok(())
    }

    fn delay(&self, from: Side, rng: &mut StdRng) -> Duration {
        let Travel {
            latency, jitter, ..
        } = self.travel(from);
        latency + jitter.mul_f64(rng.random())
    }

    fn travel(&self, from: Side) -> Travel {
        self.state.borrow().travel[from as usize]
    }

    /// Cuts into messages what has arrived and holds it against the trap that is set.
    fn look(&self, from: Side, cutter: &mut Cutter, bytes: &[u8], due: Instant) -> Vec<Item> {
        let mut progress = self.progress.borrow_mut();
        match (&self.state.borrow().trap, &*progress) {
            (None, None) => {}
            (None, Some(_)) => *progress = None,
            (Some((id, _)), Some(progress)) if *id == progress.id => {}
            (Some((id, trap)), _) => *progress = Some(Progress::new(*id, trap)),
        }
        let is_watched = progress.as_ref().is_some_and(|p| p.watches(from));
        let wanted = |kind| progress.as_ref().is_some_and(|p| p.wants(from, kind));
        let pieces = cutter.take(bytes, is_watched, wanted);
        let mut items = Vec::new();
        for piece in pieces {
            let Some(known) = progress.as_mut() else {
                items.push(Item::Bytes(piece.bytes, due));
                continue;
            };
            let passed = known.pass(from, piece);
            items.push(Item::Bytes(passed.bytes, due));
            let Some(effect) = passed.effect else {
                continue;
            };
            *progress = None;
            self.state.send_modify(|state| {
                state.trap = None;
                state.sprung += 1;
            });
            if !matches!(effect, Effect::Flip { .. }) {
                items.push(Item::Effect(effect));
                break;
            }
        }
        items
    }

    /// Waits while nothing of this side may travel.
    async fn may_go(&self, from: Side) {
        let mut changes = self.state.subscribe();
        let mut frozen = self.is_frozen.subscribe();
        loop {
            let is_held = {
                let state = changes.borrow_and_update();
                let of_held = || state.held.iter().any(|process| self.is_of(*process));
                state.travel[from as usize].hold || of_held()
            };
            if !is_held && !*frozen.borrow_and_update() {
                return;
            }
            tokio::select! {
                _ = changes.changed() => {}
                _ = frozen.changed() => {}
            }
        }
    }

    /// Whether this process has made the connection.
    fn is_of(&self, process: u32) -> bool {
        let mut makers = self.makers.borrow_mut();
        let known = makers.entry(process);
        *known.or_insert_with(|| self.from.is_some_and(|from| maker::is(process, from)))
    }

    async fn write(
        &self,
        from: Side,
        mut items: mpsc::Receiver<Item>,
        mut sink: WriteHalf<'_>,
    ) -> Result<(), End> {
        while let Some(item) = items.recv().await {
            let (bytes, due) = match item {
                Item::Bytes(bytes, due) => (bytes, due),
                Item::Effect(Effect::End(end)) => return Err(end),
                Item::Effect(_) => {
                    self.is_frozen.send_replace(true);
                    continue;
                }
            };
            tokio::time::sleep_until(due).await;
            let travel = self.travel(from);
            let slice = travel.slice.unwrap_or(CHUNK).max(1);
            for part in bytes.chunks(slice) {
                self.may_go(from).await;
                sink.write_all(part).await.map_err(|_| End::Reset)?;
                match travel.rate {
                    Some(rate) => {
                        let pause = part.len() as f64 / rate as f64;
                        tokio::time::sleep(Duration::from_secs_f64(pause)).await;
                    }
                    // The other side reads what was sent before it gets the next piece.
                    None => tokio::task::yield_now().await,
                }
            }
        }
        self.may_go(from).await;
        // The other side may be gone already.
        let _ = sink.shutdown().await;
        Ok(())
    }
}
