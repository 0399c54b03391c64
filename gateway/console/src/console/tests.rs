use super::*;
use crate::desk::{Answer, BoxStatus, Entry, Message, SetupStatus};
use bytes::Bytes;

/// A failure page asks the desk for the time and nothing else: what is broken must not break it, too.
struct Clock;

fn asked_for_more() -> ! {
    panic!("a failure page has asked the desk for more than the time")
}

impl Desk for Clock {
    fn now(&self) -> Timestamp {
        Timestamp(1_800_000_000)
    }
    fn status(&self) -> Answer<'_, BoxStatus> {
        asked_for_more()
    }
    fn setup(&self) -> Answer<'_, SetupStatus> {
        asked_for_more()
    }
    fn provision(&self, _: Entry, _: Entry) -> Answer<'_, Result<(), Message>> {
        asked_for_more()
    }
    fn import(&self, _: Bytes, _: Entry) -> Answer<'_, Result<(), Message>> {
        asked_for_more()
    }
    fn is_setup_code(&self, _: Entry) -> Answer<'_, bool> {
        asked_for_more()
    }
    fn store(&self) -> Option<gateway_notes::Store> {
        asked_for_more()
    }
    fn reading(&self, _: crate::Visit) -> Option<gateway_notes::Store> {
        asked_for_more()
    }
    fn moves_on(&self, _: SessionId) {
        asked_for_more()
    }
    fn left(&self, _: SessionId, _: ViewId) {
        asked_for_more()
    }
}

#[test]
fn every_failure_has_a_page_with_a_next_step_and_a_support_code_and_no_detail() {
    let config = Config {
        console_host: "box".into(),
        notebook_host: "notebook".into(),
        support_office: "office".into(),
        support_phone: "phone".into(),
    };
    let console = Console::new(Arc::new(Clock), config).unwrap();
    let faults = [
        (Fault::NotFound, 404),
        (Fault::Method("GET, HEAD"), 405),
        (Fault::BadRequest, 400),
        (Fault::TooLarge, 413),
        (Fault::NotOurs, 403),
        (Fault::NotManager, 403),
        (Fault::NotRegistered, 403),
        (Fault::CodeRefused, 403),
        (Fault::Store(gateway_notes::Error::Damaged), 503),
        (Fault::Randomness(NoRandomness), 500),
    ];
    for (fault, status) in faults {
        let page = console.refuse(&fault, false);
        assert_eq!(page.status().as_u16(), status);
        let text = std::str::from_utf8(page.body()).unwrap();
        let (sentence, next) = fault.words();
        assert!(text.contains(sentence) && text.contains(next) && text.contains("受付番号"));
        assert!(!text.contains(&fault.to_string()) && !text.contains("authenticated"));
    }
}
