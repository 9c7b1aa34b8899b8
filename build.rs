//! Link options of the binary, and of the package's tests, examples and benchmarks.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_KAFKA").is_none() {
        return;
    }
    // The functions that take their places, and why: leader_hints.rs and wakeups.rs in streams/src/log/kafka/native.
    println!("cargo::rustc-link-arg=-Wl,--wrap=rd_kafka_metadata_update_op");
    println!("cargo::rustc-link-arg=-Wl,--wrap=rd_kafka_msgq_allow_wakeup_at");
}
