//! From `topology.yaml` to a topology, or to everything that is wrong with it.

mod dataflow;
mod mistakes;
