//! A topology as text for people.

use super::StorePart;
use super::duration::ConfigDuration;
use super::fields::count;
use super::size::ConfigBytes;
use super::{Node, OnError, Route, Subtopology, Target, Topology};
use crate::log::{Cleanup, TopicSpec};
use crate::processor::Dataflow;

impl<D: Dataflow> Topology<D> {
    /// Settings, subtopologies with nodes and stores, topics and sinks, in aligned columns. Ends with a line break.
    pub fn describe_text(&self) -> String {
        let settings = &self.settings;
        let mut text = format!(
            "application {}, commits every {}, late after {}\n",
            settings.application,
            ConfigDuration(settings.commit_interval),
            ConfigDuration(settings.late_after)
        );
        for subtopology in &self.subtopologies {
            text.push_str(&format!(
                "\nsubtopology {}: reads {} by {}, {}\n",
                subtopology.name,
                subtopology.source,
                subtopology.key,
                count(subtopology.partitions, "partition")
            ));
            let nodes = subtopology.nodes.iter().map(|node| subtopology.row(node)).collect();
            text.push_str(&table(["  node", "type", "takes", "from", "to", "on error"], nodes));
            let stores = subtopology.stores.iter().map(|store| {
                let version = format!("v{}", store.schema_version);
                let content: Vec<_> = store.windows.iter().map(StorePart::to_string).collect();
                [format!("  {}", store.name), store.kind.to_owned(), version, content.join(", ")]
            });
            text.push_str(&table(["  store", "kind", "schema", "content"], stores.collect()));
        }
        let topics = self.topics.iter().map(|(name, topic)| {
            let kept = kept(&topic.spec).unwrap_or_else(|| "for ever".to_owned());
            let mut key = topic.key.join(", ");
            if topic.partition_by != topic.key {
                key = format!("{key} (partitioned by {})", topic.partition_by.join(", "));
            }
            let partitions = topic.spec.partitions.to_string();
            [name.clone(), topic.value.clone(), key, partitions, topic.spec.cleanup.to_string(), kept]
        });
        text.push('\n');
        text.push_str(&table(["topic", "value", "key", "partitions", "cleanup", "kept"], topics.collect()));
        let sinks = self.sinks.iter().map(|sink| {
            let batch = format!("{} or {}", count(sink.records_max as u64, "record"), ConfigDuration(sink.linger));
            [sink.name.clone(), sink.kind.to_owned(), sink.from.join(" "), batch]
        });
        let sinks = table(["sink", "type", "from", "batch"], sinks.collect());
        if !sinks.is_empty() {
            text.push('\n');
            text.push_str(&sinks);
        }
        text
    }
}

impl<D: Dataflow> Topology<D> {
    /// What an embedded log keeps of the topics of the file, for how long: a line for each class that there is.
    pub fn describe_kept(&self) -> Vec<String> {
        let (mut until_replaced, mut by_retention, mut for_ever) = (Vec::new(), Vec::new(), Vec::new());
        for (name, topic) in &self.topics {
            match (topic.spec.cleanup, kept(&topic.spec)) {
                (Cleanup::Compact, _) => until_replaced.push(name.clone()),
                (_, Some(kept)) => by_retention.push(format!("{name} ({kept})")),
                (_, None) => for_ever.push(name.clone()),
            }
        }
        let classes = [
            ("kept by retention", by_retention),
            ("kept until replaced", until_replaced),
            ("kept without limit", for_ever),
        ];
        let classes = classes.into_iter().filter(|(_, topics)| !topics.is_empty());
        classes.map(|(class, topics)| format!("{class}: {}", topics.join(", "))).collect()
    }
}

impl<D: Dataflow> Subtopology<D> {
    fn row(&self, node: &Node<D>) -> [String; 6] {
        let mut to: Vec<&str> = Vec::new();
        for target in node.routes.iter().flat_map(Route::targets) {
            let name = match *target {
                // Readers name it in their own `from`.
                Target::Node(_) => continue,
                Target::Hop(hop) => &self.hops[hop].topic,
                Target::Output(output) => &self.outputs[output].topic,
            };
            if !to.contains(&&**name) {
                to.push(name);
            }
        }
        let on_error = match node.on_error {
            OnError::DeadLetter if self.dead_letters.is_none() => "skip (no dead-letters)",
            OnError::DeadLetter => "dead-letter",
            OnError::Skip => "skip",
            OnError::Halt => "halt",
        };
        let (name, type_name, takes) = (format!("  {}", node.name), node.type_name.to_owned(), node.input.to_owned());
        [name, type_name, takes, node.from.join(" "), to.join(" "), on_error.to_owned()]
    }
}

/// How long or how much of a topic is kept; None: without limit. In bytes only by the embedded log.
fn kept(spec: &TopicSpec) -> Option<String> {
    let time = spec.retention.map(|time| ConfigDuration(time).to_string());
    let bytes = spec.retention_bytes.map(|bytes| format!("at most {}", ConfigBytes(bytes)));
    let parts: Vec<_> = time.into_iter().chain(bytes).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Columns as wide as their widest cell, without blanks at the end of lines; nothing where there are no rows.
fn table<const N: usize>(head: [&str; N], rows: Vec<[String; N]>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let lines: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let mut text = String::new();
    for line in &lines {
        let mut row = String::new();
        for (column, cell) in line.iter().enumerate() {
            let width = lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
            row.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}
