//! Intent: what a run is for and within which bounds. Resolved once by the client into a
//! [`RunSpec`], the run's first event; later edits of a project file never change a run.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    budget::Limits,
    digest::Digest,
    fork::Origin,
    id::{RunId, StepId},
    plan::{Plan, Step, SubGoal},
    policy::ReplanPolicy,
    time,
};

/// An approval that nobody gives within a day ends the run.
pub const APPROVAL_TIMEOUT_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);

/// Everything that a run was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RunSpec {
    /// The project's name.
    pub project: String,
    /// What the run is for, in words.
    pub goal: String,
    /// Values that plans refer to as `params.name`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub params: Map<String, Value>,
    /// Who makes the plan.
    pub planner: PlannerSpec,
    /// The project's advice to planning models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance: Option<String>,
    /// When a person is asked.
    #[serde(default)]
    pub approval: Approval,
    /// Whose opinion is asked besides a person's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<Review>,
    /// What happens when reality disagrees with the plan.
    #[serde(default)]
    pub replan: ReplanPolicy,
    /// What the run may use.
    #[serde(default)]
    pub limits: Limits,
    /// At most one run of a group at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
    /// The same project and key are the same run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The run that this one begins from, and where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The step that the run carries out, if it is one of another run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
}

/// Who makes the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PlannerSpec {
    /// Plans backwards from the wanted artifacts over the tools' types.
    Derive {
        /// The artifacts wanted; with one, it is the run's result.
        produce: Vec<String>,
    },
    /// Takes a plan that somebody wrote.
    Runbook {
        /// The plan; it refers to params.
        plan: Arc<Plan>,
    },
    /// Asks a model.
    Model {
        /// `provider/name`.
        model: String,
    },
    /// A planner that the embedding program brings.
    Custom {
        /// Its name, for the record.
        name: String,
    },
}

impl PlannerSpec {
    /// Returns the name that the record shows.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Derive { .. } => "derive",
            Self::Runbook { .. } => "runbook",
            Self::Model { .. } => "model",
            Self::Custom { name } => name,
        }
    }
}

impl PlannerSpec {
    /// Returns who plans a goal step: the types of the tools where it says what it must produce, else
    /// the run's own planner; `None` if that one knows a single plan.
    #[must_use]
    pub fn of_goal(&self, goal: &SubGoal) -> Option<Self> {
        if !goal.produce.is_empty() {
            return Some(Self::Derive { produce: goal.produce.clone() });
        }
        match self {
            Self::Model { .. } | Self::Custom { .. } => Some(self.clone()),
            Self::Derive { .. } | Self::Runbook { .. } => None,
        }
    }
}

/// When a person is asked before anything happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Approval {
    /// Which plans need a person.
    pub mode: ApprovalMode,
    /// How long the run waits for an approval.
    #[serde(with = "time::text")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// An envelope that was approved before the run began: `apply`, or a person who saw `plan -o`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envelope: Option<Digest>,
}

impl Default for Approval {
    fn default() -> Self {
        Self { mode: ApprovalMode::Risky, timeout: APPROVAL_TIMEOUT_DEFAULT, envelope: None }
    }
}

/// Which plans need a person's approval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalMode {
    /// None.
    Auto,
    /// Those with an irreversible step.
    #[default]
    Risky,
    /// All.
    Always,
}

/// The attempt of a `goal` step that a run carries out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parent {
    /// The run that the step belongs to.
    pub run: RunId,
    /// The step.
    pub step: StepId,
    /// The attempt.
    pub attempt: u32,
}

/// A model's opinion of plans before they are approved, and of outputs after their steps ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Review {
    /// The model: `provider/name`.
    pub model: String,
    /// Whether plans are reviewed.
    #[serde(default = "yes")]
    pub plans: bool,
    /// Whether the outputs of all steps are reviewed, not only of those that say `review`.
    #[serde(default)]
    pub results: bool,
}

impl Review {
    /// Returns whether what a step returns is judged: a person's answer never is.
    #[must_use]
    pub fn judges(&self, step: &Step) -> bool {
        (self.results || step.review) && step.human.is_none()
    }
}

fn yes() -> bool {
    true
}

/// A group of runs of which at most one is active.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The group's name.
    #[serde(rename = "group")]
    pub name: String,
    /// What a run does when another of its group is active.
    #[serde(default)]
    pub when_busy: WhenBusy,
}

/// What a run does when another of its group is active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenBusy {
    /// It waits its turn.
    #[default]
    Wait,
    /// It is refused.
    Reject,
}
