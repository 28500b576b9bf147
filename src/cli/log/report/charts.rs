//! The page's charts. They are drawn of numbers and of our own words alone: names out of records come into the page as
//! data (`page.js` writes them where a chart has a node's number), never as markup.
#![forbid(unsafe_code)]

use charts_rs::{BarChart, Color, SankeyChart, SankeyLink, SankeyNode, Series};

use super::VERDICTS;
use super::flows::Flows;
use super::timeline::{Bar, total};

/// Size in the units of the drawing; the page scales it.
const WIDTH: f32 = 960.0;
const HEIGHT: f32 = 240.0;
/// Between nodes of one layer: room for a line of text.
const GAP: f32 = 17.0;
/// The least part of all requests that a link is drawn for, so that it can be seen.
const THINNEST: f64 = 0.004;
/// Lines of the grid, about.
const LINES: u64 = 4;

/// Requests over time, a stacked bar for each span.
///
/// # Errors
/// What the library could not draw.
pub fn timeline(bars: &[Bar]) -> Result<String, String> {
    let series = VERDICTS.iter().enumerate().map(|(at, word)| {
        let counts = bars.iter().map(|bar| bar.counts.get(at).map(|&count| count as f32)).collect();
        Series { name: word.name().to_owned(), data: counts, stack: Some("all".to_owned()), ..Series::default() }
    });
    let mut chart = BarChart::new(series.collect(), bars.iter().map(|bar| bar.label.clone()).collect());
    let highest = bars.iter().map(|bar| total(bar.counts)).max().unwrap_or(0);
    let (step, lines) = grid(highest);
    for axis in &mut chart.y_axis_configs {
        axis.max = Some(step.saturating_mul(lines) as f32);
        axis.min = Some(0.0);
        axis.split_number = usize::try_from(lines).unwrap_or(1);
        axis.font.size = 12.0;
    }
    chart.base.x_axis.font.size = 12.0;
    chart.base.legend.show = Some(false);
    (chart.base.width, chart.base.height) = (WIDTH, HEIGHT);
    chart.base.background_color = Color::transparent();
    chart.svg().map_err(|error| error.to_string())
}

/// Who asked for what, and what was decided. A node's name in the drawing is its place among the nodes.
///
/// # Errors
/// What the library could not draw.
pub fn flows(flows: &Flows) -> Result<String, String> {
    let all = total(flows.nodes.iter().filter(|(node, _)| node.layer == 0).map(|(_, count)| *count));
    let thinnest = all as f64 * THINNEST;
    let nodes = (0..flows.nodes.len()).map(|at| SankeyNode { name: at.to_string(), color: None });
    let links = flows.links.iter().map(|(from, to, count)| SankeyLink {
        source: from.to_string(),
        target: to.to_string(),
        value: (*count as f64).max(thinnest) as f32,
    });
    let mut chart = SankeyChart::new(nodes.collect(), links.collect());
    let most = (0..3).map(|layer| flows.nodes.iter().filter(|(node, _)| node.layer == layer).count()).max();
    chart.base.width = WIDTH;
    chart.base.height = 120.0 + 26.0 * most.unwrap_or(0) as f32;
    chart.base.background_color = Color::transparent();
    chart.node_gap = GAP;
    chart.node_width = 12.0;
    chart.svg().map_err(|error| error.to_string())
}

/// How far the lines of a grid lie apart, and how many there are above zero, so that `highest` is below the last one.
fn grid(highest: u64) -> (u64, u64) {
    let mut power = 1_u64;
    loop {
        for factor in [1, 2, 5] {
            let step = power.saturating_mul(factor);
            let lines = highest.div_ceil(step).max(1);
            if lines <= LINES {
                return (step, lines);
            }
        }
        power = power.saturating_mul(10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_have_whole_numbers() {
        for (highest, expected) in [
            (0, (1, 1)),
            (1, (1, 1)),
            (4, (1, 4)),
            (5, (2, 3)),
            (17, (5, 4)),
            (21, (10, 3)),
            (u64::MAX, (5_000_000_000_000_000_000, 4)),
        ] {
            assert_eq!(grid(highest), expected, "{highest}");
        }
    }
}
