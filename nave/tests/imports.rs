//! The reviewed list of the workspace crates and packages that each crate may depend on.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// For each crate: the workspace crates and the external packages that its code may import. Tests
/// may import more packages.
const ALLOWED: [(&str, &[&str], &[&str]); 15] = [
    ("wire", &[], &["humantime", "serde", "serde_json", "thiserror", "uuid"]),
    (
        "bus",
        &["wire"],
        &["bytes", "postcard", "protobuf", "raft-engine", "rdkafka", "serde", "serde_bytes", "thiserror", "tracing"],
    ),
    ("topology", &["bus", "wire"], &["bytes", "metrics", "serde", "serde_json", "thiserror", "tracing", "twox-hash"]),
    ("coordinator", &["topology", "wire"], &["serde"]),
    ("hub", &["coordinator", "topology", "wire"], &["bytes", "schemars", "serde", "serde_json", "serde_path_to_error"]),
    ("workers", &["coordinator", "topology", "wire"], &["bytes", "serde", "serde_json"]),
    ("flow-messages", &["wire"], &["schemars", "serde", "serde_json", "thiserror"]),
    ("flows", &["flow-messages", "hub", "topology", "wire", "workers"], &["serde", "serde_json"]),
    (
        "northbound",
        &["bus", "wire"],
        &[
            "axum",
            "bytes",
            "dashmap",
            "futures-util",
            "hyper",
            "hyper-util",
            "metrics",
            "serde",
            "serde_json",
            "subtle",
            "thiserror",
            "tokio",
            "tracing",
            "uuid",
        ],
    ),
    ("spoke", &["bus", "wire"], &["bytes", "metrics", "redb", "serde", "serde_json", "thiserror", "tokio", "tracing"]),
    (
        "floodlight-sim",
        &["bus", "flow-messages", "spoke", "wire"],
        &[
            "axum",
            "bytes",
            "metrics",
            "redb",
            "serde",
            "serde_json",
            "serde_path_to_error",
            "thiserror",
            "toml",
            "tracing",
        ],
    ),
    (
        "simulation",
        &[
            "bus",
            "floodlight-sim",
            "flow-messages",
            "flows",
            "hub",
            "northbound",
            "spoke",
            "topology",
            "wire",
            "workers",
        ],
        &["serde", "serde_json", "tokio", "uuid"],
    ),
    (
        "nave",
        &[
            "bus",
            "floodlight-sim",
            "flow-messages",
            "flows",
            "hub",
            "northbound",
            "simulation",
            "spoke",
            "topology",
            "wire",
            "workers",
        ],
        &[
            "anyhow",
            "clap",
            "clap_complete",
            "humantime",
            "metrics",
            "metrics-exporter-prometheus",
            "mimalloc",
            "serde",
            "serde_json",
            "serde_path_to_error",
            "strsim",
            "tokio",
            "toml",
            "tracing",
            "tracing-subscriber",
            "ureq",
            "uuid",
        ],
    ),
    ("trip", &["nave"], &["mimalloc", "serde"]),
    (
        "bench",
        &["bus", "coordinator", "floodlight-sim", "nave", "topology", "wire"],
        &["anyhow", "clap", "mimalloc", "rustix", "serde_json", "tokio"],
    ),
];

#[test]
fn crates_import_only_what_the_list_allows() {
    let metadata = MetadataCommand::new().exec().expect("cargo answers");
    let ours: BTreeMap<String, BTreeSet<String>> = metadata
        .workspace_packages()
        .into_iter()
        .map(|package| {
            let normal = package.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal);
            (package.name.to_string(), normal.map(|dependency| dependency.name.clone()).collect())
        })
        .collect();
    let listed: BTreeSet<&str> = ALLOWED.iter().map(|(name, _, _)| *name).collect();
    assert_eq!(ours.keys().map(String::as_str).collect::<BTreeSet<_>>(), listed, "every crate is on the list");
    for (name, crates, packages) in ALLOWED {
        let allowed: BTreeSet<&str> = crates.iter().chain(packages).copied().collect();
        let beyond: Vec<&String> = ours[name].iter().filter(|found| !allowed.contains(found.as_str())).collect();
        assert!(beyond.is_empty(), "`{name}` imports {beyond:?}, which is not on its list");
    }
}
