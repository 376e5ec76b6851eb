//! Tests of the embedded bus on disk beyond the conformance suite: after a restart the data is
//! complete, or damage is reported.

#[path = "disk/fixture.rs"]
mod fixture;

#[path = "disk/broken.rs"]
mod broken;
#[path = "disk/full.rs"]
mod full;
#[path = "disk/kept.rs"]
mod kept;
#[path = "disk/killed.rs"]
mod killed;
#[path = "disk/model.rs"]
mod model;
#[path = "disk/reopen.rs"]
mod reopen;
#[path = "disk/synced.rs"]
mod synced;
