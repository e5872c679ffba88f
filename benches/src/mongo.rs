//! The replica set that has documents, and the program that reads and writes them by MongoDB's own driver.
//!
//! The set has one member: what replication costs is neither the router's nor the program's.

use crate::driver::Driver;
use crate::proxy::DATABASE;
use mongodb::bson::doc;
use mothership_driver::event::NEW;
use mothership_tests::mongo::ReplicaSet;
use std::path::Path;

/// Both. Dropped, they end.
#[derive(Debug)]
pub struct Mongo {
    driver: Driver,
    set: ReplicaSet,
}

impl Mongo {
    /// Starts them and makes so many documents.
    pub fn start(program: &Path, documents: u32) -> Result<Mongo, String> {
        let set = ReplicaSet::start("bench", 1).ok_or("no mongod can be had")?;
        let driver = Driver::start(program, &set.uri())?;
        driver.fill(documents)?;
        Ok(Mongo { driver, set })
    }

    /// The program.
    pub fn driver(&self) -> &Driver {
        &self.driver
    }

    /// The address of the member.
    pub fn address(&self) -> String {
        self.set.addresses().concat()
    }

    /// Removes what was inserted.
    pub fn empty(&self) {
        let delete = doc! { "delete": NEW, "deletes": [{ "q": {}, "limit": 0 }] };
        self.set.command(DATABASE, delete);
    }
}
