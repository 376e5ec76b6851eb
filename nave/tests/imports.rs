//! The reviewed list of the workspace crates and packages that each crate may depend on.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// For each crate: the workspace crates and the external packages that its code may import. Tests
/// may import more packages.
const ALLOWED: [(&str, &[&str], &[&str]); 14] = [
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
    ("flows", &["hub", "topology", "wire", "workers"], &["serde", "serde_json"]),
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
            "utoipa",
            "uuid",
        ],
    ),
    ("spoke", &["bus", "wire"], &["bytes", "metrics", "redb", "serde", "serde_json", "thiserror", "tokio", "tracing"]),
    (
        "floodlight-sim",
        &["bus", "spoke", "wire"],
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
        &["bus", "floodlight-sim", "flows", "hub", "northbound", "spoke", "topology", "wire", "workers"],
        &["serde", "serde_json", "tokio", "uuid"],
    ),
    (
        "nave",
        &["bus", "floodlight-sim", "flows", "hub", "northbound", "simulation", "spoke", "topology", "wire", "workers"],
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

/// Hub and workers only share messages, and lane code must not depend on networks.
#[test]
fn generic_crates_do_not_name_flows_or_the_speaker() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for name in ["bus", "topology", "coordinator", "hub", "workers"] {
        let mut files = vec![root.join(name).join("src")];
        while let Some(path) = files.pop() {
            if path.is_dir() {
                files.extend(std::fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()));
            } else {
                let code = std::fs::read_to_string(&path).expect("a file");
                for word in ["wire::flow", "wire::speaker"] {
                    assert!(!code.contains(word), "{} names {word}", path.display());
                }
            }
        }
    }
}
