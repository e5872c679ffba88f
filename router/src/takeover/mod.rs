//! Takeover: a new router process gets the open ports from the running one, and the running one ends when its clients
//! have left.
//!
//! ```text
//! new                         old
//!  | ---- TakeOver ----------> |    by the unix socket `listen.takeover`, which only the same user can use
//!  | <--- Sockets, their fds - |    the old process still accepts
//!  | starts all but accepting  |
//!  | ---- Ready -------------> |    stops accepting; who connects now waits in the kernel's queue
//!  | <--- Yours -------------- |
//!  | accepts                   | serves the clients that it has, until they leave or `listen.handover_timeout`
//!  | <--- Clients, Cancel ---> |
//!  |                           + ends
//! ```
//!
//! Until Yours nothing changes for the old process, so a failure of the new one does no harm. The old process keeps the
//! ports until it ends: if the new one dies before that, the old one accepts again. There are never more than two
//! processes: one that has taken over and whose old process still runs lets nobody take over from it.

pub mod passing;

pub mod ports;

pub mod layout;

pub mod doors;

pub mod link;

pub mod old_process;

pub mod new_process;

pub mod successor;

pub mod notify;
