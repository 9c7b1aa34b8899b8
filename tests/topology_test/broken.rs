//! Node types with one mistake each, of the kinds that `always` is there to find. A run in order does not see them.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use tally_processors::{Actions, Item, REGISTRY};
use tally_streams::processor::{Context, Processor, Reject};
use tally_streams::topology::{Blueprint, BuildSite, NodeType, Parsed, StoreSpec};

/// The node types of the program, and the broken ones.
pub fn registry() -> Vec<NodeType<Actions>> {
    let shipped = REGISTRY.iter().map(|shipped| NodeType { ..*shipped });
    let broken = [("forgetful", forgetful as Parse), ("mixed_up", mixed_up), ("impatient", impatient)];
    let broken = broken.map(|(name, parse)| NodeType {
        name,
        about: "is broken",
        input: "event",
        outputs: &["event"],
        key: None,
        partitions: None,
        then: None,
        params: Vec::new,
        parse,
    });
    shipped.chain(broken).collect()
}

type Parse = fn(&str, &tally_streams::topology::Params) -> Parsed<Actions>;

fn forgetful(_: &str, _: &tally_streams::topology::Params) -> Parsed<Actions> {
    blueprint(|| Box::new(Forgetful::default()))
}

fn mixed_up(_: &str, _: &tally_streams::topology::Params) -> Parsed<Actions> {
    let last = Arc::new(Mutex::new(String::new()));
    blueprint(move || Box::new(MixedUp { last: last.clone() }))
}

fn impatient(_: &str, _: &tally_streams::topology::Params) -> Parsed<Actions> {
    blueprint(|| Box::new(Impatient::default()))
}

/// A node whose processors are made by a function, without stores.
fn blueprint(make: impl Fn() -> Box<dyn Processor<Actions>> + Send + Sync + 'static) -> Parsed<Actions> {
    Ok(Box::new(Broken(make)))
}

struct Broken<F>(F);

impl<F: Fn() -> Box<dyn Processor<Actions>> + Send + Sync> Blueprint<Actions> for Broken<F> {
    fn stores(&self) -> Vec<StoreSpec> {
        Vec::new()
    }

    fn build(&self, _: &BuildSite<'_, Actions>) -> Box<dyn Processor<Actions>> {
        (self.0)()
    }
}

/// Drops repeats, and keeps the ids in memory instead of a store.
#[derive(Default)]
struct Forgetful {
    seen: HashSet<String>,
}

impl Processor<Actions> for Forgetful {
    fn process(&mut self, context: &mut Context<'_, Actions>, item: &Item) -> Result<(), Reject<Item>> {
        let Item::Event(action) = item else { return Ok(()) };
        if self.seen.insert(action.event.event_id().to_owned()) {
            context.pass();
        }
        Ok(())
    }
}

/// Drops an event of the same actor as the one before it, in whatever partition that was.
struct MixedUp {
    last: Arc<Mutex<String>>,
}

impl Processor<Actions> for MixedUp {
    fn process(&mut self, context: &mut Context<'_, Actions>, item: &Item) -> Result<(), Reject<Item>> {
        let Item::Event(action) = item else { return Ok(()) };
        let actor = action.event.actor_id().to_owned();
        if std::mem::replace(&mut *self.last.lock().unwrap(), actor.clone()) != actor {
            context.pass();
        }
        Ok(())
    }
}

/// Passes one event per commit.
#[derive(Default)]
struct Impatient {
    has_passed: bool,
}

impl Processor<Actions> for Impatient {
    fn process(&mut self, context: &mut Context<'_, Actions>, _: &Item) -> Result<(), Reject<Item>> {
        if !std::mem::replace(&mut self.has_passed, true) {
            context.pass();
        }
        Ok(())
    }

    fn flush(&mut self, _: &mut Context<'_, Actions>) {
        self.has_passed = false;
    }

    fn discard(&mut self) {
        self.has_passed = false;
    }
}
