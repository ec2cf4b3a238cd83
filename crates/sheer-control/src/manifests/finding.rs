//! What is wrong with a manifest, for people.

use std::{fmt, path::Path, sync::Arc};

use crate::objects::ObjectId;

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The file is not taken over: its last good state stays in force.
    Error,
    /// In force, but a part is not honoured.
    Warning,
}

/// What is wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file; empty where none is at fault.
    pub file: Arc<Path>,
    /// Its line, from 1; 0 where unknown.
    pub line: u32,
    /// The object, as `Deployment bank/ledger`; may be empty.
    pub object: String,
    /// The field, as `spec.template.spec.containers[0].ports`; may be empty.
    pub field: String,
    /// What is wrong, what that does, what to do next.
    pub message: String,
}

impl Finding {
    pub(crate) fn error(file: &Path, line: u32, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            severity: Severity::Error,
            file: Arc::from(file),
            line,
            object: String::new(),
            field: String::new(),
            message,
        }
    }

    pub(crate) fn warning(file: &Path, line: u32, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(file, line, message)
        }
    }

    pub(crate) fn on(self, object: &ObjectId) -> Self {
        self.on_named(object.to_string())
    }

    pub(crate) fn on_named(mut self, object: String) -> Self {
        self.object = object;
        self
    }

    pub(crate) fn at(mut self, field: impl Into<String>) -> Self {
        self.field = field.into();
        self
    }
}

impl fmt::Display for Finding {
    /// `error: ledger.yaml:12: Deployment bank/ledger: spec.replicas: …`, leaving out what is unknown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.severity {
            Severity::Error => "error: ",
            Severity::Warning => "warning: ",
        })?;
        if !self.file.as_os_str().is_empty() {
            write!(f, "{}:", self.file.display())?;
            if self.line != 0 {
                write!(f, "{}:", self.line)?;
            }
            f.write_str(" ")?;
        }
        for part in [&self.object, &self.field] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        f.write_str(&self.message)
    }
}
