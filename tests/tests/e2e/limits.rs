//! What is over a limit is an error with an SQLSTATE, and who attacks one harms nobody else.

#[path = "limits/stage.rs"]
mod stage;

#[path = "limits/addresses.rs"]
mod addresses;
#[path = "limits/attacks.rs"]
mod attacks;
#[path = "limits/knowledge.rs"]
mod knowledge;
#[path = "limits/lost.rs"]
mod lost;
#[path = "limits/overload.rs"]
mod overload;
#[path = "limits/pools.rs"]
mod pools;
#[path = "limits/sessions.rs"]
mod sessions;
#[path = "limits/timeouts.rs"]
mod timeouts;
