//! Operations saved by another version of their workflow: `migrate` converts them, or they are
//! refused by name.

use hub::check::load;
use hub::{Event, Fx, Illegal, SavedWorkflow, Workflow};
use serde::{Deserialize, Serialize};
use serde_json::json;
use wire::{OperationId, Problem};

hub::states! {
    /// The state of an order.
    pub enum OrderState { New = "-", Paying = "paying" }
}

/// An order. Version 1 had no currency; version 2 has one, without a default.
#[derive(Serialize, Deserialize)]
struct Order<const VERSION: u32> {
    item: String,
    currency: String,
}

impl<const VERSION: u32> Workflow for Order<VERSION> {
    const NAME: &'static str = "order";
    const VERSION: u32 = VERSION;
    type State = OrderState;
    type Request = String;
    type Lane = ();

    fn migrate(from: u32, mut saved: SavedWorkflow) -> Result<SavedWorkflow, String> {
        if from != 2 {
            return Err(format!("there is no migration from version {from}"));
        }
        saved.body["currency"] = json!("EUR");
        Ok(saved)
    }

    fn begin(_: &OperationId, _: &str, item: String) -> Result<Self, Problem> {
        Ok(Self { item, currency: "EUR".into() })
    }

    fn on(&mut self, _: OrderState, _: &Event, _: &mut Fx<'_, Self>) -> Result<OrderState, Illegal> {
        Err(Illegal)
    }
}

fn saved(version: u32, state: &str, body: &str) -> String {
    format!(r#"{{"workflow":"order","version":{version},"state":"{state}","body":{body}}}"#)
}

#[test]
fn an_operation_of_an_older_version_is_migrated() {
    let old = saved(2, "paying", r#"{"item":"tea"}"#);
    assert_eq!(load::<Order<3>>(&old).unwrap(), saved(3, "paying", r#"{"item":"tea","currency":"EUR"}"#));
}

#[test]
fn a_load_error_names_workflow_version_and_reason() {
    let refused = |saved: String| load::<Order<3>>(&saved).unwrap_err();
    let without = saved(3, "paying", r#"{"item":"tea"}"#);
    assert!(refused(without).starts_with("workflow `order`, saved by version 3: missing field `currency`"));
    let newer = saved(4, "paying", "{}");
    assert!(refused(newer).starts_with("workflow `order`, saved by version 4: this build has version 3"));
    let oldest = saved(1, "paying", "{}");
    assert!(refused(oldest).starts_with("workflow `order`, saved by version 1: there is no migration from version 1"));
    let renamed = saved(3, "charging", r#"{"item":"tea","currency":"EUR"}"#);
    assert!(refused(renamed).starts_with("workflow `order`, saved by version 3: this build has no state `charging`"));
}
