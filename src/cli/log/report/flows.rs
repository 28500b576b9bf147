//! Who asked for what, and what was decided: the nodes and links of a graph in three layers, few enough to be read.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::super::summary::Group;
use super::Word;

/// So many requesters, names and rules have nodes of their own; the rest of a layer is one node.
const MOST: [usize; 3] = [16, 20, 10];

/// A node of the graph.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Node {
    /// Its place, from the left: who, what, verdict.
    pub layer: usize,
    /// What it stands for; `None`: all that have no node of their own, or no name.
    pub name: Option<String>,
    /// The verdict, in the last layer.
    pub verdict: Option<Word>,
}

/// The graph.
#[derive(Debug, Default, Serialize)]
pub struct Flows {
    /// Nodes, with the requests that pass them.
    pub nodes: Vec<(Node, u64)>,
    /// From node to node, by their places in `nodes`, so many requests.
    pub links: Vec<(usize, usize, u64)>,
}

impl Flows {
    /// The graph of all groups.
    pub fn new<'a>(groups: impl Iterator<Item = Group<'a>> + Clone) -> Flows {
        let mut sums: BTreeMap<Node, u64> = BTreeMap::new();
        for group in groups.clone() {
            for node in nodes(&group) {
                add(&mut sums, node, group.count);
            }
        }
        let shown = shown(&sums);
        let mut nodes_shown: BTreeMap<Node, u64> = BTreeMap::new();
        let mut links: BTreeMap<(Node, Node), u64> = BTreeMap::new();
        for group in groups {
            let [who, what, verdict] = nodes(&group).map(|node| match shown.contains(&node) {
                true => node,
                false => Node { name: None, ..node },
            });
            for node in [&who, &what, &verdict] {
                add(&mut nodes_shown, node.clone(), group.count);
            }
            add(&mut links, (who, what.clone()), group.count);
            add(&mut links, (what, verdict), group.count);
        }
        // The greatest first; of equal ones by name.
        let mut nodes: Vec<(Node, u64)> = nodes_shown.into_iter().collect();
        nodes.sort_by_key(|(node, count)| (node.layer, std::cmp::Reverse(*count)));
        let places: BTreeMap<&Node, usize> = nodes.iter().enumerate().map(|(at, (node, _))| (node, at)).collect();
        let place = |node: &Node| places.get(node).copied();
        let links = links.iter().filter_map(|((from, to), count)| Some((place(from)?, place(to)?, *count))).collect();
        Flows { links, nodes }
    }
}

fn nodes(group: &Group<'_>) -> [Node; 3] {
    let node = |layer, name: Option<String>| Node { layer, name, verdict: None };
    [
        node(0, group.who.map(ToString::to_string)),
        node(1, group.request.map(ToString::to_string)),
        Node {
            layer: 2,
            // An empty name is the default's, which is not the same as no node of its own.
            name: Some(group.rule.map(ToString::to_string).unwrap_or_default()),
            verdict: Some(Word::of(group.action, group.enforced)),
        },
    ]
}

fn add<K: Ord>(sums: &mut BTreeMap<K, u64>, key: K, count: u64) {
    let sum = sums.entry(key).or_default();
    *sum = sum.saturating_add(count);
}

/// Those with the most requests of each layer.
fn shown(sums: &BTreeMap<Node, u64>) -> BTreeSet<Node> {
    let mut shown = BTreeSet::new();
    for (layer, most) in MOST.into_iter().enumerate() {
        let mut of_layer: Vec<_> = sums.iter().filter(|(node, _)| node.layer == layer).collect();
        of_layer.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        shown.extend(of_layer.into_iter().take(most).map(|(node, _)| node.clone()));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Action;
    use crate::text::Text;

    #[test]
    fn every_request_passes_all_layers() {
        let names: Vec<Text> = (0..50).map(|number| Text::from(format!("n{number}").as_str())).collect();
        let of_hosts = BTreeMap::new();
        let groups = names.iter().enumerate().map(|(at, name)| Group {
            count: at as u64 + 1,
            thinned: 0,
            who: (at % 2 == 0).then_some(name),
            who_is: "unit",
            uid: Some(0),
            request: Some(name),
            action: if at % 3 == 0 { Action::Block } else { Action::Allow },
            enforced: at % 2 == 0,
            rule: (at % 3 == 0).then_some(name),
            first: None,
            last: None,
            of_hosts: &of_hosts,
        });
        let Flows { nodes, links } = Flows::new(groups);
        let all = 50 * 51 / 2;
        for (layer, most) in MOST.into_iter().enumerate() {
            let of_layer: Vec<_> = nodes.iter().filter(|(node, _)| node.layer == layer).collect();
            assert_eq!(of_layer.iter().map(|(_, count)| count).sum::<u64>(), all, "{layer}");
            assert!(of_layer.len() <= most + 3, "{layer}: {}", of_layer.len());
        }
        assert_eq!(links.iter().map(|(_, _, count)| count).sum::<u64>(), 2 * all);
        assert!(links.iter().all(|(from, to, _)| nodes[*from].0.layer + 1 == nodes[*to].0.layer));
        // The greatest has a node of its own, the least has none.
        let has = |name: &str| nodes.iter().any(|(node, _)| node.layer == 1 && node.name.as_deref() == Some(name));
        assert!(has("n49") && !has("n0"));
    }
}
