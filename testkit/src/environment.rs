//! The services that a test run has: the environment names them, `deploy/services.sh` starts them.

use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whether a test that lacks a service must fail instead of being skipped; `make test` demands it.
pub fn services_required() -> bool {
    std::env::var("TALLY_TEST_SERVICES").is_ok_and(|value| value == "required")
}

/// A test lacks something: prints what, for the test to return. Panics where services are required.
#[track_caller]
pub fn skip(missing: &str) {
    assert!(!services_required(), "{missing}");
    println!("skipped: {missing}");
}

/// The address of a service, from a variable of the environment. Without one the test is to be skipped; see [`skip`].
#[track_caller]
pub fn service(variable: &str) -> Option<String> {
    let address = optional_service(variable);
    if address.is_none() {
        skip(&format!("{variable} is not set: `deploy/services.sh start DIR`, then `source DIR/env`"));
    }
    address
}

/// The same for a service that cannot be had everywhere, like MySQL.
pub fn optional_service(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|address| !address.is_empty())
}

/// The address of a Redis with a prefix that no other test has.
pub fn with_prefix(url: &str) -> String {
    format!("{url}?prefix=test-{:016x}%3A", RandomState::new().hash_one(std::process::id()))
}

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// `deploy/services.sh`.
pub fn services_script() -> PathBuf {
    repository().join("deploy/services.sh")
}

/// Runs `deploy/services.sh` to its end and returns what it prints. Panics where it fails. `environment` is added to that
/// of the test.
#[track_caller]
pub fn deploy_services(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = Command::new("bash");
    command.arg(services_script()).args(arguments).envs(environment.iter().copied());
    let run = command.output().unwrap();
    assert!(run.status.success(), "deploy/services.sh {arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).unwrap()
}
