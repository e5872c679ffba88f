//! Configurations that are read again while clients work: bad ones, and such that take something away.

use crate::ask::say;
use crate::world::{NARROW, SOON, World};
use mothership_tests::message::V3_0;
use mothership_tests::proof::{self, Verdict};
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Wire, poll_until};

/// 53: what is bad is refused, and what is taken away goes without an error.
pub fn reloads(world: &mut World<'_>, verdict: &mut Verdict) {
    let path = world.router.config_path();
    let good = std::fs::read_to_string(&path).unwrap();
    let keys = [world.key(0), world.key(1)];
    let mut open = world.client();
    say(&mut open, "BEGIN");
    for key in keys {
        say(
            &mut open,
            &format!("INSERT INTO victims VALUES ({key}, 'open')"),
        );
    }
    let mut inside = world.narrow();
    say(&mut inside, "BEGIN");
    let row = format!("SELECT id FROM accounts WHERE id = {}", keys[0]);
    say(&mut inside, &row);

    let count = |text: &str| world.router.log().matches(text).count();
    for (what, bad) in [
        ("is cut off", format!("{good}\n[pool")),
        (
            "has a value that is none",
            good.replace("\"500ms\"", "\"soon\""),
        ),
        (
            "has a setting that is none",
            good.replace("[pool]\n", "[pool]\nno_such = 1\n"),
        ),
        ("is empty", String::new()),
        ("has a server twice", twice(&good)),
    ] {
        assert_ne!(bad, good, "{what}");
        let before = count("configuration is refused");
        std::fs::write(&path, &bad).unwrap();
        world.router.sighup();
        let refused = poll_until(SOON, || count("configuration is refused") > before);
        let claim = format!("a file that {what} is refused");
        verdict.claim(refused, &claim, refused);
        let mut console = Wire::login(&world.router.endpoint(USER, PASSWORD, "mothership"));
        let answer = say(&mut console, "RELOAD");
        verdict.claim(
            answer.errors().len() == 1,
            "and the console says why",
            answer,
        );
        world.claim_shards_served(&[0, 1, 2], verdict);
    }

    // A shard less: where rows are is not changed while somebody works.
    let at = good.find("[[shard]]\nname = \"s3\"").unwrap();
    let end = good[at..]
        .find("[[table]]")
        .map_or(good.len(), |end| at + end);
    let less = [&good[..at], &good[end..]].concat();
    let said = || count("configuration is refused") + count("waits for a restart");
    let before = said();
    std::fs::write(&path, &less).unwrap();
    world.router.sighup();
    let kept = poll_until(SOON, || said() > before);
    verdict.claim(kept, "a shard is not taken away by a reload", kept);
    world.claim_shards_served(&[0, 1, 2], verdict);

    // A server less, and another password.
    let servers = || proof::console(&world.router, "SHOW ENDPOINTS").len();
    let all = servers();
    let port = world.ground.fleet.shards[0].replicas[0].port();
    let line = format!("[[shard.server]]\naddress = \"127.0.0.1:{port}\"\ntls = \"disable\"\n");
    let user = format!("name = \"{NARROW}\"\npassword = \"{PASSWORD}\"\n");
    let other = format!(
        "name = \"{NARROW}\"\npassword = \"another\"\nserver_user = \"{NARROW}\"\nserver_password = \"{PASSWORD}\"\n"
    );
    let less = good.replace(&line, "").replace(&user, &other);
    assert!(less.contains("another") && !less.contains(&line));
    std::fs::write(&path, &less).unwrap();
    world.router.sighup();
    let gone = poll_until(SOON, || servers() == all - 1);
    verdict.claim(gone, "a server that is taken away is gone", servers());
    let login = |password: &str| {
        let endpoint = world.router.endpoint(NARROW, password, &world.database);
        let mut wire = Wire::connect(endpoint.port);
        let login = wire.try_login(&endpoint, V3_0, &[]);
        login.map(|_| ()).map_err(|error| error.sqlstate())
    };
    let (old, new) = (login(PASSWORD), login("another"));
    let right = old == Err("28P01".to_owned()) && new.is_ok();
    let figure = format!("{old:?} and {new:?}");
    verdict.claim(
        right,
        "the new password lets in, the old one does not",
        figure,
    );
    world.claim_served(verdict);
    let answer = say(&mut inside, &row);
    let stays = answer.rows() == [keys[0].to_string()];
    verdict.claim(stays, "who is in a transaction goes on", answer);
    say(&mut inside, "COMMIT");
    let answer = say(&mut inside, &row);
    let stays = answer.rows() == [keys[0].to_string()];
    verdict.claim(stays, "and after it", answer);
    let answer = say(&mut open, "COMMIT");
    let both = answer.is_done() && world.marked("open") == 2;
    verdict.claim(both, "a transaction that was open commits", answer);
    std::fs::write(&path, &good).unwrap();
    world.router.sighup();
    let back = poll_until(SOON, || servers() == all);
    verdict.claim(back, "and all is as it was", servers());
    world.claim_served(verdict);
    let figures = world.bank.figures();
    verdict.claim(figures.errors.is_empty(), "no transfer fails", figures);
}

/// The first server of the first shard, and once more.
fn twice(good: &str) -> String {
    let at = good.find("[[shard.server]]").unwrap();
    let end = at + good[at..].find("tls = ").unwrap();
    let server = &good[at..end];
    good.replacen(server, &format!("{server}{server}"), 1)
}
