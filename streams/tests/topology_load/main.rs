//! From `topology.yaml` to a topology, or to everything that is wrong with it.

mod dataflow;
mod description;
mod fingerprint;
mod graph;
mod mistakes;
mod mutations;
mod named_outputs;
mod params;
mod rendering;
