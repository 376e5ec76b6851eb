//! The two spokes: one that gives out rooms, one that gives out cars.

use std::collections::{BTreeMap, BTreeSet};

use nave::spoke::{Call, Spoke, SpokeError};
use serde::{Deserialize, Serialize};

/// What a spoke is asked.
#[derive(Debug, Deserialize)]
pub struct Order {
    /// `book` or `cancel`.
    pub verb: String,
    /// Where.
    pub to: String,
    /// For which trip.
    pub trip: String,
}

/// What it replies.
#[derive(Debug, Serialize)]
pub struct Booked {
    /// The price of what was booked; 0 of what was cancelled.
    pub price: u64,
}

/// Gives out things of one kind, at one price, so many in each place.
#[derive(Debug, Clone)]
pub struct Desk {
    /// The price of each.
    pub price: u64,
    /// So many there are in each place.
    pub stock: usize,
    /// Which trips have one, by place.
    pub given: BTreeMap<String, BTreeSet<String>>,
}

impl Desk {
    /// A desk that has given out nothing.
    pub fn new(price: u64, stock: usize) -> Self {
        Self { price, stock, given: BTreeMap::new() }
    }
}

impl Spoke for Desk {
    type Request = Order;
    type Reply = Booked;

    fn handle(&mut self, _: &Call<'_>, order: Order) -> Result<Booked, SpokeError> {
        let given = self.given.entry(order.to.clone()).or_default();
        match order.verb.as_str() {
            "book" if given.len() < self.stock => {
                given.insert(order.trip);
                Ok(Booked { price: self.price })
            }
            "book" => Err(SpokeError::refuse("sold_out", format!("nothing is left in {}", order.to))),
            // What may have been booked is given back, so it may be that there is nothing.
            "cancel" => {
                given.remove(&order.trip);
                Ok(Booked { price: 0 })
            }
            other => Err(SpokeError::refuse("unknown", format!("`{other}` is neither book nor cancel"))),
        }
    }
}
