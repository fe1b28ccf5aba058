//! Where in a run's trace a message belongs: what its header says.

use foreplan_core::trace::{SpanId, TraceParent};

use crate::{Message, Reply};

impl Message {
    /// Returns the place in the run's trace under which the receiver works: the attempt, for what is
    /// about one, else the run.
    #[must_use]
    pub fn trace(&self) -> TraceParent {
        let attempt = |run, step, attempt| TraceParent { run, span: SpanId::attempt(run, step, attempt) };
        match self {
            Self::Step(request) => attempt(request.run, &request.step, request.attempt),
            Self::Cancel(cancel) => attempt(cancel.run, &cancel.step, cancel.attempt),
            Self::PermitAnswer(answer) => attempt(answer.run, &answer.step, answer.attempt),
            Self::PermitRequest(request) => attempt(request.run, &request.step, request.attempt),
            Self::Reply { run, reply: Reply::Step(reply) } => attempt(*run, &reply.step, reply.attempt),
            Self::Plan(request) => TraceParent::run(request.run),
            Self::Replan(request) => TraceParent::run(request.run),
            Self::Review(request) => TraceParent::run(request.run),
            Self::Reply { run, .. } | Self::Input { run, .. } => TraceParent::run(*run),
        }
    }
}

#[cfg(test)]
mod tests {
    use foreplan_core::{id::RunId, input::Input};

    use super::*;
    use crate::Cancel;

    #[test]
    fn a_message_about_an_attempt_belongs_to_it_and_any_other_to_the_run() {
        let run: RunId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        let step: foreplan_core::id::StepId = "deploy".parse().unwrap();
        let cancel = Message::Cancel(Cancel { run, step: step.clone(), attempt: 2 });
        assert_eq!(cancel.trace().span, SpanId::attempt(run, &step, 2));
        let wake = Message::Input { run, input: Input::Wake };
        assert_eq!(wake.trace(), TraceParent::run(run));
    }
}
