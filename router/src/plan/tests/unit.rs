//! Claims that need more than a statement and its plan.

use mothership_shardmap::ShardId;

use super::*;
use crate::plan::refuse;

fn with<T>(f: impl FnOnce(&Planner<'_>, &ShardMap) -> T) -> T {
    let (catalog, map) = (catalog(), map());
    f(&Planner::new(&catalog, &map), &map)
}

fn bound(sql: &str, types: &[u32], params: &Params<'_>) -> Result<Route, Refusal> {
    with(|planner, map| {
        let context = PlanContext {
            parameter_types: types.to_vec(),
            ..PlanContext::default()
        };
        route(&planner.plan(sql, &context), params, map, &TextContext::UTC)
    })
}

fn shards(sql: &str, types: &[u32], formats: &[i16], values: &[Option<&[u8]>]) -> Vec<u16> {
    let params = Params { formats, values };
    bound(sql, types, &params)
        .unwrap()
        .shards
        .iter()
        .map(|s| s.0)
        .collect()
}

#[test]
fn text_and_binary_parameters_of_every_width_are_one_key() {
    let sql = "SELECT * FROM t WHERE id = $1";
    let literal = shards("SELECT * FROM t WHERE id = 5", &[], &[], &[]);
    for (types, format, value) in [
        (&[][..], 0, &b"5"[..]),
        (&[20], 0, b" 5"),
        (&[], 1, &[0, 0, 0, 0, 0, 0, 0, 5]),
        (&[20], 1, &[0, 0, 0, 0, 0, 0, 0, 5]),
        (&[23], 1, &[0, 0, 0, 5]),
        (&[21], 1, &[0, 5]),
        (&[1700], 0, b"5.0"),
    ] {
        assert_eq!(
            shards(sql, types, &[format], &[Some(value)]),
            literal,
            "{types:?} {value:?}"
        );
    }
    // A null parameter matches no row; one shard answers that.
    assert_eq!(shards(sql, &[], &[], &[None]), [0]);
    // A float compares as float: every shard, with the merge of the plan.
    let all = bound(
        sql,
        &[701],
        &Params {
            formats: &[],
            values: &[Some(b"5")],
        },
    )
    .unwrap();
    assert_eq!((all.shards.len(), all.merge), (4, Some(Merge::Concat)));
    // A parameter that was not bound is not known.
    assert_eq!(bound(sql, &[], &Params::NONE).unwrap().shards.len(), 4);
}

#[test]
fn a_parameter_that_takes_its_type_elsewhere_is_no_key() {
    let five: &[Option<&[u8]>] = &[Some(b"5")];
    assert_eq!(
        shards("SELECT * FROM t WHERE f = $1 AND id = $1", &[], &[], five).len(),
        4
    );
    assert_eq!(
        shards("SELECT * FROM t WHERE id = $1 LIMIT ALL", &[], &[], five).len(),
        1
    );
    assert_eq!(
        shards("SELECT * FROM t WHERE id = $1 AND id = $1", &[], &[], five).len(),
        1
    );
}

#[test]
fn array_parameters_go_to_the_owners_of_their_elements() {
    let sql = "SELECT * FROM t WHERE id = ANY($1)";
    let listed = shards("SELECT * FROM t WHERE id IN (1, 2)", &[], &[], &[]);
    assert_eq!(shards(sql, &[], &[0], &[Some(b"{1,2}")]), listed);
    assert_eq!(shards(sql, &[1016], &[0], &[Some(b"{1,NULL,2}")]), listed);
    let mut binary = Vec::new();
    for int in [1, 0, 23, 2, 1, 4, 1, 4, 2] {
        binary.extend(i32::to_be_bytes(int));
    }
    assert_eq!(shards(sql, &[1007], &[1], &[Some(&binary)]), listed);
    assert_eq!(shards(sql, &[], &[0], &[Some(b"[2:3]={1,2}")]).len(), 4);
    assert_eq!(shards(sql, &[1022], &[0], &[Some(b"{1,2}")]).len(), 4);
}

#[test]
fn the_same_statement_is_refused_or_not_by_its_values() {
    let sql = "SELECT * FROM t WHERE id = ANY($1) ORDER BY a";
    assert_eq!(shards(sql, &[], &[], &[Some(b"{5,5}")]).len(), 1);
    let two = Params {
        formats: &[],
        values: &[Some(b"{1,2}")],
    };
    assert_eq!(bound(sql, &[], &two).unwrap_err().reason, Reason::OrderBy);
}

#[test]
fn an_update_may_keep_its_key_and_not_change_it() {
    let sql = "UPDATE t SET id = $1 WHERE id = $2";
    let route = |new: &[u8], old: &[u8]| {
        bound(
            sql,
            &[],
            &Params {
                formats: &[],
                values: &[Some(new), Some(old)],
            },
        )
    };
    assert_eq!(route(b"5", b"5").unwrap().shards.len(), 1);
    assert_eq!(route(b"6", b"5").unwrap_err().reason, Reason::KeyUpdate);
    let null = Params {
        formats: &[],
        values: &[None, Some(b"5")],
    };
    assert_eq!(
        bound(sql, &[], &null).unwrap_err().reason,
        Reason::KeyUpdate
    );
}

#[test]
fn a_divided_insert_keeps_the_clients_text_around_its_rows() {
    let sql = "INSERT INTO t (id, b) VALUES (1, 'ä(,)'), -- one\n (2, 'b''') , ( $1 ,$2) ON CONFLICT DO NOTHING";
    with(|planner, map| {
        let plan = planner.plan(sql, &PlanContext::default());
        let Plan::Split(Split {
            rows:
                SplitRows::Values {
                    rows,
                    parameter_types,
                    ..
                },
            ..
        }) = &plan
        else {
            panic!("{plan}")
        };
        assert_eq!(parameter_types, &[20, 25]);
        let texts: Vec<&str> = rows.iter().map(|r| &sql[r.span.clone()]).collect();
        assert_eq!(texts, ["(1, 'ä(,)')", "(2, 'b''')", "( $1 ,$2)"]);
        let params = Params {
            formats: &[],
            values: &[Some(b"1"), Some(b"x")],
        };
        let route = route(&plan, &params, map, &TextContext::UTC).unwrap();
        let parts: Vec<(ShardId, String)> = route
            .rows
            .iter()
            .map(|(shard, kept)| (*shard, route::part_of(sql, rows, kept).unwrap()))
            .collect();
        assert_eq!(
            parts,
            [
                (
                    ShardId(2),
                    "INSERT INTO t (id, b) VALUES (1, 'ä(,)'), ( $1 ,$2) ON CONFLICT DO NOTHING"
                        .to_owned()
                ),
                (
                    ShardId(3),
                    "INSERT INTO t (id, b) VALUES (2, 'b''') ON CONFLICT DO NOTHING".to_owned()
                ),
            ]
        );
    });
}

#[test]
fn parameters_of_absent_rows_must_have_a_type() {
    let values: &[Option<&[u8]>] = &[Some(b"1"), Some(b"2"), Some(b"7")];
    let params = Params {
        formats: &[],
        values,
    };
    let sql = "INSERT INTO t (id, a) VALUES ($1, 1), ($2, $3 + 1)";
    assert_eq!(
        bound(sql, &[], &params).unwrap_err().reason,
        Reason::ParameterType
    );
    assert_eq!(bound(sql, &[20, 20, 23], &params).unwrap().shards.len(), 2);
}

#[test]
fn temporary_tables_hide_sharded_ones() {
    with(|planner, map| {
        let plan = |temporary: Temporary, sql: &str| {
            let context = PlanContext {
                temporary,
                ..PlanContext::default()
            };
            planner.plan(sql, &context)
        };
        let named = Temporary::Named(["t".to_owned()].into());
        let sql = "SELECT * FROM t WHERE id = 5";
        assert!(
            plan(named.clone(), sql)
                .to_string()
                .starts_with("Single home")
        );
        assert!(
            plan(named, "SELECT * FROM public.t WHERE id = 5")
                .to_string()
                .starts_with("Single t")
        );
        assert!(
            plan(Temporary::Unclear, sql)
                .to_string()
                .starts_with("Refuse name-unclear")
        );
        let _ = map;
    });
}

#[test]
fn the_search_path_decides_which_table_is_meant() {
    with(|planner, _| {
        let plan = |path: &[&str]| {
            let search_path = path.iter().map(|s| (*s).to_owned()).collect();
            planner.plan(
                "SELECT * FROM t WHERE id = 5",
                &PlanContext {
                    search_path,
                    ..PlanContext::default()
                },
            )
        };
        assert!(
            plan(&["app", "public"])
                .to_string()
                .starts_with("Single home")
        );
        assert!(plan(&["public", "app"]).to_string().starts_with("Single t"));
        assert!(plan(&[]).to_string().contains("unknown=t"));
    });
}

#[test]
fn backslashes_are_not_guessed_without_standard_conforming_strings() {
    with(|planner, _| {
        let context = PlanContext {
            standard_conforming_strings: false,
            ..PlanContext::default()
        };
        let plan = planner.plan("SELECT * FROM t WHERE b = 'a\\' AND id = 5 --'", &context);
        assert!(matches!(plan, Plan::Refuse(_)), "{plan}");
        let plan = planner.plan("SELECT * FROM t WHERE id = 5", &context);
        assert!(matches!(plan, Plan::Single(_)), "{plan}");
    });
}

#[test]
fn depth_and_length_are_refused_and_never_overflow_the_stack() {
    let deep = |open: &str, close: &str, n: usize| {
        format!(
            "SELECT * FROM t WHERE id = {}5{}",
            open.repeat(n),
            close.repeat(n)
        )
    };
    let cases = [
        deep("(", ")", 10_000),
        deep("(SELECT ", ")", 10_000),
        deep("- ", "", 100_000),
        deep("NOT ", "", 100_000),
        format!(
            "SELECT * FROM t WHERE id = 5{}",
            " OR id = 6".repeat(100_000)
        ),
        format!("SELECT * FROM t WHERE id = 5{}", " + 1".repeat(100_000)),
        format!("SELECT * FROM t WHERE id = 5{}", "::int".repeat(100_000)),
        format!(
            "SELECT id FROM t{}",
            " UNION ALL SELECT id FROM t".repeat(50_000)
        ),
        format!("SELECT * FROM t{}", " JOIN t ON true".repeat(20_000)),
        format!(
            "SELECT * FROM {}t{}",
            "(SELECT * FROM ".repeat(5_000),
            ") x".repeat(5_000)
        ),
        format!("SELECT {} FROM t", "CASE WHEN true THEN ".repeat(10_000)),
    ];
    // A thread as small as a runtime's workers.
    std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(move || {
            with(|planner, _| {
                for sql in cases {
                    let plan = planner.plan(&sql, &PlanContext::default());
                    assert!(matches!(plan, Plan::Refuse(_)), "{:.60}: {plan:.200}", sql);
                }
                let long = format!("SELECT * FROM t WHERE id = 5{}", " AND a = 6".repeat(2_000));
                assert!(matches!(
                    planner.plan(&long, &PlanContext::default()),
                    Plan::Single(_)
                ));
                let subscripts = format!("SELECT a{} FROM t", "[1]".repeat(50_000));
                assert!(matches!(
                    planner.plan(&subscripts, &PlanContext::default()),
                    Plan::Scatter(_)
                ));
                let list = format!("SELECT * FROM t WHERE id IN (5{})", ", 5".repeat(20_000));
                assert!(matches!(
                    planner.plan(&list, &PlanContext::default()),
                    Plan::Scatter(_)
                ));
            });
        })
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn nothing_declared_means_everything_at_home() {
    let mut builder = ShardMapBuilder::new(1);
    builder.shard("only");
    let (catalog, map) = (catalog(), builder.build().unwrap());
    let planner = Planner::new(&catalog, &map);
    for sql in [
        "SELECT * FROM t ORDER BY a",
        "any words at all",
        "CALL p_t()",
        "SELECT touch_all('x')",
        "INSERT INTO t DEFAULT VALUES",
        "MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE",
    ] {
        let plan = planner.plan(sql, &PlanContext::default());
        assert!(
            matches!(
                &plan,
                Plan::Single(Single {
                    target: Target::Home,
                    ..
                })
            ),
            "{sql}: {plan}"
        );
    }
}

#[test]
fn refused_md_lists_every_reason() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/refused.md");
    let made = refuse::table();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs")).unwrap();
        std::fs::write(path, &made).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(path).expect("docs/refused.md is there"),
        made
    );
    let mut codes: Vec<&str> = Reason::ALL.iter().map(|r| r.text().code).collect();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), Reason::ALL.len(), "codes are unique");
    for reason in Reason::ALL {
        let text = reason.text();
        assert!(
            !text.message.ends_with('.') && text.hint.ends_with('.'),
            "{}",
            text.code
        );
    }
}

#[test]
fn explain_says_where_and_why() {
    let (catalog, map) = (catalog(), map());
    let explain = |sql| {
        explain(
            sql,
            &catalog,
            &map,
            &PlanContext::default(),
            &Params::NONE,
            &TextContext::UTC,
        )
    };
    let mut said = String::new();
    for sql in [
        "SELECT * FROM p WHERE id = 5",
        "SELECT * FROM t",
        "SELECT count(*), max(id) FROM t WHERE id IN (1, 2, 3)",
        "SELECT * FROM t WHERE id = $1",
        "SELECT * FROM t WHERE id = $1 ORDER BY id LIMIT 1",
        "SELECT * FROM r",
        "INSERT INTO t (id) VALUES (1), (2), (3)",
        "UPDATE t SET a = 1",
        "CREATE INDEX ON t (a)",
        "CREATE INDEX CONCURRENTLY i ON t (a)",
        "CREATE ROLE x",
        "SELECT 1",
        "",
        "SELECT * FROM t LIMIT 1",
        "SELECT * FROM t JOIN u ON t.id = u.id WHERE t.id = 1 AND u.id = 2",
    ] {
        said += &format!("> {sql}\n{}", explain(sql));
    }
    expect_test::expect_file!["explain.expect"].assert_eq(&said);
}

#[test]
fn parameters_are_described_by_the_keys_that_they_are_compared_with() {
    let types = |sql: &str, declared: &[u32]| {
        with(|planner, _| {
            let context = PlanContext {
                parameter_types: declared.to_vec(),
                ..PlanContext::default()
            };
            let plan = planner.plan(sql, &context);
            crate::plan::report::parameter_types(sql, Some(&plan), declared)
        })
    };
    assert_eq!(
        types("SELECT * FROM t WHERE id = $1 AND a = $2", &[]),
        [20, 25]
    );
    assert_eq!(types("SELECT * FROM t WHERE id = $1", &[23]), [23]);
    assert_eq!(types("SELECT * FROM t WHERE id = ANY($1)", &[]), [1016]);
    assert_eq!(
        types("SELECT * FROM uid WHERE id IN ($2, $1)", &[]),
        [2950, 2950]
    );
    assert_eq!(types("INSERT INTO t (id) VALUES ($1), ($2)", &[]), [20, 20]);
    assert_eq!(types("SELECT 1", &[]), [0u32; 0]);
}

#[test]
fn constraints_of_existing_tables_that_cannot_hold_are_reported() {
    with(|planner, _| {
        let found: Vec<String> = planner
            .unenforced()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            found,
            [
                "key-type (table \"ci\")",
                "unique-without-key (constraint \"nokey_key1\" of table \"nokey\")",
            ]
        );
    });
}
