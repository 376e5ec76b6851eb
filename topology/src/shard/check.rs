//! Checks whether a build can continue the saved lanes of a stage, before it takes any of them
//! over.

use std::sync::Arc;

use bus::{Bus, BusError};
use wire::topics::Topics;

use super::image::{Build, Image};
use super::standby::Standby;
use crate::input::Unreadable;
use crate::plan::Topology;
use crate::settings::Settings;

/// Maximum number of reported states per lane: a changed schema affects all operations of a
/// workflow.
const NAMED: usize = 100;

/// Returns the saved states that this build cannot continue: lane and reason, as in the status of a
/// held lane. It writes nothing and takes no lane over. Empty if the stage has no lane.
///
/// # Errors
/// If the bus does not answer, or the stage's topics do not exist.
pub fn incompatible(
    bus: &Arc<dyn Bus>,
    topology: &Topology,
    topics: &Topics,
    stage: &str,
) -> Result<Vec<(u32, String)>, BusError> {
    let mut found = Vec::new();
    let lanes = topology.stages().into_iter().find(|known| *known.name == *stage).map_or(0, |stage| stage.lanes);
    if lanes == 0 {
        return Ok(found);
    }
    let versions = topology.lane(topics, stage, 0).saved().clone();
    let build = Build { versions, graph: topology.graph(), decides_by: topology.decides_by(stage) };
    let mut standby = Standby::new(Arc::clone(bus), topics.snapshot(topology.name(), stage).into());
    (0..lanes).for_each(|lane| standby.follow(lane));
    for lane in 0..lanes {
        let image = standby.take(lane, None)?;
        let why = |reason: String| (lane, reason);
        found.extend(of_lane(&image, &build, topology, topics, stage, lane).into_iter().map(why));
    }
    Ok(found)
}

fn of_lane(image: &Image, build: &Build, topology: &Topology, topics: &Topics, stage: &str, lane: u32) -> Vec<String> {
    let head = match image.head(build) {
        Ok(None) => return Vec::new(),
        Ok(Some(head)) => head,
        Err(error) => return vec![error.to_string()],
    };
    let mut made = topology.lane(topics, stage, lane);
    made.configure(Settings::new(head.lane.settings.clone()));
    let mut found: Vec<String> = image
        .states()
        .filter_map(|state| match state {
            Ok((key, state)) => made.load(key, &head.lane.components, &state).err().map(|Unreadable(why)| why),
            Err(error) => Some(error.to_string()),
        })
        .take(NAMED)
        .collect();
    if found.is_empty() {
        found.extend(made.loaded().err().map(|Unreadable(why)| why));
    }
    found
}
