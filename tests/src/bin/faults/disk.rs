//! A server whose disk is full: a small file system in memory, as a tablespace.

use crate::ask::{ask, both, say};
use crate::world::World;
use mothership_tests::Folder;
use mothership_tests::proof::{self, Verdict};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

/// A file system in memory, unmounted when dropped.
struct Small<'f>(&'f Path);

impl<'f> Small<'f> {
    /// As the owner of the server's files; the reason if this process may not mount.
    fn mount(at: &'f Path, data: &Path) -> Result<Small<'f>, String> {
        let owner = std::fs::metadata(data).unwrap();
        let options = format!("size=4m,mode=700,uid={},gid={}", owner.uid(), owner.gid());
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at);
        let done = mount.output().map_err(|error| error.to_string())?;
        match done.status.success() {
            true => Ok(Small(at)),
            false => Err(String::from_utf8_lossy(&done.stderr).trim().to_owned()),
        }
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

/// 31: who needs room there is told so, and everybody else goes on.
pub fn full(world: &mut World<'_>, verdict: &mut Verdict) {
    let folder = Folder::new("disk");
    let data = world.ground.fleet.shards[0].primary.data();
    let _small = match Small::mount(folder.path(), &data) {
        Ok(small) => small,
        Err(why) => {
            world.cannot = Some(format!("a tmpfs cannot be mounted: {why}"));
            return;
        }
    };
    let path = folder.path().display();
    let server = &world.ground.fleet.shards[0].primary;
    let made = server.sql(
        "postgres",
        &format!("CREATE TABLESPACE small LOCATION '{path}'"),
    );
    made.unwrap();
    world.sql(0, "ALTER TABLE victims SET TABLESPACE small");
    let key = world.key(0);
    let mut client = world.client();
    let sql = format!(
        "INSERT INTO victims VALUES ({key}, '{}')",
        "0123456789abcdef".repeat(60_000)
    );
    // Compressed it would take few bytes.
    world.sql(0, "ALTER TABLE victims ALTER COLUMN v SET STORAGE EXTERNAL");
    for request in both(&sql) {
        let answers = (0..8).map(|_| ask(&mut client, &request));
        let refused = answers
            .into_iter()
            .find(|answer| !answer.errors().is_empty());
        let told = refused.as_ref();
        let told = told.is_some_and(|answer| answer.is_error(&["53100"], 'I'));
        let figure = refused.map_or_else(|| "none".to_owned(), |answer| answer.to_string());
        verdict.claim(told, "who needs room is told so", figure);
    }
    let answer = say(
        &mut client,
        &format!("SELECT id FROM accounts WHERE id = {key}"),
    );
    verdict.claim(
        answer.rows() == [key.to_string()],
        "the session goes on",
        answer,
    );
    world.claim_shards_served(&[0, 1, 2], verdict);
    world.claim_served(verdict);
    drop(client);
    // To empty it would need room, too; its files are kept until a checkpoint.
    world.sql(0, "DROP TABLE victims");
    proof::on_all(&world.ground.fleet, "CHECKPOINT");
    let server = &world.ground.fleet.shards[0].primary;
    server.sql("postgres", "DROP TABLESPACE small").unwrap();
}
