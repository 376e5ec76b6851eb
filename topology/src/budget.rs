//! Who waits for whom, and for how long: checked when a topology is built, so that no parent gives up before its child.

/// One side of a wait, as a component tells it; see [`crate::Bolt::budgets`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Budget {
    /// Whoever asks for `what` may have to wait so long.
    Takes {
        /// What is asked for: a service.
        what: String,
        /// The longest, in milliseconds.
        ms: u64,
        /// How it comes about: "3 x 400 ms + 300 ms back-off".
        because: String,
    },
    /// Somebody waits for `what` no longer than this.
    Allows {
        /// Who waits: "workflow create-flow, step install rules".
        who: String,
        /// What it waits for: a service that another component [`Budget::Takes`] time for.
        what: String,
        /// So long, in milliseconds.
        ms: u64,
        /// What its setting is called, and what else would do: "give the call at least that, or the calls fewer attempts".
        remedy: String,
    },
}

/// What is too short: who, for what, how long, and how long it may take because of what.
pub(crate) fn too_short(budgets: &[Budget]) -> Vec<String> {
    budgets.iter().filter_map(|budget| shortfall(budget, budgets)).collect()
}

fn shortfall(waits: &Budget, budgets: &[Budget]) -> Option<String> {
    let Budget::Allows { who, what, ms, remedy } = waits else { return None };
    let (longest, because) = budgets.iter().filter_map(|budget| longest(budget, what)).max()?;
    (longest > *ms).then(|| {
        let remedy = remedy.replace("{longest}", &longest.to_string());
        format!("{who}: {what} may take {because} = {longest} ms, but it waits {ms} ms; {remedy}")
    })
}

fn longest<'a>(budget: &'a Budget, asked: &str) -> Option<(u64, &'a str)> {
    match budget {
        Budget::Takes { what, ms, because } if what == asked => Some((*ms, because)),
        Budget::Takes { .. } | Budget::Allows { .. } => None,
    }
}
