//! Changes of a shard's primary that somebody orders. What happens by itself is `health`'s to find out.

mod fence;

pub mod switchover;
