//! What is checked in is what the `.proto` files generate, and a change of them breaks no client.

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The files with services, which reflection describes.
const SERVICES: &[&str] = &[
    "grpc/health/v1/health.proto",
    "grpc/reflection/v1/reflection.proto",
    "tally/v1/events.proto",
    "tally/v1/reads.proto",
];
/// The messages that are read out of JSON.
const RESPONSES: &[&str] = &[
    "GetCountersResponse",
    "BatchGetCountersResponse",
    "SubjectCounters",
    "GetSeriesResponse",
    "WindowCounters",
    "WatchCountersResponse",
    "ListBoardsResponse",
    "Board",
    "GetRankingResponse",
    "RankedSubject",
    "WatchRankingResponse",
    "ListActorsResponse",
    "ReactingActor",
    "ListSubjectsResponse",
    "SubjectOfActor",
    "GetReceiptResponse",
    "NotCounted",
];
/// Fields whose JSON is of another type, and the functions that read them.
const READ_BY: &[(&str, &str)] = &[
    ("as_of", "time"),
    ("after_state", "after_state"),
    ("WindowCounters.start", "time"),
    ("WindowCounters.end", "time"),
    ("ReactingActor.occurred_at", "time"),
    ("SubjectOfActor.occurred_at", "time"),
    ("RankedSubject.score", "exact"),
    ("GetReceiptResponse.state", "receipt_state"),
    ("GetReceiptResponse.not_counted", "not_counted"),
];
/// The files without.
const MESSAGES: &[&str] = &["google/rpc/errors.proto"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn compiled(files: &[&str]) -> FileDescriptorSet {
    protox::compile(files, [root().join("proto")]).unwrap_or_else(|error| panic!("{error}"))
}

/// Compares a file with what it should hold; with `UPDATE_PROTO`, writes it.
fn is_current(path: &Path, expected: &[u8]) {
    if std::env::var_os("UPDATE_PROTO").is_some() {
        fs::write(path, expected).unwrap();
    }
    let found = fs::read(path).unwrap_or_default();
    assert!(found == expected, "{} is out of date: UPDATE_PROTO=1 cargo test -p tally-proto", path.display());
}

#[test]
fn the_generated_files_are_current() {
    let generated = root().join("src/generated");
    let services = compiled(SERVICES);
    let mut all = compiled(MESSAGES);
    all.file.extend(services.file.clone());
    let made = root().join("../target/proto");
    fs::create_dir_all(&made).unwrap();
    let made = tempdir_in(&made);
    let mut config = prost_build::Config::new();
    config.btree_map(["."]).bytes(["."]).out_dir(&made);
    read_from_json(&mut config);
    config.compile_fds(all).unwrap();
    for entry in fs::read_dir(&made).unwrap() {
        let path = entry.unwrap().path();
        is_current(&generated.join(path.file_name().unwrap()), &fs::read(&path).unwrap());
    }
    fs::remove_dir_all(&made).unwrap();
    // Source positions are of no use to clients; comments would go with them.
    is_current(&generated.join("descriptors.bin"), &services.encode_to_vec());
}

/// Responses are read out of the answers of the JSON API (`src/json.rs`).
fn read_from_json(config: &mut prost_build::Config) {
    for message in RESPONSES {
        config.type_attribute(format!("tally.v1.{message}"), "#[derive(serde::Deserialize)] #[serde(default)]");
    }
    for (field, function) in READ_BY {
        config.field_attribute(field, format!("#[serde(deserialize_with = \"crate::json::{function}\")]"));
    }
    config.field_attribute("after_state", "#[serde(rename = \"after\")]");
}

fn tempdir_in(parent: &Path) -> PathBuf {
    let dir = parent.join(std::process::id().to_string());
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// Numbers, names and types on the wire, one per line: whatever was released once stays. Take lines out of the file
/// only with a new version of the package.
#[test]
fn nothing_that_was_released_changes() {
    let files = compiled(SERVICES).file;
    let lines: BTreeSet<String> =
        files.iter().filter(|file| file.package() == "tally.v1").flat_map(described).collect();
    let path = root().join("tests/released.txt");
    let released = fs::read_to_string(&path).unwrap();
    let missing: Vec<_> = released.lines().filter(|line| !lines.contains(*line)).collect();
    assert!(missing.is_empty(), "clients of the released version break without\n{}", missing.join("\n"));
    is_current(&path, lines.into_iter().map(|line| line + "\n").collect::<String>().as_bytes());
}

fn described(file: &FileDescriptorProto) -> Vec<String> {
    let package = file.package();
    let mut lines = Vec::new();
    for service in &file.service {
        for method in &service.method {
            let stream = |is: bool| if is { "stream " } else { "" };
            lines.push(format!(
                "rpc {package}.{}/{} ({}{}) returns ({}{})",
                service.name(),
                method.name(),
                stream(method.client_streaming()),
                method.input_type(),
                stream(method.server_streaming()),
                method.output_type()
            ));
        }
    }
    file.message_type.iter().for_each(|message| message_lines(package, message, &mut lines));
    file.enum_type.iter().for_each(|values| enum_lines(package, values, &mut lines));
    lines
}

fn message_lines(within: &str, message: &DescriptorProto, lines: &mut Vec<String>) {
    let name = format!("{within}.{}", message.name());
    for field in &message.field {
        let of_type = match field.r#type() {
            Type::Message | Type::Enum => field.type_name().to_owned(),
            scalar => scalar.as_str_name().to_owned(),
        };
        let label = match field.label() {
            Label::Repeated => "repeated ",
            _ if field.proto3_optional() => "optional ",
            _ => "",
        };
        let one_of = field.oneof_index.filter(|_| !field.proto3_optional());
        let one_of = one_of.map(|at| format!(" in {}", message.oneof_decl[at as usize].name())).unwrap_or_default();
        lines.push(format!("field {name}.{} = {}: {label}{of_type}{one_of}", field.name(), field.number()));
    }
    message.nested_type.iter().for_each(|nested| message_lines(&name, nested, lines));
    message.enum_type.iter().for_each(|values| enum_lines(&name, values, lines));
}

fn enum_lines(within: &str, values: &EnumDescriptorProto, lines: &mut Vec<String>) {
    for value in &values.value {
        lines.push(format!("value {within}.{}.{} = {}", values.name(), value.name(), value.number()));
    }
}
