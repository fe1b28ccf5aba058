//! Messages as earlier versions wrote them: `v0` holds the first form, taken from a deployment's server.
//! A file is added when a form changes, and none is ever changed or removed.

use std::{collections::BTreeSet, path::Path};

use foreplan_protocol::{Frame, Message, Reply};

fn kind(message: &Message) -> &'static str {
    match message {
        Message::Plan(_) => "plan",
        Message::Replan(_) => "replan",
        Message::Review(_) => "review",
        Message::Step(_) => "step",
        Message::Cancel(_) => "cancel",
        Message::PermitAnswer(_) => "permit_answer",
        Message::PermitRequest(_) => "permit_request",
        Message::Reply { reply: Reply::Plan { .. }, .. } => "reply-plan",
        Message::Reply { reply: Reply::Replan { .. }, .. } => "reply-replan",
        Message::Reply { reply: Reply::Review { .. }, .. } => "reply-review",
        Message::Reply { reply: Reply::Step(_), .. } => "reply-step",
        Message::Input { .. } => "input",
    }
}

#[test]
fn every_message_that_was_ever_written_is_read_and_keeps_its_meaning() {
    let mut kinds = BTreeSet::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/v0")).expect("a folder")
    {
        let path = entry.expect("an entry").path();
        let bytes = std::fs::read(&path).expect("a message");
        let frame = Frame::decode(&bytes).unwrap_or_else(|e| panic!("{}: {e:?}", path.display()));
        let again = frame.encode().expect("it is written");
        assert_eq!(Frame::decode(&again).expect("it reads back"), frame, "{}", path.display());
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        assert!(name.starts_with(kind(&frame.body)), "{name} is read as {}", kind(&frame.body));
        kinds.insert(kind(&frame.body));
    }
    let wanted = [
        "cancel",
        "input",
        "permit_answer",
        "permit_request",
        "plan",
        "replan",
        "reply-plan",
        "reply-replan",
        "reply-step",
        "step",
    ];
    assert!(kinds.is_superset(&BTreeSet::from(wanted)), "{kinds:?}");
}
