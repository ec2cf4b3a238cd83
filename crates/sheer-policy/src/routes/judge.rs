//! Why each rule that does not take a request does not.

use std::sync::Arc;

use super::{Found, RequestView, Routes, Rule, Why, matching};

/// What became of a request at a list of rules.
#[derive(Debug)]
pub struct Judged<'a, R> {
    /// The rule that takes it; none where no rule matches.
    pub winner: Option<Found<'a, R>>,
    /// Every other rule, in the list's order.
    pub losers: Vec<(&'a Arc<Rule<R>>, Why)>,
}

impl<R> Routes<R> {
    /// The rule that takes a request, as [`Routes::find`] says it, and why every other does not. For explanations: it looks at every rule.
    pub fn judge(&self, request: &RequestView<'_>) -> Judged<'_, R> {
        let winner = self.find(request);
        let best = winner
            .as_ref()
            .and_then(|found| matching::matches(found.rule, request).ok());
        let others = self.rules().iter().filter(|rule| match &winner {
            Some(found) => !Arc::ptr_eq(found.rule, rule),
            None => true,
        });
        let why = |rule: &Arc<Rule<R>>| match (matching::matches(rule, request), &best) {
            (Err(why), _) => why,
            (Ok((own, _)), Some((best, _))) => matching::decided_by(best, &own).map_or(Why::Later, Why::LessSpecific),
            (Ok(_), None) => Why::Later,
        };
        let losers = others.map(|rule| (rule, why(rule))).collect();
        Judged { winner, losers }
    }
}
