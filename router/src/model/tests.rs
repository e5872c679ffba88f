//! DatabaseModels in which a shard is away.

use super::*;
use crate::config::Process;
use mothership_catalog::text::parse;
use mothership_shardmap::ShardId;
use std::path::Path;

const TWO: &str = "[[shard]]\nname = \"a\"\n[[shard.server]]\naddress = \"x:1\"\n\
    [[shard]]\nname = \"b\"\n[[shard.server]]\naddress = \"x:2\"\n";
const THREE: &str = "[[shard]]\nname = \"c\"\n[[shard.server]]\naddress = \"x:3\"\n";

fn config(text: &str) -> Arc<Config> {
    let config = Config::parse(Path::new("m.toml"), text, &Process);
    Arc::new(config.unwrap_or_else(|problems| panic!("{problems}")))
}

/// What a shard with this catalog says; none is away.
fn seen(shards: &[Option<&str>]) -> Vec<Result<ShardReport, Arc<ModelError>>> {
    let seen = shards.iter().map(|text| match text {
        Some(text) => Ok(ShardReport {
            catalog: parse(text).expect("it is written for this test"),
            cluster: 1,
            fingerprint: Fingerprint::of(&[vec![vec![Some((*text).to_owned())]]]),
        }),
        None => Err(Arc::new(ModelError::InRecovery { shard: "x".into() })),
    });
    seen.collect()
}

fn model(config: &Arc<Config>, shards: &[Option<&str>]) -> DatabaseModel {
    let directories = Directories::unread(config);
    let model = DatabaseModel::new(config, ShardId(0), seen(shards), directories, 0);
    model.unwrap_or_else(|mistakes| panic!("{}", list(&mistakes)))
}

const KEYLESS: &str = "table public.t\n column id bigint";
const KEYED: &str = "table public.t\n column id bigint\n primary key id";

#[test]
fn what_may_have_rows_on_a_shard_that_is_away_is_not_read_at_home_alone() {
    let config = config(&format!("[tables]\ndefault = \"auto\"\n{TWO}"));
    let plan = |other: Option<&str>| {
        let model = model(&config, &[Some(KEYLESS), other]);
        model.plan("SELECT count(*) FROM t", &PlanContext::default())
    };
    assert!(matches!(plan(Some("")), Plan::Single(_)));
    // It was sharded by the key that it has lost, or lies at home since it was made: only the other one knows.
    assert!(matches!(plan(Some(KEYLESS)), Plan::Refuse(_)));
    assert!(matches!(plan(None), Plan::Refuse(_)));
}

#[test]
fn differences_are_told_of_the_shards_that_differ() {
    let config = config(&format!("[tables]\ndefault = \"auto\"\n{TWO}{THREE}"));
    let model = model(&config, &[Some(KEYED), None, Some("")]);
    assert_eq!(
        model.findings(),
        [
            "shard b is away, and statements that need it fail: the server of shard x is in recovery, so its catalog \
             may lack what clients were told of",
            "relation public.t is not on both a and c",
        ]
    );
    assert_eq!(
        model.away().map(|(shard, _)| shard).collect::<Vec<_>>(),
        [ShardId(1)]
    );
    assert_eq!(
        (
            model.some_known(),
            model.cluster(ShardId(1)),
            model.cluster(ShardId(2))
        ),
        (Some(ShardId(0)), None, Some(1))
    );
}

#[test]
fn without_the_home_shard_a_model_holds_as_long_as_the_others_say_the_same() {
    let text = format!("[[table]]\nname = \"t\"\nkey = \"id\"\nkey_type = \"int8\"\n{TWO}{THREE}");
    let config = config(&text);
    let before = model(&config, &[Some(KEYED), Some(KEYED), None]);
    let without =
        |shards: &[Option<&str>]| before.without_home(&config, ShardId(0), &seen(shards), 5);
    let same = without(&[None, Some(KEYED), Some(KEYED)]).unwrap_or_else(|why| panic!("{why}"));
    assert!(same.version > before.version && same.epoch == 5);
    // The third has come back, but nobody can say whether it fits.
    assert_eq!(
        same.away().map(|(shard, _)| shard).collect::<Vec<_>>(),
        [ShardId(0), ShardId(2)]
    );
    assert!(same.lacks_more_than(&before) && !before.lacks_more_than(&same));
    let changed = without(&[None, Some(KEYLESS), None]);
    assert!(changed.is_err_and(|why| why.contains("definitions")));
    let other = self::config(&text);
    let changed = before.without_home(&other, ShardId(0), &seen(&[None, Some(KEYED), None]), 5);
    assert!(changed.is_err_and(|why| why.contains("configuration")));
}
