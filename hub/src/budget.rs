//! What workflows wait for, as a topology's build compares it with what it may take.

use topology::{Budget, Settings};

use crate::machine::Workflows;

/// Calls wait for their service, steps for their calls, requests for their steps.
pub(crate) fn budgets<W: Workflows>(settings: &Settings) -> Vec<Budget> {
    let mut budgets = Vec::new();
    for (workflow, steps, request_ms) in W::budgets(settings) {
        for step in &steps {
            let who = format!("workflow {workflow}, step {}", step.step);
            budgets.push(Budget::Allows {
                who: format!("{who}, a call"),
                what: step.service.to_owned(),
                ms: step.call_ms,
                remedy: "give the call at least {longest} ms, or the worker fewer attempts".to_owned(),
            });
            let calls = format!("calls of step {} of {workflow}", step.step);
            let because = "the longest call".to_owned();
            budgets.push(Budget::Takes { what: calls.clone(), ms: step.call_ms, because });
            budgets.push(Budget::Allows {
                who,
                what: calls,
                ms: step.step_ms,
                remedy: "give the step at least {longest} ms, or its calls less".to_owned(),
            });
        }
        let Some(request_ms) = request_ms else { continue };
        let what = format!("all steps of {workflow}, those that undo among them,");
        let because: Vec<String> = steps.iter().map(|step| format!("{} ms for {}", step.step_ms, step.step)).collect();
        let ms = steps.iter().map(|step| step.step_ms).sum();
        budgets.push(Budget::Takes { what: what.clone(), ms, because: because.join(" + ") });
        budgets.push(Budget::Allows {
            who: format!("workflow {workflow}, a request"),
            what,
            ms: request_ms,
            remedy: "give the request at least {longest} ms, or its steps less".to_owned(),
        });
    }
    budgets
}
