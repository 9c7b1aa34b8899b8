//! Parts of tally that a build may lack: the cargo features of the binary, all of them on by default.

/// A part that this build was made without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this build of tally has no {name}: build it with `cargo build --release`, or with `--features {feature}`")]
pub struct MissingFeature {
    /// As users know it.
    pub name: &'static str,
    /// The cargo feature.
    pub feature: &'static str,
}

impl MissingFeature {
    /// gRPC beside HTTP.
    pub const GRPC: Self = Self { name: "gRPC", feature: "grpc" };
    /// The log on Kafka.
    pub const KAFKA: Self = Self { name: "Kafka", feature: "kafka" };
    /// The database on a server: MySQL or MariaDB.
    pub const MYSQL: Self = Self { name: "MySQL", feature: "mysql" };
    /// The cache and the limits in Redis.
    pub const REDIS: Self = Self { name: "Redis", feature: "redis" };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_feature_is_named_with_the_command_that_builds_it() {
        let expected = "this build of tally has no Kafka: build it with `cargo build --release`, or with \
                        `--features kafka`";
        assert_eq!(MissingFeature::KAFKA.to_string(), expected);
    }
}
