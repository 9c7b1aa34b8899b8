//! How many events somebody may send.

use std::sync::Arc;
use tally_access::{Buckets, Demands, Over, Rule};
use tally_model::EventFields;

use crate::caller::Caller;

/// An event counts against at most so many limits.
const RULES: usize = 3;

/// The limits of a door, for each minute.
#[derive(Clone, Debug)]
pub struct DoorLimits {
    /// Events from one address.
    pub per_ip: Option<u32>,
    /// Events of [`DoorLimits::switches`] of one actor from one address.
    pub per_actor: Option<u32>,
    /// The types that switch something on or off: like, unlike, follow, unfollow.
    pub switches: Vec<String>,
    /// Where they are counted.
    pub buckets: Arc<Buckets>,
}

/// The places of one event among the demands of its request.
#[derive(Clone, Copy, Default)]
pub(crate) struct Places {
    list: [u32; RULES],
    len: usize,
}

impl Places {
    pub(crate) fn as_slice(&self) -> &[u32] {
        &self.list[..self.len]
    }

    fn push(&mut self, place: u32) {
        self.list[self.len] = place;
        self.len += 1;
    }
}

impl DoorLimits {
    /// What a valid event needs.
    pub(crate) fn demand(&self, fields: &EventFields<'_>, caller: &Caller, demands: &mut Demands) -> Places {
        let mut places = Places::default();
        let mut need = |rule, per_minute: Option<u32>, parts: &[&str]| {
            if let Some(per_minute) = per_minute.filter(|limit| *limit > 0) {
                places.push(demands.add(rule, per_minute, self.buckets.hash(rule, parts)));
            }
        };
        let ip = fields.ip.as_deref().unwrap_or_default();
        let of_key = caller.principal.as_ref().map(|principal| principal.limits).unwrap_or_default();
        if let Some(principal) = &caller.principal {
            need(Rule::Key, of_key.events_per_minute, &[&principal.name]);
        }
        need(Rule::Ip, self.per_ip, &[ip]);
        if fields.event_type.as_deref().is_some_and(|name| self.switches.iter().any(|switch| switch == name)) {
            let actor_id = fields.actor_id.as_deref().unwrap_or_default();
            need(Rule::Actor, of_key.per_actor_per_minute.or(self.per_actor), &[ip, actor_id]);
        }
        places
    }
}

/// In the words of a rejected event.
pub(crate) fn told(over: Over) -> String {
    format!("is over a limit: {over}")
}
