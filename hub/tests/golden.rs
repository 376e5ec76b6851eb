//! Saved states of every released version can still be loaded.

#[path = "support/positions.rs"]
mod positions;
#[expect(dead_code, reason = "this file uses a part of it")]
#[path = "support/script.rs"]
mod script;
mod support;

use hub::{HubCommand, HubRequest};
use serde_json::json;
use wire::Code;
use wire::command::Command;
use wire::request::Request;

use positions::ask;
use script::{Act, request};
use support::{Input, golden, named};

/// Operations in every position and with every kind of outcome.
#[test]
fn a_hub_loads_the_golden_state_of_every_version() {
    let refused = vec![Act::Refuse(Code::NotFound), Act::End];
    let (mut world, settings) = positions::hub(5, |world| ask(world, "refused", "past", &[refused]));
    let request = request("unread", "past", "r-unread", &[]);
    let body = Request { route: "POST /script".into(), ..Request::new("script", json!("no script")) };
    world.give(Input::Request(HubRequest { body: Ok(body), ..request })).expect("same as its twin");
    ask(&mut world, "cancelled", "d", &[]);
    let (operation, cause) = (named("cancelled"), "c-cancelled".into());
    world.give(Input::Command(HubCommand { operation, cause, command: Command::Cancel })).expect("same as its twin");
    world.save().expect("same as its twin");
    assert_eq!(world.table.unfinished().len(), 7);
    golden("hub", &settings, &world);
}
