//! Closed windows as events: what nodes that read `<node>.closed` are given.

use super::{Node, Subject};
use crate::counting::aggregation::{WINDOW_END, WINDOW_START};
use crate::dataflow::Actions;
use crate::item::{Action, Item};
use tally_model::{Event, MetricValue};
use tally_streams::processor::{Context, Origin, Released};
use xxhash_rust::xxh3::Xxh3;

/// The kind of values that no node takes by name: only nodes that take every kind get them.
const NO_KIND: usize = usize::MAX;

impl Node {
    /// Sends a closed window to the nodes that read such. Its time is the last moment of the window, and it counts as
    /// appended at the last moment at which a record could have changed it: both follow from the window alone, as does its
    /// place among others of the same time. So nothing depends on when the window was closed.
    pub(super) fn send_closed(
        &self,
        context: &mut Context<'_, Actions>,
        subject: Subject<'_>,
        (start_ms, end_ms): (i64, i64),
        results: &[MetricValue],
    ) {
        let Some(output) = self.closed else { return };
        let (aggregation, window) = (&self.aggregation, &self.windows()[subject.kind]);
        let effective_ms = end_ms - 1;
        let append_ms = effective_ms + window.closes_after_ms(aggregation.grace_ms);
        let place = place(&[subject.subject_id.as_bytes(), aggregation.node.as_bytes(), &start_ms.to_le_bytes()]);
        let values = aggregation.values.iter().zip(results);
        let values = values.map(|(value, result)| (value.name().to_owned(), result.clone()));
        let times = [(WINDOW_START, start_ms), (WINDOW_END, end_ms)];
        let times = times.map(|(name, time_ms)| (name.to_owned(), MetricValue::Integer(time_ms)));
        let id = format!("{place:016x}");
        let event = Event::computed(
            &id,
            &aggregation.closed_name(),
            subject.subject_id.clone(),
            effective_ms,
            values.chain(times),
        );
        let mut json = Vec::new();
        event.write_json(&mut json);
        let record = (subject.subject_id.as_bytes().to_vec(), json);
        let origin = Origin {
            partition: context.origin().partition,
            offset: place,
            append_time_ms: append_ms,
            clock_ms: append_ms,
            ..Origin::default()
        };
        let value = Item::Event(Action { event, kind: NO_KIND, effective_ms, seq: None, closed: true });
        context.release_to(output, Released { value, origin, record });
    }
}

/// Without the secret seed of other hashes, which a replay may have another one of.
fn place(parts: &[&[u8]]) -> u64 {
    let mut hasher = Xxh3::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.digest()
}
