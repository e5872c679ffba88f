//! What the program that uses MongoDB's own driver is asked for, and the documents that it reads and writes.
//!
//! The program is `main.rs`; who asks it is `mothership-benches`.

pub mod order;

pub mod event;
