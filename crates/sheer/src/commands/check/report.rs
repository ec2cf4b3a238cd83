//! The points of a check, and how they are shown.

use std::fmt::Write as _;

use serde_json::{Value, json};
use sheer_dashboard::checks;

use crate::output::{Tone, paint};

/// How a point came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    /// Well.
    Pass,
    /// Works today; look at it.
    Warn,
    /// Not well.
    Fail,
}

impl Mark {
    const fn sign(self) -> &'static str {
        match self {
            Self::Pass => "√",
            Self::Warn => "‼",
            Self::Fail => "×",
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Pass => "success",
            Self::Warn => "warning",
            Self::Fail => "error",
        }
    }

    const fn tone(self) -> Tone {
        match self {
            Self::Pass => Tone::Good,
            Self::Warn => Tone::Warn,
            Self::Fail => Tone::Bad,
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Point {
    description: String,
    mark: Mark,
    /// What was found, one line each; empty where all is well.
    details: Vec<String>,
    /// What to do.
    hint: &'static str,
}

impl Point {
    /// A point that is well if there are no details, and otherwise is marked as said.
    pub(super) fn new(description: impl Into<String>, mark: Mark, details: Vec<String>, hint: &'static str) -> Self {
        let mark = if details.is_empty() { Mark::Pass } else { mark };
        Self {
            description: description.into(),
            mark,
            details,
            hint,
        }
    }
}

/// The points of one part of the mesh.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Category {
    /// As `control-plane`.
    pub(super) name: &'static str,
    /// In the order in which one would look.
    pub(super) points: Vec<Point>,
}

/// Everything that was looked at.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Report(pub(super) Vec<Category>);

impl Report {
    /// The worst mark.
    pub(super) fn mark(&self) -> Mark {
        self.points().map(|point| point.mark).max().unwrap_or(Mark::Pass)
    }

    fn points(&self) -> impl Iterator<Item = &Point> {
        self.0.iter().flat_map(|category| &category.points)
    }

    /// Text for people; `short` leaves out what is well.
    pub(super) fn text(&self, short: bool, colour: bool) -> String {
        let mut text = String::new();
        for category in &self.0 {
            let points = category
                .points
                .iter()
                .filter(|point| !short || point.mark != Mark::Pass);
            let points: Vec<String> = points.map(|point| show(point, colour)).collect();
            if !points.is_empty() {
                let rule = "-".repeat(category.name.len());
                let _ = write!(text, "{}\n{rule}\n{}\n", category.name, points.concat()); // to a String: cannot fail
            }
        }
        // As linkerd: warnings do not spoil the result.
        let mark = if self.mark() == Mark::Fail {
            Mark::Fail
        } else {
            Mark::Pass
        };
        let _ = writeln!(
            text,
            "Status check results are {}",
            paint(mark.sign(), mark.tone(), colour)
        );
        text
    }

    /// For the dashboard.
    pub(super) fn checked(&self) -> checks::Checked {
        let point = |point: &Point| checks::Point {
            description: point.description.clone(),
            result: match point.mark {
                Mark::Pass => checks::Mark::Success,
                Mark::Warn => checks::Mark::Warning,
                Mark::Fail => checks::Mark::Error,
            },
            details: point.details.clone(),
            hint: if point.mark == Mark::Pass {
                String::new()
            } else {
                point.hint.to_owned()
            },
        };
        let category = |category: &Category| checks::Category {
            name: category.name.to_owned(),
            points: category.points.iter().map(point).collect(),
        };
        checks::Checked {
            success: self.mark() != Mark::Fail,
            categories: self.0.iter().map(category).collect(),
        }
    }

    /// For programs, in the shape of `linkerd check -o json`.
    pub(super) fn json(&self) -> Value {
        let categories = self.0.iter().map(|category| {
            let checks = category.points.iter().map(|point| {
                let mut check = json!({"description": point.description, "result": point.mark.word()});
                if point.mark != Mark::Pass {
                    check["hint"] = point.hint.into();
                    check["error"] = point.details.join("; ").into();
                }
                check
            });
            json!({"categoryName": category.name, "checks": checks.collect::<Value>()})
        });
        json!({"success": self.mark() != Mark::Fail, "categories": categories.collect::<Value>()})
    }
}

fn show(point: &Point, colour: bool) -> String {
    let mut text = format!(
        "{} {}\n",
        paint(point.mark.sign(), point.mark.tone(), colour),
        point.description
    );
    if point.mark != Mark::Pass {
        for detail in &point.details {
            let _ = writeln!(text, "    {detail}");
        }
        let _ = writeln!(
            text,
            "    {}",
            paint(&format!("hint: {}", point.hint), Tone::Dim, colour)
        );
    }
    text
}
