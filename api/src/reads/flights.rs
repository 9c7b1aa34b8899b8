//! Single flight: readers that miss the same key at the same time share one load.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The loads that are under way, by key.
pub struct Flights<V>(Arc<Mutex<UnderWay<V>>>);

type UnderWay<V> = HashMap<Arc<str>, watch::Receiver<Option<V>>>;

/// Loads that one task does. However the task ends, no reader joins them afterwards.
pub struct Flight<V> {
    flights: Flights<V>,
    loads: Vec<(Arc<str>, watch::Sender<Option<V>>)>,
}

/// The value that a load will bring.
pub struct Landing<V>(watch::Receiver<Option<V>>);

impl<V> Default for Flights<V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<V> Flights<V> {
    /// Joins the loads of these keys that are under way. The flight is what the caller has to load: the keys that no
    /// other flight loads; None where there are none. A load that is joined may have begun a moment ago.
    pub fn join(&self, ids: &[&str]) -> (Vec<Landing<V>>, Option<Flight<V>>) {
        let (mut landings, mut loads) = (Vec::with_capacity(ids.len()), Vec::new());
        let mut under_way = self.lock();
        for id in ids {
            if let Some(load) = under_way.get(*id) {
                landings.push(Landing(load.clone()));
                continue;
            }
            let (id, (sender, receiver)) = (Arc::<str>::from(*id), watch::channel(None));
            under_way.insert(id.clone(), receiver.clone());
            loads.push((id, sender));
            landings.push(Landing(receiver));
        }
        drop(under_way);
        let flight = (!loads.is_empty()).then(|| Flight { flights: Self(self.0.clone()), loads });
        (landings, flight)
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay<V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> Flight<V> {
    /// The keys to load.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.loads.iter().map(|(id, _)| &**id)
    }

    /// Hands the values, in the order of the keys, to all who wait for them.
    pub fn land(self, values: impl IntoIterator<Item = V>) {
        for ((_, load), value) in self.loads.iter().zip(values) {
            load.send_replace(Some(value));
        }
    }
}

impl<V> Drop for Flight<V> {
    fn drop(&mut self) {
        let mut under_way = self.flights.lock();
        self.loads.iter().for_each(|(id, _)| drop(under_way.remove(id)));
    }
}

impl<V: Clone> Landing<V> {
    /// Waits for the value; None where the load ended without one.
    pub async fn value(mut self) -> Option<V> {
        let landed = self.0.wait_for(Option::is_some).await;
        landed.ok().and_then(|value| value.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_is_loaded_once_until_its_flight_ends() {
        let flights = Flights::<i64>::default();
        let (first, flight) = flights.join(&["a", "b"]);
        let flight = flight.unwrap();
        assert_eq!(flight.ids().collect::<Vec<_>>(), ["a", "b"]);
        let (second, joined) = flights.join(&["b", "a"]);
        assert!(joined.is_none());
        flight.land([1, 2]);
        for (landings, expected) in [(first, [1, 2]), (second, [2, 1])] {
            for (landing, value) in landings.into_iter().zip(expected) {
                assert_eq!(landing.value().await, Some(value));
            }
        }
        // A cancelled flight returns nothing and does not block the next one.
        let (waiting, flight) = flights.join(&["a"]);
        drop(flight);
        for landing in waiting {
            assert_eq!(landing.value().await, None);
        }
        assert!(flights.join(&["a"]).1.is_some());
    }
}
