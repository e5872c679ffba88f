//! What is deployed is what the program and the documents say: the compose file, the image, the unit, the dashboard.
//!
//! All without Docker. The files are read as text; YAML by [`Outline`], which knows the part of YAML that they use. The
//! scripts are run, those of PostgreSQL against a real server.

use mothership::config::Config;
use mothership_cluster::{Cluster, free_port};
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Fleet, Folder, Router, Wire, binaries, message, poll_until, proof, spec};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// How long a busy machine may take.
const SOON: Duration = Duration::from_secs(60);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Leaves of a YAML file by their paths: `services.router.image`. Items of a list are numbered: `ports.0`.
struct Outline(BTreeMap<String, String>);

impl Outline {
    /// Block mappings and block lists of plain values; anchors of mappings and `<<` are followed. What is in braces or
    /// brackets stays text.
    fn read(yaml: &str) -> Outline {
        let mut leaves = BTreeMap::new();
        // Where each open level begins, and its path.
        let mut open: Vec<(usize, String)> = Vec::new();
        let mut items: BTreeMap<String, usize> = BTreeMap::new();
        for line in yaml.lines() {
            let content = without_comment(line).trim_end();
            let mut rest = content.trim_start();
            if rest.is_empty() {
                continue;
            }
            let mut indent = content.len() - rest.len();
            open.retain(|(begin, _)| *begin < indent);
            while let Some(item) = rest.strip_prefix("- ") {
                let list = path_of(&open);
                let number = items.entry(list.clone()).or_default();
                open.push((indent, join(&list, &number.to_string())));
                *number += 1;
                indent += rest.len() - item.trim_start().len();
                rest = item.trim_start();
            }
            let here = path_of(&open);
            let (key, value) = match rest.split_once(": ") {
                Some((key, value)) if !rest.starts_with(['"', '[']) => (key, value.trim()),
                _ => match rest.strip_suffix(':') {
                    Some(key) => (key, ""),
                    None => {
                        leaves.insert(here, unquoted(rest));
                        continue;
                    }
                },
            };
            let path = join(&here, key);
            if let Some(anchor) = value.strip_prefix('&') {
                leaves.insert(format!("&{anchor}"), path.clone());
            } else if !value.is_empty() {
                leaves.insert(path.clone(), unquoted(value));
            }
            open.push((indent, path));
        }
        Outline(leaves)
    }

    /// The value at a path, also when it comes from an anchor.
    fn get(&self, path: &str) -> Option<&str> {
        if let Some(value) = self.0.get(path) {
            return Some(value);
        }
        let above = (0..path.len()).filter(|at| path.as_bytes()[*at] == b'.');
        above.into_iter().rev().find_map(|at| {
            let anchor = self.0.get(&format!("{}.<<", &path[..at]))?;
            let origin = self.0.get(&format!("&{}", anchor.strip_prefix('*')?))?;
            self.get(&format!("{origin}{}", &path[at..]))
        })
    }

    /// The names below a path.
    fn names(&self, path: &str) -> BTreeSet<&str> {
        let below = self
            .0
            .keys()
            .filter_map(|key| key.strip_prefix(path)?.strip_prefix('.'));
        below.filter_map(|key| key.split('.').next()).collect()
    }

    /// The items of a list, written in lines or in brackets.
    fn list(&self, path: &str) -> Vec<&str> {
        match self.get(path) {
            Some(flow) => {
                let inner = flow.trim_start_matches('[').trim_end_matches(']');
                inner
                    .split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .collect()
            }
            None => (0..)
                .map_while(|number| self.get(&format!("{path}.{number}")))
                .collect(),
        }
    }

    /// The values of the keys of this name, wherever they are.
    fn all(&self, key: &str) -> Vec<&str> {
        let ending = format!(".{key}");
        self.0
            .iter()
            .filter(|(path, _)| path.ends_with(&ending))
            .map(|(_, value)| value.as_str())
            .collect()
    }
}

fn without_comment(line: &str) -> &str {
    match line.trim_start().starts_with('#') {
        true => "",
        false => line.split(" #").next().unwrap_or_default(),
    }
}

fn unquoted(value: &str) -> String {
    value.trim_matches('"').to_owned()
}

fn join(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    }
}

fn path_of(open: &[(usize, String)]) -> String {
    open.last()
        .map(|(_, path)| path.clone())
        .unwrap_or_default()
}

fn compose() -> Outline {
    Outline::read(&text("docker-compose.yml"))
}

const SHARDS: [&str; 3] = ["shard1", "shard2", "shard3"];

#[test]
fn an_outline_follows_lists_and_anchors() {
    let outline = Outline::read(
        "a: &a\n  image: x:1 # why\n  l:\n    - one\n    - \"two: 2\"\nb: &b\n  <<: *a\n  env:\n    K: v\ns:\n  c:\n    \
         <<: *b\n    f: [p, q]\nj:\n  - name: n\n    at: 5\n",
    );
    assert_eq!(outline.get("s.c.image"), Some("x:1"));
    assert_eq!(outline.get("s.c.env.K"), Some("v"));
    assert_eq!(outline.list("s.c.l"), ["one", "two: 2"]);
    assert_eq!(outline.list("s.c.f"), ["p", "q"]);
    assert_eq!(outline.get("j.0.at"), Some("5"));
    assert_eq!(outline.names("s.c"), BTreeSet::from(["<<", "f"]));
}

#[test]
fn docker_itself_accepts_the_compose_file_where_it_is_installed() {
    // The plugin of docker, or the program before it, which Debian has; neither needs an engine to check a file.
    let commands = [&["docker", "compose"][..], &["docker-compose"][..]];
    let is_there = |command: &&[&str]| {
        let version = Command::new(command[0])
            .args(&command[1..])
            .arg("version")
            .output();
        version.is_ok_and(|version| version.status.success())
    };
    let Some(command) = commands.into_iter().find(is_there) else {
        // Past the capture of the test harness, or nobody would read it.
        let message = "\nSKIP e2e/docker_compose not installed; the other tests read the file\n";
        std::io::Write::write_all(&mut std::io::stderr(), message.as_bytes()).unwrap();
        return;
    };
    let checked = Command::new(command[0])
        .args(&command[1..])
        .args(["config", "--quiet"])
        .current_dir(root())
        .output();
    assert_success(&checked.unwrap());
}

#[test]
fn each_of_three_shards_has_a_primary_and_a_replica_of_it() {
    let compose = compose();
    for shard in SHARDS {
        let (primary, replica) = (format!("{shard}-primary"), format!("{shard}-replica"));
        let of = |service: &str, path: &str| {
            compose
                .get(&format!("services.{service}.{path}"))
                .map(str::to_owned)
        };
        assert_eq!(of(&replica, "environment.PRIMARY").as_ref(), Some(&primary));
        let dependency = of(&replica, &format!("depends_on.{primary}")).unwrap();
        assert!(dependency.contains("service_healthy"));
        assert!(
            of("router", &format!("depends_on.{primary}"))
                .unwrap()
                .contains("service_healthy")
        );
        assert_eq!(of(&primary, "image"), of(&replica, "image"));
        // A replica needs as many as its primary, which needs some for two-phase commit.
        let command = |service: &str| {
            compose
                .list(&format!("services.{service}.command"))
                .join(" ")
        };
        assert_eq!(command(&primary), command(&replica));
        assert!(command(&primary).contains("-cmax_prepared_transactions=200"));
        // A finished copy is put in place by a rename within the volume.
        let data = of(&replica, "environment.PGDATA").unwrap();
        let volume = format!("{replica}:{}", Path::new(&data).parent().unwrap().display());
        assert_eq!(
            compose.list(&format!("services.{replica}.volumes"))[0],
            volume
        );
    }
}

/// The addresses of the members, as the router's configuration and the first of them have them.
const MEMBERS: [&str; 3] = ["docs1", "docs2", "docs3"];

#[test]
fn a_replica_set_is_made_by_its_first_member_and_known_to_the_router() {
    let compose = compose();
    let of = |service: &str, path: &str| {
        let value = compose.get(&format!("services.{service}.{path}"));
        value.map(str::to_owned)
    };
    let all = MEMBERS.map(|member| format!("{member}:27017"));
    // Who has it makes the set; the first of the list is to be the primary, and is itself.
    assert_eq!(of("docs1", "environment.MEMBERS"), Some(all.join(" ")));
    for member in MEMBERS {
        assert_eq!(
            of(member, "environment.MEMBERS").is_some(),
            member == "docs1"
        );
        assert!(
            of("router", &format!("depends_on.{member}"))
                .unwrap()
                .contains("service_healthy")
        );
        let mounted = compose.list(&format!("services.{member}.volumes"));
        assert_eq!(
            mounted,
            [
                &format!("{member}:/data/db"),
                "./deploy/mongodb:/mongodb:ro"
            ]
        );
        let scripts = compose.list(&format!("services.{member}.entrypoint"));
        let scripts = scripts.into_iter().chain(
            compose
                .list(&format!("services.{member}.healthcheck.test"))
                .pop(),
        );
        for script in scripts {
            let file = script.replace("/mongodb/", "deploy/mongodb/");
            assert!(root().join(&file).exists(), "{file}");
        }
        let used = ["member.sh", "healthy.js"]
            .map(|file| text(&format!("deploy/mongodb/{file}")))
            .concat();
        let secrets = compose.list(&format!("services.{member}.secrets"));
        assert!(
            secrets
                .iter()
                .all(|s| used.contains(s) || text("deploy/mongodb/initiate.js").contains(s))
        );
        assert!(
            secrets.contains(&"docs") && secrets.contains(&"docs-key"),
            "{member}"
        );
    }
    // Whoever makes users has their passwords.
    assert!(
        compose
            .list("services.docs1.secrets")
            .contains(&"superuser")
    );
    let folder = secrets();
    let config = router_config(&folder);
    let docs = config
        .shards
        .iter()
        .find(|shard| shard.name.as_str() == "docs")
        .unwrap();
    let addresses: Vec<String> = docs
        .servers
        .iter()
        .map(|server| server.address.value.to_string())
        .collect();
    assert_eq!(addresses, all);
    let user = docs.control_user.as_ref().unwrap().to_string();
    assert!(text("deploy/mongodb/initiate.js").contains(&format!("user: \"{user}\"")));
    assert!(config.tables.declared.iter().any(|table| matches!(
        &table.place,
        mothership::config::Place::Documents { collection, .. } if collection.table == "events"
    )));
}

#[test]
fn every_image_has_a_version_and_every_service_a_health_check() {
    let compose = compose();
    let services = compose.names("services");
    assert_eq!(services.len(), 12, "{services:?}");
    for service in services {
        let image = compose
            .get(&format!("services.{service}.image"))
            .expect(service);
        check_version(image);
        let check = compose.list(&format!("services.{service}.healthcheck.test"));
        let own = compose.get(&format!("services.{service}.build.dockerfile"));
        match own {
            Some(dockerfile) => assert!(text(dockerfile).contains("\nHEALTHCHECK ")),
            None => assert_eq!(check.first(), Some(&"CMD"), "{service}"),
        }
    }
}

fn check_version(image: &str) {
    let version = image.rsplit_once(':').map(|(_, version)| version);
    assert!(
        version.is_some_and(|version| version != "latest"),
        "{image}"
    );
}

#[test]
fn what_services_use_is_there() {
    let compose = compose();
    let (volumes, secrets) = (top_level("volumes"), compose.names("secrets"));
    let ignored = text("deploy/secrets/.gitignore");
    assert!(ignored.starts_with("*\n"), "secrets are not committed");
    for service in compose.names("services") {
        for volume in compose.list(&format!("services.{service}.volumes")) {
            let source = volume.split(':').next().unwrap();
            match source.strip_prefix("./") {
                Some(file) => assert!(root().join(file).exists(), "{file}"),
                None => assert!(volumes.contains(source), "{source}"),
            }
        }
        for secret in compose.list(&format!("services.{service}.secrets")) {
            assert!(secrets.contains(secret), "{secret}");
        }
        for port in compose.list(&format!("services.{service}.ports")) {
            assert!(
                port.starts_with("127.0.0.1:"),
                "{port} is open to everybody"
            );
        }
    }
    for (path, value) in &compose.0 {
        if path.to_uppercase().contains("PASSWORD") {
            assert!(value.starts_with("/run/secrets/"), "{path} is not a file");
        }
    }
}

/// The keys of a section whose entries have no values.
fn top_level(section: &str) -> BTreeSet<String> {
    let compose = text("docker-compose.yml");
    let lines = compose
        .lines()
        .skip_while(|line| *line != format!("{section}:"))
        .skip(1);
    let names = lines.take_while(|line| line.starts_with("  "));
    names
        .map(|line| line.trim().trim_end_matches(':').to_owned())
        .collect()
}

/// Makes the secrets in a copy of their folder.
fn secrets() -> Folder {
    let folder = Folder::new("deploy");
    std::fs::create_dir(folder.path().join("secrets")).unwrap();
    let script = folder.path().join("make-secrets");
    std::fs::copy(root().join("deploy/make-secrets"), &script).unwrap();
    // By its shell: whoever forks meanwhile may still hold the copy open for writing, and then it is "busy".
    assert_success(&Command::new("bash").arg(&script).output().unwrap());
    folder
}

fn assert_success(output: &Output) {
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{}\n{out}{err}", output.status);
}

#[test]
fn secrets_are_made_once_and_differ() {
    let folder = secrets();
    let read = || -> BTreeMap<String, String> {
        let compose = compose();
        let names = compose.names("secrets").into_iter();
        let path = |name: &str| folder.path().join("secrets").join(name);
        names
            .map(|name| {
                (
                    name.to_owned(),
                    std::fs::read_to_string(path(name)).unwrap(),
                )
            })
            .collect()
    };
    let made = read();
    assert_eq!(made.values().collect::<BTreeSet<_>>().len(), made.len());
    assert!(
        made.values()
            .all(|secret| secret.len() == 32 && secret.bytes().all(|b| b.is_ascii_hexdigit()))
    );
    assert_success(
        &Command::new(folder.path().join("make-secrets"))
            .output()
            .unwrap(),
    );
    assert_eq!(read(), made);
}

/// The router's configuration, with the secrets where they were made.
fn router_config(folder: &Folder) -> Config {
    let secrets = folder.path().join("secrets");
    let path = folder.path().join("mothership.toml");
    let written = text("deploy/mothership.toml").replace("/run/secrets", secrets.to_str().unwrap());
    std::fs::write(&path, written).unwrap();
    Config::load(&path).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn the_router_knows_the_servers_of_the_compose_file() {
    let folder = secrets();
    let config = router_config(&folder);
    let written = text("deploy/mothership.toml");
    assert_eq!(config.shards.len(), SHARDS.len() + 1);
    for (shard, name) in config.shards.iter().zip(SHARDS) {
        assert_eq!(shard.servers.len(), 2);
        for role in ["primary", "replica"] {
            assert!(
                written.contains(&format!("address = \"{name}-{role}:5432\"")),
                "{name} {role}"
            );
        }
    }
    let mounted = compose().list("services.router.secrets").join(" ");
    let used = written
        .lines()
        .filter_map(|line| line.split_once("/run/secrets/"));
    for (_, rest) in used {
        let secret = rest.trim_end_matches('"');
        assert!(mounted.contains(secret), "{secret} is not mounted");
    }
}

#[test]
fn all_agree_on_the_ports() {
    let written = text("deploy/mothership.toml");
    assert!(written.contains("port = 6432") && written.contains("port = 9187"));
    let prometheus = Outline::read(&text("deploy/prometheus.yml"));
    assert_eq!(prometheus.all("targets"), ["[\"router:9187\"]"]);
    assert!(text("deploy/healthy").contains("${1:-9187}"));
    assert!(text("deploy/Dockerfile").contains("\nEXPOSE 6432 9187\n"));
    assert!(compose().list("services.router.ports")[0].ends_with(":6432"));
}

#[test]
fn the_image_is_small_and_its_user_has_no_rights() {
    let dockerfile = text("deploy/Dockerfile");
    let of = |word: &str| -> Vec<&str> {
        let lines = dockerfile
            .lines()
            .filter_map(|line| line.strip_prefix(word));
        lines.map(str::trim).collect()
    };
    let stages = of("FROM ");
    assert_eq!(stages.len(), 2, "what builds is not what is shipped");
    stages
        .iter()
        .for_each(|stage| check_version(stage.split(' ').next().unwrap()));
    let user = of("USER ");
    let (uid, _) = user.last().and_then(|user| user.split_once(':')).unwrap();
    assert!(uid.parse::<u32>().is_ok_and(|uid| uid > 0));
    assert_eq!(of("STOPSIGNAL "), ["SIGTERM"]);
    assert!(of("HEALTHCHECK ")[0].ends_with("CMD [\"/usr/local/bin/healthy\"]"));
    // The build's context leaves out everything but what is named.
    let kept = text("deploy/Dockerfile.dockerignore");
    let cargo: toml::Table = text("Cargo.toml").parse().unwrap();
    let members = cargo["workspace"]["members"].as_array().unwrap();
    assert!(members.len() > 5, "{members:?}");
    for member in members.iter().map(|member| member.as_str().unwrap()) {
        let folders = Path::new(member).ancestors();
        assert!(
            folders
                .map(|folder| format!("!{}", folder.display()))
                .any(|line| kept.lines().any(|kept| kept == line)),
            "{member}"
        );
    }
    for copied in of("COPY --chmod=755 ") {
        let source = copied.split(' ').next().unwrap();
        assert!(
            kept.contains(&format!("!{source}")) && root().join(source).exists(),
            "{source}"
        );
    }
}

/// Answers one request with a status line, as the metrics port does.
fn answering(status: &'static str) -> (u16, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        stream
            .write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes())
            .unwrap();
        String::from_utf8(head).unwrap()
    });
    (port, thread)
}

#[test]
fn the_health_check_believes_only_a_200() {
    let check = |port: u16| {
        let script = root().join("deploy/healthy");
        Command::new(script)
            .arg(port.to_string())
            .output()
            .unwrap()
            .status
            .success()
    };
    for (status, healthy) in [
        ("200 OK", true),
        ("503 Service Unavailable", false),
        ("2000 Odd", false),
    ] {
        let (port, request) = answering(status);
        assert_eq!(check(port), healthy, "{status}");
        assert_eq!(request.join().unwrap(), "GET /health/live HTTP/1.0\r\n\r\n");
    }
    assert!(!check(free_port().unwrap()), "nobody listens");
}

/// The values of one directive of the systemd unit.
fn directives<'a>(unit: &'a str, name: &str) -> Vec<&'a str> {
    unit.lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        .collect()
}

#[test]
fn the_unit_starts_reloads_and_stops_as_the_program_wants() {
    let unit = text("deploy/mothership.service");
    let one = |name| match directives(&unit, name)[..] {
        [value] => value,
        ref several => panic!("{name}: {several:?}"),
    };
    assert_eq!(one("ExecReload"), "/bin/kill -HUP $MAINPID");
    assert!(one("ExecStart").contains(" run --config "));
    assert!(one("ExecStartPre").contains(" check-config --config "));
    // After a takeover the main process is one that systemd has not started.
    assert_eq!((one("Type"), one("NotifyAccess")), ("notify", "all"));
    let folder = secrets();
    let config = router_config(&folder);
    let stop: u64 = one("TimeoutStopSec").trim_end_matches('s').parse().unwrap();
    assert!(Duration::from_secs(stop) > config.listen.drain_timeout + Duration::from_secs(3));
    let descriptors: u32 = one("LimitNOFILE").parse().unwrap();
    assert!(descriptors > config.listen.max_clients.get() + config.listen.max_logins.get());
    for hardening in [
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "CapabilityBoundingSet=\n",
    ] {
        assert!(unit.contains(hardening), "{hardening}");
    }
}

#[test]
fn systemd_has_no_complaint_where_it_is_installed() {
    let folder = Folder::new("unit");
    let path = folder.path().join("mothership.service");
    // The binary is not installed on this machine; that is all that would be wrong.
    let unit = text("deploy/mothership.service").replace("/usr/local/bin/mothership", "/bin/true");
    std::fs::write(&path, unit).unwrap();
    match Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&path)
        .output()
    {
        Err(_) => eprintln!("systemd-analyze is not installed"),
        Ok(checked) => {
            assert_success(&checked);
            let complaints = String::from_utf8_lossy(&checked.stderr);
            assert!(!complaints.contains("mothership.service"), "{complaints}");
        }
    }
}

#[test]
fn the_dashboard_asks_for_metrics_that_are_documented() {
    let dashboard: Value =
        serde_json::from_str(&text("deploy/grafana/dashboards/mothership.json")).unwrap();
    let source = Outline::read(&text(
        "deploy/grafana/provisioning/datasources/prometheus.yml",
    ));
    let uid = source.get("datasources.0.uid").unwrap();
    let provider = Outline::read(&text(
        "deploy/grafana/provisioning/dashboards/mothership.yml",
    ));
    let folder = provider.get("providers.0.options.path").unwrap();
    let mounted = compose().list("services.grafana.volumes").join("\n");
    assert!(mounted.contains(&format!("./deploy/grafana/dashboards:{folder}:ro")));
    let documented = std::fs::read_to_string(root().join("docs/metrics.md"));
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(
            ids.insert(panel["id"].as_u64().unwrap()),
            "{}",
            panel["title"]
        );
        for target in panel["targets"].as_array().into_iter().flatten() {
            assert_eq!(target["datasource"]["uid"], uid);
            let expression = target["expr"].as_str().unwrap();
            assert_eq!(
                expression.matches('(').count(),
                expression.matches(')').count(),
                "{expression}"
            );
            for metric in metrics(expression) {
                if let Ok(documented) = &documented {
                    assert!(documented.contains(&format!("| `{metric}` |")), "{metric}");
                }
            }
        }
    }
    assert!(panels.len() > 10);
}

/// The rules of `deploy/alerts.yml` by their names, each with its expression.
fn alerts() -> BTreeMap<String, String> {
    let rules = Outline::read(&text("deploy/alerts.yml"));
    let names = rules.0.iter().filter(|(path, _)| path.ends_with(".alert"));
    names
        .map(|(path, name)| {
            let rule = path.strip_suffix(".alert").expect("it ends so");
            let expression = rules.get(&format!("{rule}.expr"));
            (name.clone(), expression.expect("a rule has one").to_owned())
        })
        .collect()
}

#[test]
fn alerts_fire_for_what_they_say_and_for_nothing_else() {
    let deploy = root().join("deploy");
    let mounted = compose().list("services.prometheus.volumes").join("\n");
    assert!(mounted.contains("./deploy/alerts.yml:/etc/prometheus/alerts.yml:ro"));
    for arguments in [
        ["check", "rules", "alerts.yml"],
        ["check", "config", "prometheus.yml"],
        ["test", "rules", "alerts_test.yml"],
    ] {
        let mut promtool = Command::new("promtool");
        match promtool.args(arguments).current_dir(&deploy).output() {
            Err(_) => {
                println!("SKIP alerts: promtool is not installed (Debian: prometheus)");
                return;
            }
            Ok(done) => assert_success(&done),
        }
    }
}

#[test]
fn alerts_are_documented_and_tested() {
    let (page, tests) = (text("docs/alerts.md"), text("deploy/alerts_test.yml"));
    let alerts = alerts();
    assert!(alerts.len() > 10);
    for alert in alerts.keys() {
        assert!(page.contains(&format!("| `{alert}` |")), "{alert}");
        let fires = format!("{{alertname=\"{alert}\"}}");
        assert!(tests.contains(&fires), "{alert}");
    }
}

#[test]
fn alerts_ask_for_metrics_that_a_router_has() {
    let fleet = Fleet::new(1, 1);
    let more = "[metrics]\nport = @metrics_port@\n";
    let router = Router::start(&proof::config(&fleet, "", "", more));
    let mut client = Wire::login(&router.endpoint(USER, PASSWORD, "postgres"));
    client.rows("SELECT 1");
    let asked = alerts();
    // `up` is Prometheus' own.
    let ours = asked.values().filter(|e| e.contains("mothership_"));
    let asked: BTreeSet<&str> = ours.flat_map(|expression| metrics(expression)).collect();
    // How far the replica is behind is known a little later.
    let mut missing = Vec::new();
    let all = poll_until(SOON, || {
        let page = router.metrics();
        let lines = page.lines().filter(|line| line.starts_with("mothership_"));
        let has: BTreeSet<&str> = lines.flat_map(metrics).collect();
        missing = asked.difference(&has).map(ToString::to_string).collect();
        missing.is_empty()
    });
    assert!(all, "{missing:?}");
}

#[test]
fn whoever_is_refused_for_a_limit_is_counted() {
    let fleet = Fleet::new(1, 0);
    let more = "[metrics]\nport = @metrics_port@\n[pool]\nmax = 1\nqueue_timeout = \"1s\"\n";
    let router = Router::start(&proof::config(&fleet, "max_clients = 2", "", more));
    let endpoint = router.endpoint(USER, PASSWORD, "postgres");
    let (mut holds, mut waits) = (Wire::login(&endpoint), Wire::login(&endpoint));
    holds.rows("BEGIN");
    holds.rows("SELECT 1");
    waits.set_limit(SOON);
    let refused = waits.query("SELECT 1");
    assert_eq!(refused[0].sqlstate(), "53300");
    holds.rows("COMMIT");
    // An error that is nobody's limit.
    let wrong = waits.query("SELECT 1 FROM nothing_of_this_name");
    assert_eq!(wrong[0].sqlstate(), "42P01");
    let mut third = Wire::connect(router.port());
    let refused = third.try_login(&endpoint, message::V3_0, &[]);
    assert_eq!(refused.unwrap_err().sqlstate(), "53300");
    let page = router.metrics();
    let who = format!("database=\"postgres\",user=\"{USER}\"");
    for line in [
        format!("mothership_shed_requests_total{{{who}}} 1"),
        format!("mothership_errors_total{{{who}}} 2"),
        "mothership_shed_clients_total 1".to_owned(),
    ] {
        assert!(page.lines().any(|l| l == line), "{line}\n{page}");
    }
}

/// The names of metrics in an expression; a histogram's without what Prometheus appends.
fn metrics(expression: &str) -> Vec<&str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let names: Vec<&str> = words
        .filter(|word| word.starts_with("mothership_"))
        .collect();
    assert!(!names.is_empty(), "{expression}");
    let plain = |name| {
        ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| str::strip_suffix(name, end))
            .unwrap_or(name)
    };
    names.into_iter().map(plain).collect()
}

#[test]
fn scripts_make_a_primary_and_a_copy_of_it() {
    let folder = secrets();
    let binaries = binaries();
    let cluster = Folder::new("scripts");
    let primary = Cluster::create(&binaries, spec(&cluster, "primary")).unwrap();
    let secrets = folder.path().join("secrets");
    // Separators of a password file, and a quote.
    std::fs::write(secrets.join("replication"), "a:b\\c'd").unwrap();
    let script = |name: &str| {
        let mut command = Command::new(root().join("deploy/postgres").join(name));
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("PATH", format!("{}:{path}", binaries.folder().display()))
            .env("SECRETS", &secrets);
        command
    };
    let made = script("primary.sh")
        .env("PGHOST", primary.socket_folder())
        .env("PGPORT", primary.port().to_string())
        .env("PGDATA", primary.data())
        .output();
    assert_success(&made.unwrap());
    primary.sql("postgres", "SELECT pg_reload_conf()").unwrap();
    let owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'app'";
    assert_eq!(primary.sql("postgres", owner).unwrap(), "app");

    let volume = folder.path().join("volume");
    let copy = volume.join("copy");
    // What an interrupted copy leaves behind.
    std::fs::create_dir_all(volume.join("copy.new/base")).unwrap();
    let replica = |port: u16| {
        let mut command = Command::new("timeout");
        command
            .arg("30")
            .arg(script("replica.sh").get_program())
            .arg("true");
        script("replica.sh").get_envs().for_each(|(name, value)| {
            command.env(name, value.unwrap());
        });
        command
            .env("PRIMARY", "127.0.0.1")
            .env("PRIMARY_PORT", port.to_string())
            .env("PGDATA", &copy);
        command.output().unwrap()
    };
    assert_success(&replica(primary.port()));
    assert!(copy.join("standby.signal").exists() && !volume.join("copy.new").exists());
    let settings = std::fs::read_to_string(copy.join("postgresql.auto.conf")).unwrap();
    assert!(
        settings.contains("primary_slot_name = 'replica'") && settings.contains("user=replicator")
    );
    assert!(!settings.contains("a:b"), "the password stays in its file");
    // The copy is there: its server is started at once, whether or not the primary answers.
    assert_success(&replica(1));
}
