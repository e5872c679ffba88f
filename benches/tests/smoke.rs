//! The benchmark as a whole: a short run on real servers goes through and leaves nothing behind. Its figures are not judged.

#![allow(clippy::unwrap_used)]

use mothership_benches::case::Work;
use mothership_cluster::poll_until;
use mothership_driver::order::Ask;
use mothership_tests::mongo::mongod;
use mothership_tests::{Folder, router};
use std::collections::HashSet;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// On a machine that builds something else meanwhile.
const LIMIT: Duration = Duration::from_secs(240);

/// Folders of a unix socket must have short names: what follows is made below `home`.
///
/// One round of one second, with two clients where it can be chosen; PgBouncer is not needed for it.
fn bench(targets: &str, out: &Path, home: &Path) -> Child {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    bench.arg("--router").arg(router::binary());
    bench
        .arg("--driver")
        .arg(router::binary().with_file_name("mothership-driver"));
    bench.args([
        "--rounds",
        "1",
        "--seconds",
        "1",
        "--clients",
        "2",
        "--modes",
        "prepared",
    ]);
    bench.arg("--report").arg(out.with_extension("html"));
    bench.arg("--document").arg(out.with_extension("md"));
    bench.args([
        "--targets",
        targets,
        "--crowd",
        "20",
        "--scale",
        "1",
        "--idle",
        "0",
        "--rows",
        "20000",
        "--documents",
        "2000",
    ]);
    bench.arg("--out").arg(out).env("TMPDIR", home);
    bench.stdout(Stdio::piped()).stderr(Stdio::piped());
    bench.spawn().unwrap()
}

fn is_empty(home: &Path) -> bool {
    std::fs::read_dir(home).unwrap().next().is_none()
}

#[test]
fn a_short_run_measures_every_target_and_leaves_nothing_behind() {
    let (folder, home) = (Folder::new("out"), Folder::new("b"));
    let out = folder.path().join("samples");
    let mut bench = bench("direct,shards,documents,driver", &out, home.path());
    let mut status = None;
    poll_until(LIMIT, || {
        status = bench.try_wait().unwrap();
        status.is_some()
    });
    if status.is_none() {
        bench.kill().unwrap();
    }
    let output = bench.wait_with_output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    // Bars of times may be missed, by what is built without optimisation at any rate.
    let through = match status.and_then(|status| status.code()) {
        Some(0) => true,
        Some(1) => told.trim_end().ends_with("bars are missed"),
        _ => false,
    };
    assert!(through, "{status:?}\n{printed}\n{told}");
    assert!(
        printed.contains("point select, prepared, 2 clients"),
        "{printed}"
    );
    assert!(
        printed.contains("20 clients, no hang, no error"),
        "{printed}"
    );
    let samples = std::fs::read_to_string(&out).unwrap();
    let lines = samples.lines().map(serde_json::from_str);
    let mut lines: Vec<serde_json::Value> = lines.map(Result::unwrap).collect();
    let samples = lines.split_off(1);
    assert_eq!(lines[0]["rounds"], 1, "{lines:?}");
    let of = |target: &str| samples.iter().filter(|s| s["target"] == target).count();
    let works: HashSet<_> = samples
        .iter()
        .map(|s| s["work"].as_str().unwrap())
        .collect();
    let document = std::fs::read_to_string(out.with_extension("md")).unwrap();
    let mut expected = HashSet::from(Work::WORDS);
    let mut loads = 13;
    if !works.contains("traced") {
        // Where nobody may trace, or can: the run goes through, and says so.
        assert!(
            document.contains("System calls are not measured"),
            "{document}"
        );
        expected.remove("traced");
        loads -= 2;
    }
    let mut of_documents = 6;
    if mongod().is_none() {
        // Not by a macro, whose output the harness would keep to itself.
        let _ = writeln!(std::io::stderr(), "SKIP mongo: no mongod can be had");
        assert!(
            document.contains("Tables on MongoDB are not measured"),
            "{document}"
        );
        for ask in Ask::ALL {
            expected.remove(ask.word());
        }
        of_documents = 0;
    }
    assert_eq!(works, expected);
    // Every work once, and the crowd; PostgreSQL itself is only read from, and filled.
    assert_eq!((of("direct"), of("shards")), (2, loads));
    assert_eq!(
        (of("documents"), of("driver"), samples.len()),
        (of_documents, of_documents, loads + 2 + 2 * of_documents)
    );
    let page = std::fs::read_to_string(out.with_extension("html")).unwrap();
    assert!(
        page.contains("<polyline") && page.contains("not measured"),
        "{page}"
    );
    assert!(document.starts_with("# Performance\n"), "{document}");
    for sample in &samples {
        assert!(sample["tps"].as_f64().unwrap() > 0.0, "{sample}");
        let has_cpu = sample["cpu_us"].as_f64().is_some_and(|cpu| cpu > 0.0);
        assert_eq!(has_cpu, sample["target"] != "direct", "{sample}");
        let has_calls = sample["calls"].as_f64().is_some_and(|calls| calls > 0.5);
        assert_eq!(has_calls, sample["work"] == "traced", "{sample}");
    }
    assert!(is_empty(home.path()));
}

#[test]
fn an_interrupted_run_ends_what_it_has_started() {
    let (folder, home) = (Folder::new("out"), Folder::new("b"));
    let home = home.path();
    let mut bench = bench("direct", &folder.path().join("samples"), home);
    // Its folder is the first thing that it makes: servers are being made or run already.
    let begun = poll_until(LIMIT, || {
        !is_empty(home) || bench.try_wait().unwrap().is_some()
    });
    assert!(begun && !is_empty(home));
    let pid = bench.id().try_into().unwrap();
    // SAFETY: kill touches no memory; the child is ours and unreaped.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
    let mut status = None;
    poll_until(LIMIT, || {
        status = bench.try_wait().unwrap();
        status.is_some()
    });
    if status.is_none() {
        bench.kill().unwrap();
    }
    bench.wait().unwrap();
    assert_eq!(status.and_then(|s| s.code()), Some(1));
    assert!(
        is_empty(home),
        "the folder is gone, and with it the servers"
    );
}
