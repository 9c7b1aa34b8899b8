//! The limits on a caller's actions, the same in each API that takes them: events in the ingest API, collects in the API.

use crate::buckets::{Buckets, Demands, Over, Rule};
use crate::principal::Principal;
use std::sync::Arc;
use tally_model::source_of;

/// Most limits that one action counts against.
const RULES: usize = 3;

/// Default number of leading bits by which IPv6 addresses count as one: a host usually has its own /64.
pub const IPV6_PREFIX_BITS: u8 = 64;

/// The limits of actions, for each minute.
#[derive(Clone, Debug)]
pub struct ActionLimits {
    /// Actions from one address.
    pub per_ip: Option<u32>,
    /// Actions of [`ActionLimits::switches`] of one actor from one address.
    pub per_actor: Option<u32>,
    /// IPv6 addresses that share this many leading bits count as one.
    pub ipv6_prefix_bits: u8,
    /// The types that switch something on or off: like, unlike, follow, unfollow.
    pub switches: Vec<String>,
    /// Where they are counted.
    pub buckets: Arc<Buckets>,
}

/// What is done, and by whom.
#[derive(Clone, Copy, Debug)]
pub struct Action<'a> {
    /// None in a process without authentication.
    pub principal: Option<&'a Principal>,
    /// Where it comes from; empty where that is not known.
    pub ip: &'a str,
    /// The type of the event that the action is or causes.
    pub event_type: &'a str,
    /// The actor; empty for none.
    pub actor_id: &'a str,
}

/// The places of one action among the demands of its request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Places {
    list: [u32; RULES],
    len: usize,
}

impl Places {
    /// For [`Grants::take`](crate::Grants::take).
    pub fn as_slice(&self) -> &[u32] {
        &self.list[..self.len]
    }

    fn push(&mut self, place: u32) {
        self.list[self.len] = place;
        self.len += 1;
    }
}

impl ActionLimits {
    /// What an action needs, added to the demands of its request.
    pub fn demand(&self, action: Action<'_>, demands: &mut Demands) -> Places {
        let mut places = Places::default();
        let mut need = |rule, per_minute: Option<u32>, parts: &[&str]| {
            if let Some(per_minute) = per_minute.filter(|limit| *limit > 0) {
                places.push(demands.add(rule, per_minute, self.buckets.hash(rule, parts)));
            }
        };
        // The network is computed only if a limit counts by address.
        let per_actor = self.switches.iter().any(|switch| switch == action.event_type);
        let source = match per_actor || self.per_ip.is_some_and(|limit| limit > 0) {
            true => source_of(action.ip, self.ipv6_prefix_bits),
            false => "".into(),
        };
        let of_key = action.principal.map(|principal| principal.limits).unwrap_or_default();
        if let Some(principal) = action.principal {
            need(Rule::Key, of_key.events_per_minute, &[&principal.name]);
        }
        need(Rule::Ip, self.per_ip, &[&source]);
        if per_actor {
            need(Rule::Actor, of_key.per_actor_per_minute.or(self.per_actor), &[&source, action.actor_id]);
        }
        places
    }

    /// Admits an action that is a request of its own.
    pub async fn admit(&self, action: Action<'_>) -> Result<(), Over> {
        let mut demands = Demands::default();
        let places = self.demand(action, &mut demands);
        if demands.is_empty() {
            return Ok(());
        }
        self.buckets.admit(demands).await.take(places.as_slice())
    }
}

#[cfg(test)]
#[path = "action_limits/tests.rs"]
mod tests;
