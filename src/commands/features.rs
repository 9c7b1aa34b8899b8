//! The parts that this build of tally may lack, in `--help` and `--version`.

use tally_model::MissingFeature;

/// Adds to every help, and to the version, what this build lacks. A build that has everything keeps them as they are.
pub fn with_missing_features(command: clap::Command) -> clap::Command {
    with_missing(command, &missing())
}

fn missing() -> Vec<MissingFeature> {
    let features = [
        (cfg!(feature = "grpc"), MissingFeature::GRPC),
        (cfg!(feature = "kafka"), MissingFeature::KAFKA),
        (cfg!(feature = "mysql"), MissingFeature::MYSQL),
        (cfg!(feature = "redis"), MissingFeature::REDIS),
    ];
    features.into_iter().filter(|(is_built, _)| !is_built).map(|(_, feature)| feature).collect()
}

fn with_missing(command: clap::Command, missing: &[MissingFeature]) -> clap::Command {
    if missing.is_empty() {
        return command;
    }
    let names = missing.iter().map(|feature| feature.name).collect::<Vec<_>>();
    let note = format!("This build has no {}. `cargo build --release` builds all of tally.", names.join(", no "));
    let version = format!("{} (without {})", env!("CARGO_PKG_VERSION"), names.join(", "));
    command.version(version).after_help(&note).mut_subcommands(|subcommand| subcommand.after_help(&note))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::command_line;

    #[test]
    fn what_a_build_lacks_is_in_the_version_and_in_the_help_of_every_subcommand() {
        let mut command = with_missing(command_line(), &[MissingFeature::KAFKA, MissingFeature::REDIS]);
        command.build();
        assert!(command.render_version().ends_with(" (without Kafka, Redis)\n"), "{}", command.render_version());
        let note = "This build has no Kafka, no Redis. `cargo build --release` builds all of tally.";
        assert!(command.render_help().to_string().contains(note));
        for subcommand in command.get_subcommands_mut().filter(|subcommand| subcommand.get_name() != "help") {
            assert!(subcommand.render_long_help().to_string().contains(note), "{}", subcommand.get_name());
        }
        let complete = with_missing(command_line(), &[]).render_help().to_string();
        assert!(!complete.contains("This build"), "{complete}");
    }

    /// `cargo test -p tally --no-default-features --lib`
    #[cfg(not(any(feature = "grpc", feature = "kafka", feature = "mysql", feature = "redis")))]
    #[test]
    fn an_address_that_needs_a_missing_feature_is_wrong_usage_without_its_password() {
        use crate::commands::{Failure, cache};
        use crate::process::kafka::Brokers;
        use tally_sinks::SinkType;

        let redis = "redis+cluster://me:secret@h:1";
        let mysql = "mysql://me:secret@h/db";
        let parsed = |kind: &str, url: &str| (SinkType::of_name(kind).unwrap().parse)(&url.into()).err();
        for (refused, expected) in [
            (Brokers::parse("//me:secret@h:9092").err(), format!("--log kafka:…: {}", MissingFeature::KAFKA)),
            (cache("--cache", redis).err(), format!("--cache redis+cluster://…: {}", MissingFeature::REDIS)),
            (parsed("cache", redis).map(Failure::Usage), MissingFeature::REDIS.to_string()),
            (parsed("database", mysql).map(Failure::Usage), MissingFeature::MYSQL.to_string()),
            (
                tally_sinks::reach(&mysql.into()).err().map(Failure::usage),
                format!("database `mysql://me:…@h/db`: {}", MissingFeature::MYSQL),
            ),
        ] {
            let Some(Failure::Usage(refused)) = refused else { panic!("not refused: {expected}") };
            assert_eq!(refused, expected);
        }
        let version = command_line().render_version();
        assert!(version.ends_with(" (without gRPC, Kafka, MySQL, Redis)\n"), "{version}");
    }
}
