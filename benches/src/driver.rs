//! The program that does by MongoDB's own driver what the router is asked for, started and spoken to.
//!
//! It is a process of its own, so that its CPU is its own, and it stays between the loads as the router does.

use crate::interrupt;
use crate::load::Run;
use crate::proxy::DATABASE;
use mothership_cluster::spawn_tied;
use mothership_driver::order::{Ask, Done, Load, Order};
use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The program, running. Dropped, it is killed.
#[derive(Debug)]
pub struct Driver {
    child: Child,
    orders: ChildStdin,
    answers: RefCell<BufReader<ChildStdout>>,
}

impl Driver {
    /// Starts it for the replica set at `uri`.
    pub fn start(program: &Path, uri: &str) -> Result<Driver, String> {
        let mut command = Command::new(program);
        command.args([uri, DATABASE]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = spawn_tied(command, libc::SIGKILL);
        let mut child = child.map_err(|e| format!("start {}: {e}", program.display()))?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(orders), Some(answers)) => Ok(Driver {
                child,
                orders,
                answers: RefCell::new(BufReader::new(answers)),
            }),
            _ => Err("the driver program has no pipes".into()),
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Makes the documents that are read.
    pub fn fill(&self, documents: u32) -> Result<(), String> {
        self.carry_out(Order::Fill(documents)).map(drop)
    }

    /// Carries out a run.
    pub fn run(&self, ask: Ask, run: &Run, documents: u32) -> Result<Done, String> {
        self.carry_out(Order::Load(Load {
            ask,
            clients: run.case.clients,
            duration: run.duration,
            documents,
            seed: run.seed,
        }))
    }

    /// The program limits how long it takes for that.
    fn carry_out(&self, order: Order) -> Result<Done, String> {
        interrupt::check()?;
        let told = writeln!(&self.orders, "{order}");
        told.map_err(|e| format!("tell the driver program: {e}"))?;
        let mut line = String::new();
        let read = self.answers.borrow_mut().read_line(&mut line);
        read.map_err(|e| format!("hear the driver program: {e}"))?;
        let done = line.trim_end().parse();
        done.map_err(|told: String| format!("the driver program says \"{told}\" to \"{order}\""))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
