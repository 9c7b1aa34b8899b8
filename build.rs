//! Link options of the binary, and of the package's tests, examples and benchmarks.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_KAFKA").is_none() {
        return;
    }
    // The function that takes its place, and why: streams/src/log/kafka/native/leader_hints.rs.
    println!("cargo::rustc-link-arg=-Wl,--wrap=rd_kafka_metadata_update_op");
}
