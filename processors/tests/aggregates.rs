//! Aggregates of events, in the ways of Kafka Streams' own tests: windows, grace, sessions, and results that are emitted
//! when a window closes.

#[path = "aggregates/case.rs"]
mod case;
#[path = "aggregates/closed.rs"]
mod closed;
#[path = "aggregates/deliveries.rs"]
mod deliveries;
#[path = "aggregates/fixed.rs"]
mod fixed;
#[path = "aggregates/limits.rs"]
mod limits;
#[path = "aggregates/naive.rs"]
mod naive;
#[path = "aggregates/sessions.rs"]
mod sessions;
#[path = "aggregates/sliding.rs"]
mod sliding;
#[path = "aggregates/values.rs"]
mod values;
#[path = "aggregates/world.rs"]
mod world;
