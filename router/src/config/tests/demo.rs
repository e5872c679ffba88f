//! What `mothership demo` writes.

use crate::config::Config;
use mothership_demo::{Ports, configuration};

#[test]
fn the_configuration_of_the_demo_is_accepted_and_says_where_tables_live() {
    let folder = std::env::temp_dir().join(format!("mothership-demo-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("secret"), "x\n").unwrap();
    let ports = Ports {
        clients: 7000,
        metrics: 7001,
    };
    let shards = [("s1", 1, 2), ("s2", 3, 4), ("s3", 5, 6)];
    let path = folder.join("mothership.toml");
    let load = |members: &[String]| {
        std::fs::write(&path, configuration(&shards, members, ports, "secret")).unwrap();
        Config::load(&path).unwrap_or_else(|error| panic!("{error}"))
    };
    let config = load(&[]);
    assert_eq!(config.shards.len(), 3);
    assert_eq!(config.home().name.as_str(), "s1");
    assert_eq!(config.tables.declared.len(), 8);
    #[cfg(feature = "mongo")]
    {
        let config = load(&[7, 8, 9].map(|port| format!("127.0.0.1:{port}")));
        assert_eq!(
            (config.shards.len(), config.shards[3].servers.len()),
            (4, 3)
        );
        assert_eq!(config.home().name.as_str(), "s1");
        assert_eq!(config.tables.declared.len(), 9);
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
