//! What nodes read, by the names in their `from`.

/// A node that another one reads, or one of its outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read<'a> {
    /// The node that the file names, by its place in [`BuildSite::nodes`](super::BuildSite::nodes).
    pub node: usize,
    /// The named output.
    pub output: Option<&'a str>,
}

/// What a node with these inputs reads, each once.
pub(super) fn read_by<'a, F>(from: impl IntoIterator<Item = &'a str>, nodes: &[(&str, &F)]) -> Vec<Read<'a>> {
    let mut reads: Vec<Read<'a>> = Vec::new();
    for input in from {
        let at = |name: &str| nodes.iter().position(|(known, _)| *known == name);
        // `node.output` is an output of a node, and a topic may have a dot in its name.
        let whole = at(input).map(|node| Read { node, output: None });
        let read = whole.or_else(|| {
            let (node, output) = input.rsplit_once('.')?;
            Some(Read { node: at(node)?, output: Some(output) })
        });
        reads.extend(read.filter(|read| !reads.contains(read)));
    }
    reads
}

/// The nodes that are read, each once.
pub(super) fn inputs_of<'a, F>(reads: &[Read<'_>], nodes: &[(&'a str, &'a F)]) -> Vec<(&'a str, &'a F)> {
    let mut places: Vec<usize> = Vec::new();
    reads.iter().for_each(|read| places.extend(Some(read.node).filter(|node| !places.contains(node))));
    places.into_iter().map(|place| nodes[place]).collect()
}
