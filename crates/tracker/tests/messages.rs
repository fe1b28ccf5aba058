//! What the tracker makes of messages that are late, duplicated or none of its business. The test
//! plays the other agents.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use foreplan_bus::{Bus as _, Error, Receipt};
use foreplan_core::{
    event::{Entry, Event},
    goal::Parent,
    id::{RunId, StepId},
    input::{AttemptOutcome, CommandKind, Input, Verdicts},
    policy::ReplanDecision,
    view::Status,
};
use foreplan_journal::Journal as _;
use foreplan_protocol::{Message, Reply, Subject};
use foreplan_tracker::{Standing, SubmitError};
use serde_json::json;
use tokio::sync::mpsc;

use crate::support::{
    Fixture, PATIENCE, failed, permit_request, plan_reply, replan_reply, returned, two_and_one, two_steps,
};

fn reply_to(run: RunId, reply: Reply) -> Message {
    Message::Reply { run, reply }
}

#[tokio::test]
async fn a_run_goes_from_its_goal_to_its_end_and_leaves_no_actor() {
    let mut f = Fixture::new().await;
    f.planned(two_steps()).await;
    assert_eq!(f.asked_for_step().await.step.as_str(), "a");
    assert!(f.reply(returned("a", 1, json!({"n": 5}))).await);
    assert_eq!(*f.asked_for_step().await.input, json!({"x": 5}));
    assert!(f.reply(returned("b", 1, json!("done"))).await);
    assert_eq!(f.folded().await.status(), Status::Succeeded);
    f.at_rest().await;
}

#[tokio::test]
async fn a_result_that_comes_twice_is_recorded_once() {
    let mut f = Fixture::new().await;
    f.planned(two_steps()).await;
    f.asked_for_step().await;
    f.reply(returned("a", 1, json!({"n": 5}))).await;
    f.asked_for_step().await;
    f.changes_nothing(reply_to(f.run, returned("a", 1, json!({"n": 6})))).await;
    assert!(f.requests.try_recv().is_err(), "and nothing is asked again");
    f.reply(returned("b", 1, json!("done"))).await;
    assert_eq!(f.folded().await.status(), Status::Succeeded);
}

/// Returns a run of which two steps are in hand.
async fn with_two_in_hand() -> Fixture {
    let mut f = Fixture::new().await;
    f.planned(two_and_one()).await;
    f.asked_for_step().await;
    f.asked_for_step().await;
    f.journal.appended();
    f
}

#[tokio::test]
async fn results_that_come_together_are_an_entry_each_and_one_write() {
    let mut f = with_two_in_hand().await;
    let (a, b) = (returned("a", 1, json!({"n": 5})), returned("b", 1, json!({"n": 6})));
    let before = f.entries().await.len();
    assert_eq!(f.reply_together([a.clone(), b, a]).await, [true, true, true], "one of them twice");
    assert_eq!(*f.asked_for_step().await.input, json!({"x": 5, "y": 6}));
    assert_eq!(f.journal.appended(), [2]);
    assert_eq!(f.entries().await.len(), before + 2);
    assert!(f.reply(returned("c", 1, json!("done"))).await);
    assert_eq!(f.folded().await.status(), Status::Succeeded);
}

#[tokio::test]
async fn more_than_is_taken_at_once_is_taken_all_the_same() {
    let mut f = with_two_in_hand().await;
    let mut replies = vec![returned("a", 1, json!({"n": 5})); 300];
    replies.push(returned("b", 1, json!({"n": 6})));
    assert!(f.reply_together(replies).await.iter().all(|is_settled| *is_settled));
    assert_eq!(*f.asked_for_step().await.input, json!({"x": 5, "y": 6}));
    assert_eq!(f.journal.appended(), [1, 1], "the second was not among the first");
}

#[tokio::test]
async fn what_is_adopted_and_what_begins_then_is_one_write() {
    let mut f = Fixture::new().await;
    f.planned(two_and_one()).await;
    f.asked_for_step().await;
    assert_eq!(f.journal.appended(), [2]);
}

#[tokio::test]
async fn results_that_were_taken_together_and_denied_come_again_and_cost_the_run_nothing() {
    let mut f = with_two_in_hand().await;
    f.journal.doubt_once();
    let replies = [returned("a", 1, json!({"n": 5})), returned("b", 1, json!({"n": 6}))];
    assert_eq!(f.reply_together(replies).await, [false, false]);
    let asked = f.asked_for_step().await;
    assert_eq!((asked.step.as_str(), asked.attempt), ("c", 1), "the entries are there");
}

#[tokio::test(start_paused = true)]
async fn results_that_were_refused_together_are_recorded_later() {
    let mut f = with_two_in_hand().await;
    f.journal.refuse_once();
    let before = f.entries().await.len();
    let replies = [returned("a", 1, json!({"n": 5})), returned("b", 1, json!({"n": 6}))];
    assert_eq!(f.reply_together(replies).await, [false, false]);
    assert_eq!(f.entries().await.len(), before);
    assert_eq!(*f.asked_for_step().await.input, json!({"x": 5, "y": 6}));
}

#[tokio::test]
async fn a_result_that_nobody_asked_for_changes_nothing() {
    let mut f = Fixture::new().await;
    f.planned(two_steps()).await;
    f.asked_for_step().await;
    for reply in [
        returned("a", 2, json!({})),
        returned("a", 0, json!({})),
        returned("b", 1, json!({})),
        returned("nobody", 1, json!({})),
        returned("a~0", 1, json!({})),
        failed("a", 7),
    ] {
        f.changes_nothing(reply_to(f.run, reply)).await;
    }
    assert!(f.reply(returned("a", 1, json!({"n": 5}))).await);
    assert_eq!(f.asked_for_step().await.step.as_str(), "b", "the run goes on");
}

#[tokio::test]
async fn a_plan_for_another_request_changes_nothing() {
    let mut f = Fixture::new().await;
    let request = f.asked_for_plan().await.request;
    f.changes_nothing(reply_to(f.run, plan_reply(request + 1, two_steps()))).await;
    f.changes_nothing(reply_to(f.run, plan_reply(0, two_steps()))).await;
    assert!(f.reply(plan_reply(request, two_steps())).await);
    assert_eq!(f.asked_for_step().await.step.as_str(), "a");
    f.changes_nothing(reply_to(f.run, plan_reply(request, json!([{"id": "z", "tool": "read"}])))).await;
}

#[tokio::test]
async fn a_replanner_that_answers_twice_or_to_another_request_is_heard_once() {
    let mut f = Fixture::new().await;
    f.planned(two_steps()).await;
    f.asked_for_step().await;
    f.reply(failed("a", 1)).await;
    let basis = f.asked_to_replan().await.basis;
    let answer = |basis| replan_reply(basis, ReplanDecision::Retry);
    f.changes_nothing(reply_to(f.run, answer(basis + 1))).await;
    assert!(f.reply(answer(basis)).await);
    assert_eq!(f.asked_for_step().await.attempt, 2);
    f.changes_nothing(reply_to(f.run, answer(basis))).await;
}

/// Returns a run of two steps, of the first of which this was told: the journal took it and denied it.
async fn denied(reply: Reply) -> Fixture {
    let mut f = Fixture::new().await;
    f.planned(two_steps()).await;
    f.asked_for_step().await;
    f.journal.doubt_once();
    assert!(!f.reply(reply).await);
    f
}

#[tokio::test]
async fn what_follows_from_an_entry_that_was_taken_and_denied_is_asked_for_all_the_same() {
    let mut f = denied(failed("a", 1)).await;
    let basis = f.asked_to_replan().await.basis;
    assert!(f.reply(replan_reply(basis, ReplanDecision::Retry)).await);
    assert_eq!(f.asked_for_step().await.attempt, 2);
}

#[tokio::test]
async fn a_request_that_such_an_entry_was_to_send_is_sent() {
    let mut f = denied(returned("a", 1, json!({"n": 5}))).await;
    let request = f.asked_for_step().await;
    assert_eq!((request.step.as_str(), request.attempt), ("b", 1));
    assert_eq!(*request.input, json!({"x": 5}));
    assert!(f.reply(returned("b", 1, json!({}))).await);
    f.at_rest().await;
    assert_eq!(f.folded().await.status(), Status::Succeeded);
}

#[tokio::test]
async fn a_message_for_another_agent_is_settled_and_changes_nothing() {
    let mut f = Fixture::new().await;
    let request = f.asked_for_plan().await;
    f.changes_nothing(Message::Plan(Arc::clone(&request))).await;
    assert!(f.reply(plan_reply(request.request, two_steps())).await);
    let step = f.asked_for_step().await;
    f.changes_nothing(Message::Step(step)).await;
    assert_eq!(f.folded().await.status(), Status::Running);
}

#[tokio::test]
async fn a_submission_cannot_be_sent_to_a_run_that_is_there() {
    let mut f = Fixture::new().await;
    f.planned(two_steps()).await;
    f.asked_for_step().await;
    let input = f.entries().await[0].cause.clone();
    assert!(matches!(input, Input::Submit { .. }));
    f.changes_nothing(Message::Input { run: f.run, input }).await;
}

#[tokio::test]
async fn what_comes_for_a_run_that_nobody_knows_is_settled() {
    let mut f = Fixture::new().await;
    f.asked_for_plan().await;
    let stranger = f.ids.run();
    assert!(f.tell(stranger, reply_to(stranger, returned("a", 1, json!({})))).await);
    assert!(f.journal.find(stranger).await.unwrap().is_none());
    assert!(f.tracker.actors() <= 1);
}

#[tokio::test]
async fn a_permit_goes_to_the_attempt_in_hand_only() {
    let mut f = Fixture::new().await;
    f.planned(json!([{"id": "a", "tool": "send"}])).await;
    f.asked_for_step().await;
    assert!(!f.permit("a", 2).await);
    assert!(!f.permit("b", 1).await);
    assert!(f.permit("a", 1).await);
    assert!(f.permit("a", 1).await, "an answer that was lost is given again");
    let permitted = |entry: &Arc<Entry>| {
        entry.events.iter().filter(|event| matches!(event, Event::EffectPermitted { .. })).count()
    };
    assert_eq!(f.entries().await.iter().map(permitted).sum::<usize>(), 1);
}

#[tokio::test]
async fn the_result_of_a_permitted_call_is_recorded_once_though_the_run_has_ended() {
    let mut f = Fixture::new().await;
    f.planned(json!([{"id": "a", "tool": "send"}, {"id": "b", "tool": "read"}])).await;
    f.asked_for_step().await;
    f.asked_for_step().await;
    assert!(f.permit("a", 1).await);
    f.command(CommandKind::Cancel { reason: None }).await;
    assert_eq!(f.folded().await.status(), Status::Cancelled);
    f.at_rest().await;

    let before = f.entries().await.len();
    assert!(f.reply(returned("a", 1, json!("sent"))).await);
    let entries = f.entries().await;
    assert_eq!(entries.len(), before + 1);
    assert!(
        matches!(entries[before].events[..], [Event::LateResultRecorded { .. }]),
        "{:?}",
        entries[before]
    );
    f.changes_nothing(reply_to(f.run, returned("a", 1, json!("sent")))).await;
    f.changes_nothing(reply_to(f.run, returned("b", 1, json!("read")))).await;
    assert_eq!(f.folded().await.status(), Status::Cancelled);
    f.at_rest().await;
}

#[tokio::test]
async fn a_run_that_waits_has_no_actor_and_goes_on_when_a_person_speaks() {
    let mut f = Fixture::new().await;
    let ask = json!({"id": "ask", "human": {"question": "Go on?"}});
    f.planned(json!([ask, {"id": "b", "tool": "read", "needs": ["ask"]}])).await;
    f.at_rest().await;
    assert_eq!(f.folded().await.status(), Status::Waiting);
    let (step, value) = ("ask".parse().unwrap(), Arc::new(json!("yes")));
    f.command(CommandKind::Answer { step, value, verdicts: Verdicts::default() }).await;
    assert_eq!(f.asked_for_step().await.step.as_str(), "b");
}

#[tokio::test]
async fn no_more_runs_are_begun_than_may_be_active() {
    let mut f = Fixture::limited(1).await;
    let request = f.asked_for_plan().await.request;
    let second = f.ids.run();
    let refused = f.submit(second).await;
    assert!(matches!(refused, Err(SubmitError::Busy { max: 1 })), "{refused:?}");
    assert!(f.journal.find(second).await.unwrap().is_none());
    f.reply(plan_reply(request, json!([{"id": "a", "tool": "read"}]))).await;
    f.asked_for_step().await;
    f.reply(returned("a", 1, json!({}))).await;
    f.at_rest().await;
    f.submit(second).await.unwrap();
}

#[tokio::test]
async fn a_tracker_that_is_not_alone_with_a_run_leaves_it() {
    let mut f = Fixture::new().await;
    let request = f.asked_for_plan().await.request;
    let mut standing = f.tracker.standing(f.run);
    standing.now();
    // Somebody else writes the next entry.
    let (entries, record) = (f.entries().await, f.journal.find(f.run).await.unwrap().unwrap());
    let next = Entry { seq: 1, ..entries[0].as_ref().clone() };
    f.journal.append(f.run, Arc::new(next), record.progress).await.unwrap();
    let (receipt, mut settled) = Receipt::pair();
    f.bus.hand(&Subject::Tracker(f.run), reply_to(f.run, plan_reply(request, two_steps())), receipt).unwrap();
    let lost = async {
        while !matches!(standing.now(), Standing::Stuck { lost: true, .. }) {
            assert!(standing.changed().await);
        }
    };
    tokio::time::timeout(PATIENCE, lost).await.unwrap();
    assert!(!settled.wait().await, "the message comes again, to whoever has the run");
    assert!(f.requests.try_recv().is_err(), "nothing was dispatched");
}

#[tokio::test]
async fn what_is_said_of_an_attempt_that_another_tracker_began_is_not_taken_for_late() {
    let returned = |f: &Fixture| reply_to(f.run, returned("a", 2, json!({"n": 5})));
    let asks = |f: &Fixture| Message::PermitRequest(permit_request(f.run, "a", 2));
    let ends = |f: &Fixture| {
        let input = Input::Child { step: "a".parse().unwrap(), attempt: 2, waits: false };
        Message::Input { run: f.run, input }
    };
    let news: [&dyn Fn(&Fixture) -> Message; 3] = [&returned, &asks, &ends];
    for news in news {
        let mut f = Fixture::new().await;
        f.planned(json!([{"id": "a", "tool": "send"}])).await;
        f.asked_for_step().await;
        f.begun_elsewhere().await;
        let before = f.entries().await.len();
        assert!(!f.tell(f.run, news(&f)).await, "it comes again");
        assert_eq!(f.entries().await.len(), before);
        f.tracker.carry_on(f.run, None);
        assert!(f.tell(f.run, news(&f)).await, "to a state that knows of the attempt");
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_looked_up_comes_again_and_costs_the_run_nothing() {
    let mut f = Fixture::new().await;
    f.planned(two_steps()).await;
    f.asked_for_step().await;
    f.journal.set_unreadable(true);
    assert!(!f.reply(returned("a", 2, json!({}))).await, "it comes again");
    assert!(f.reply(returned("a", 1, json!({"n": 5}))).await, "the actor goes on");
    assert_eq!(f.asked_for_step().await.step.as_str(), "b");
    f.journal.set_unreadable(false);
    f.changes_nothing(reply_to(f.run, returned("a", 2, json!({})))).await;
}

#[tokio::test]
async fn a_run_that_only_waits_is_looked_after_without_a_word_and_one_with_work_in_hand_is_taken_over() {
    let mut waits = Fixture::new().await;
    waits.planned(json!([{"id": "ask", "human": {"question": "Go on?"}}])).await;
    waits.at_rest().await;
    let before = waits.entries().await.len();
    waits.tracker.look_after(vec![waits.run], "p2").await;
    waits.at_rest().await;
    assert_eq!(waits.tracker.in_flight().await, 0);
    assert_eq!(waits.entries().await.len(), before);
    let (step, value) = ("ask".parse().unwrap(), Arc::new(json!("yes")));
    waits.command(CommandKind::Answer { step, value, verdicts: Verdicts::default() }).await;
    assert_eq!(waits.folded().await.status(), Status::Succeeded);

    let mut works = Fixture::new().await;
    works.planned(two_steps()).await;
    works.asked_for_step().await;
    works.tracker.forget(|_| true);
    works.at_rest().await;
    let before = works.entries().await.len();
    works.tracker.look_after(vec![works.run], "p2").await;
    let taken_over = async {
        while works.entries().await.len() == before {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, taken_over).await.unwrap();
    let lost = |event: &Event| matches!(event, Event::AttemptFailed { attempt: 1, .. });
    assert!(works.entries().await[before].events.iter().any(lost), "it is lost with its process");
}

#[tokio::test]
async fn a_child_run_says_how_it_ended_until_its_parent_hears_it() {
    let mut f = Fixture::new().await;
    f.asked_for_plan().await;
    let (parent, step) = (f.ids.run(), "sub".parse::<StepId>().unwrap());
    let (heard, mut hears) = mpsc::unbounded_channel();
    let refused = Arc::new(AtomicBool::new(false));
    let refuses = Arc::clone(&refused);
    let listen = move |message: Message| {
        let is_end = matches!(message, Message::Reply { .. });
        if is_end && !refuses.swap(true, Ordering::SeqCst) {
            return Err(Error::Gone("the parent's tracker".to_owned()));
        }
        heard.send(message).map_err(|_| Error::Gone("test".to_owned()))
    };
    f.bus.serve(Subject::Tracker(parent), Box::new(listen));
    f.run = parent.child(&step, 1);
    f.submit_for(f.run, Some(Parent { run: parent, step: step.clone(), attempt: 1 })).await.unwrap();
    f.planned(json!([{"id": "a", "tool": "read"}])).await;
    f.asked_for_step().await;
    assert!(f.reply(returned("a", 1, json!("done"))).await);
    let is_refused = async {
        while !refused.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, is_refused).await.unwrap();
    f.clock.advance(PATIENCE);

    let mut last = None;
    let hears_the_end = async {
        while !matches!(last, Some(Message::Reply { .. })) {
            last = hears.recv().await;
        }
    };
    tokio::time::timeout(PATIENCE, hears_the_end).await.unwrap();
    let Some(Message::Reply { run, reply: Reply::Step(reply) }) = last else { panic!("{last:?}") };
    assert_eq!((run, &reply.step, reply.attempt), (parent, &step, 1));
    assert!(matches!(reply.outcome, AttemptOutcome::Output(_)), "{reply:?}");
}
