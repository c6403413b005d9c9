//! A message about an alert as JSON, the same for every channel.

use serde::Serialize;

use crate::domain::alert::Notification;

/// The version of the form; a field that changes its meaning changes this.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Body<'a> {
    version: u32,
    id: &'a str,
    event: &'a str,
    kind: &'a str,
    subject: &'a str,
    message: &'a str,
    since: String,
    fired_at: String,
    cleared_at: Option<String>,
    at: String,
    attempt: u32,
    instance: &'a str,
}

/// Writes a message on one line, without its end.
pub fn body(notification: &Notification) -> String {
    let Notification {
        id,
        event,
        kind,
        subject,
        message,
        since,
        fired_at,
        cleared_at,
        instance,
        at,
        attempt,
    } = notification;
    let body = Body {
        version: VERSION,
        id,
        event: event.as_str(),
        kind,
        subject,
        message,
        since: since.to_string(),
        fired_at: fired_at.to_string(),
        cleared_at: cleared_at.map(|at| at.to_string()),
        at: at.to_string(),
        attempt: *attempt,
        instance,
    };
    serde_json::to_string(&body).expect("texts and numbers are always JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::alert::AlertEvent;
    use crate::domain::time::Timestamp;

    #[test]
    fn a_message_is_one_line_of_json_with_every_field() {
        let at = Timestamp::parse("2026-11-22T10:00:00Z").unwrap();
        let text = body(&Notification {
            id: "0190".into(),
            event: AlertEvent::Cleared,
            kind: "halted".into(),
            subject: "key".into(),
            message: "two\nlines and a \"quote\"".into(),
            since: at,
            fired_at: at,
            cleared_at: Some(at),
            instance: "pagemill".into(),
            at,
            attempt: 2,
        });
        assert!(!text.contains('\n'));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["version"], 1);
        assert_eq!(value["event"], "cleared");
        assert_eq!(value["message"], "two\nlines and a \"quote\"");
        assert_eq!(value["cleared_at"], "2026-11-22T10:00:00.000000Z");
        assert_eq!(value.as_object().unwrap().len(), 12);
    }
}
