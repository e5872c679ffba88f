//! A new process takes over the ports of the one that serves, and the old one ends with its clients.
//!
//! ```text
//! new                         old
//!  | ---- TakeOver ----------> |    by the unix socket `listen.takeover`, which only the same user can use
//!  | <--- Sockets, their fds - |    the old one serves on
//!  | starts all but accepting  |
//!  | ---- Ready -------------> |    takes nobody new from now on; who knocks waits in the kernel's queue
//!  | <--- Yours -------------- |
//!  | accepts                   | serves the clients that it has, until they leave or `listen.handover_timeout`
//!  | <--- Clients, Cancel ---> |
//!  |                           + ends
//! ```
//!
//! Until Yours nothing has happened to the old process, and whatever goes wrong with the new one costs nothing. If the
//! new one dies later, while the old one is still there, the old one accepts again: it keeps the ports until then.
//! There are never more than these two: who has a process before it lets nobody take over.

pub mod passing;

pub mod ports;

pub mod layout;

pub mod doors;

pub mod link;

pub mod old_process;

pub mod new_process;

pub mod successor;

pub mod notify;
