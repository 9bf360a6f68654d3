//! What the folders may use. The protocol's parts must stay free of everything that would make a run
//! unrepeatable.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders with what their code must not name.
const RULES: &[(&str, &[&str])] = &[
    (
        "src/txn",
        &[
            "tokio",
            "zmq",
            "std::thread",
            "std::fs",
            "std::net",
            "std::io",
            "Instant",
            "SystemTime",
            "fastrand::u",
            "getrandom",
            "crate::node",
            "crate::storage",
            "crate::runtime",
            "crate::wire",
        ],
    ),
    (
        "src/node",
        &[
            "tokio",
            "zmq",
            "std::thread",
            "std::fs",
            "std::net",
            "std::io",
            "Instant",
            "SystemTime",
            "fastrand::u",
            "getrandom",
            "crate::runtime",
            "crate::frontend",
            "crate::transport",
            "crate::wire",
            "dyn Storage",
            "RandomState",
            "collections::HashMap",
        ],
    ),
    (
        "src/storage",
        &["zmq", "crate::node", "crate::runtime", "crate::frontend", "crate::transport"],
    ),
    (
        "src/anna/client",
        &[
            "zmq::",
            "crate::txn",
            "crate::node",
            "crate::storage",
            "crate::frontend",
            "crate::runtime",
            "crate::anna::server",
        ],
    ),
    (
        "src/anna/server",
        &[
            "zmq::",
            "crate::txn",
            "crate::node",
            "crate::storage",
            "crate::frontend",
            "crate::runtime",
            "crate::anna::client",
        ],
    ),
    (
        "src/anna/client/core",
        &[
            "tokio",
            "std::thread",
            "std::fs",
            "std::net",
            "std::io",
            "Instant",
            "SystemTime",
            "fastrand::u",
            "getrandom",
            "crate::transport",
            "RandomState",
        ],
    ),
    ("src/frontend", &["zmq::", "crate::runtime", "crate::storage"]),
    ("src/runtime", &["zmq::", "crate::manager"]),
    ("src/manager", &["zmq::", "crate::sim", "crate::bench"]),
    ("src/cli", &["zmq::"]),
    ("src/sim", &["tokio", "zmq", "std::thread", "Instant", "SystemTime", "crate::runtime"]),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder exists") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn folders_use_only_what_they_may() {
    let mut broken = Vec::new();
    let mut lines = 0;
    for (folder, forbidden) in RULES {
        let mut files = Vec::new();
        sources(Path::new(folder), &mut files);
        assert!(!files.is_empty(), "{folder} has no sources");
        for file in files {
            let text = fs::read_to_string(&file).expect("readable");
            for (number, line) in text.lines().enumerate() {
                lines += 1;
                // What a comment names, the code does not use.
                let code = line.split("//").next().unwrap_or_default();
                for name in forbidden.iter().filter(|name| code.contains(**name)) {
                    broken.push(format!("{}:{} names {name}", file.display(), number + 1));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(lines > 1_000, "only {lines} lines were looked at");
}
