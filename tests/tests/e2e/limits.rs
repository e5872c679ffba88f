//! What is over a limit is an error with an SQLSTATE, and who attacks one harms nobody else.

#[path = "limits/stage.rs"]
mod stage;

#[path = "limits/cancels.rs"]
mod cancels;
#[path = "limits/knowledge.rs"]
mod knowledge;
#[path = "limits/logins.rs"]
mod logins;
#[path = "limits/lost.rs"]
mod lost;
#[path = "limits/overload.rs"]
mod overload;
#[path = "limits/packets.rs"]
mod packets;
#[path = "limits/pools.rs"]
mod pools;
#[path = "limits/scarce.rs"]
mod scarce;
#[path = "limits/sessions.rs"]
mod sessions;
#[path = "limits/timeouts.rs"]
mod timeouts;
