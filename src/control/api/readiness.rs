//! Whether the node is fit for pods: `GET /v1/readiness`, and as text `GET /readyz`.

use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Whether it is. A lack that is too new to count does not change it.
    pub ready: bool,
    /// How far it is.
    pub stage: ReadinessStage,
    /// What holds, or what is lacking at present, in one word: `UplinksReady`, `NoUplink`, `TooFewUplinks`, `NoRoute`, `NoEcho`.
    pub reason: String,
    /// The same for people.
    pub message: String,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadinessStage {
    /// Not fit since the start, which is not long ago.
    Starting,
    /// Fit.
    Ready,
    /// Something is lacking, for too short a time to count.
    Doubtful,
    /// Something has been lacking for long.
    Isolated,
}

impl Readiness {
    /// In one line.
    #[must_use]
    pub fn line(&self) -> String {
        let Self { ready, stage, reason, message } = self;
        let state = match (ready, stage) {
            (_, ReadinessStage::Starting) => "not ready yet",
            (_, ReadinessStage::Doubtful) => "ready, but not if this lasts",
            (true, ReadinessStage::Ready | ReadinessStage::Isolated) => "ready",
            (false, ReadinessStage::Ready | ReadinessStage::Isolated) => "not ready",
        };
        format!("{state}: {reason}: {message}")
    }
}
