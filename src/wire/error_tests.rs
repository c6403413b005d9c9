use super::*;
use proptest::prelude::*;

const KEY: Next = Next::Account(AccountFault::Key);

fn answer(status: u16, body: &str) -> HttpAnswer<'_> {
    HttpAnswer {
        status,
        retry_after: None,
        date: None,
        body: body.as_bytes(),
    }
}

fn error_body(code: u16, status: &str, message: &str, details: &str) -> String {
    format!(
        r#"{{"error":{{"code":{code},"status":"{status}","message":"{message}","details":[{details}]}}}}"#
    )
}

fn check(call: Call, status: u16, body: &str, next: Next, effect: Effect) {
    let error = api_error(call, &answer(status, body));
    assert_eq!((&error.next, error.effect), (&next, effect), "{body}");
    assert!(!error.message.contains('\n'));
}

fn rate(seconds: Option<f64>) -> Next {
    Next::Throttled {
        after: seconds.map(Duration::from_secs_f64),
        quota: Quota::Rate,
    }
}

const GONE: &str = "You do not have permission to access the File X or it may not exist.";
const BILLING: &str = "This API method requires billing to be enabled.";
const UNREGISTERED: &str =
    "Method doesn't allow unregistered callers (callers without established identity).";
const PLAN: &str = "You exceeded your current quota, please check your plan and billing details.";

#[test]
fn f17_reasons_come_before_the_status() {
    let none = Effect::None;
    let bad_key = error_body(
        400,
        "INVALID_ARGUMENT",
        "API key not valid.",
        r#"{"reason":"API_KEY_INVALID"}"#,
    );
    check(Call::CreateBatch, 400, &bad_key, KEY, none);
    check(
        Call::ListFiles,
        400,
        &error_body(
            400,
            "INVALID_ARGUMENT",
            "API key not valid. Please pass a valid API key.",
            "",
        ),
        KEY,
        none,
    );
    check(
        Call::GetFile,
        403,
        &error_body(403, "PERMISSION_DENIED", UNREGISTERED, ""),
        KEY,
        none,
    );
    check(
        Call::GetFile,
        403,
        &error_body(403, "PERMISSION_DENIED", BILLING, ""),
        Next::Account(AccountFault::Billing),
        none,
    );
    check(
        Call::GetFile,
        403,
        &error_body(403, "PERMISSION_DENIED", GONE, ""),
        Next::Missing,
        none,
    );
    check(Call::DeleteFile, 403, "", Next::Missing, none);
    check(
        Call::CreateBatch,
        403,
        &error_body(403, "PERMISSION_DENIED", GONE, ""),
        Next::Missing,
        none,
    );
    check(
        Call::CreateBatch,
        403,
        &error_body(
            403,
            "PERMISSION_DENIED",
            "The caller does not have permission",
            "",
        ),
        Next::Account(AccountFault::Permission),
        none,
    );
}

#[test]
fn the_status_decides_where_no_reason_does() {
    let none = Effect::None;
    check(Call::GetBatch, 401, "", KEY, none);
    check(
        Call::GetBatch,
        404,
        &error_body(404, "NOT_FOUND", "Requested entity was not found.", ""),
        Next::Missing,
        none,
    );
    check(
        Call::CreateBatch,
        400,
        &error_body(
            400,
            "FAILED_PRECONDITION",
            "The File X is not in an ACTIVE state and usage is not allowed.",
            "",
        ),
        Next::NotReady,
        none,
    );
    check(
        Call::CreateBatch,
        400,
        &error_body(400, "INVALID_ARGUMENT", "Unknown name", ""),
        Next::Refused,
        none,
    );
    check(
        Call::CancelBatch,
        400,
        &error_body(400, "FAILED_PRECONDITION", "finished", ""),
        Next::Refused,
        none,
    );
}

#[test]
fn f20_quotas_are_told_apart() {
    let rate_body = error_body(
        429,
        "RESOURCE_EXHAUSTED",
        PLAN,
        r#"{"violations":[{"quotaMetric":"x/requests","quotaId":"PerMinute"}]}"#,
    );
    check(Call::CreateBatch, 429, &rate_body, rate(None), Effect::None);
    check(Call::Upload, 429, "", rate(None), Effect::None);
    let storage = Next::Throttled {
        after: None,
        quota: Quota::Storage,
    };
    let by_id = error_body(
        429,
        "RESOURCE_EXHAUSTED",
        PLAN,
        r#"{"violations":[{"quotaId":"FileStorageBytesPerProject"}]}"#,
    );
    check(Call::Upload, 429, &by_id, storage.clone(), Effect::None);
    let by_metric = error_body(
        429,
        "RESOURCE_EXHAUSTED",
        PLAN,
        r#"{"violations":[{"quotaMetric":"g/file_storage_bytes"}]}"#,
    );
    check(Call::Upload, 429, &by_metric, storage.clone(), Effect::None);
    let by_words = error_body(
        429,
        "RESOURCE_EXHAUSTED",
        "metric: g/file_storage_bytes, limit: 21474836480",
        "",
    );
    check(Call::Upload, 429, &by_words, storage, Effect::None);
    let check_quota = |message: &str, quota_id: &str, quota: Quota| {
        let details = format!(r#"{{"violations":[{{"quotaId":"{quota_id}"}}]}}"#);
        let body = error_body(429, "RESOURCE_EXHAUSTED", message, &details);
        let next = Next::Throttled { after: None, quota };
        check(Call::CreateBatch, 429, &body, next, Effect::None);
    };
    check_quota(
        PLAN,
        "GenerateRequestsPerDayPerProjectPerModel",
        Quota::Daily,
    );
    check_quota(PLAN, "BatchEnqueuedTokensPerProject", Quota::Tokens);
    check_quota(
        "Your project has exceeded its monthly spending cap.",
        "",
        Quota::Spend,
    );
    check_quota(PLAN, "ProjectSpendLimit", Quota::Spend);
    check_quota(PLAN, "GenerateRequestsPerMinutePerProject", Quota::Rate);
    let words = |body: &str| api_error(Call::Upload, &answer(429, body)).message;
    assert!(words(&by_id).contains("(the file store is full)"));
    assert!(words(&rate_body).contains("(too many requests)"));
}

#[test]
fn only_a_clear_no_is_without_effect() {
    for status in [408, 500, 502, 503, 504, 599] {
        check(
            Call::CreateBatch,
            status,
            "<html>bad gateway</html>",
            Next::Transient,
            Effect::Maybe,
        );
        check(Call::GetBatch, status, "", Next::Transient, Effect::None);
    }
    check(Call::CreateBatch, 302, "", Next::Garbled, Effect::Maybe);
    check(Call::CreateBatch, 418, "", Next::Refused, Effect::None);
    let inside = error_body(429, "RESOURCE_EXHAUSTED", "m", "");
    check(Call::Upload, 200, &inside, rate(None), Effect::Maybe);
    check(
        Call::Upload,
        503,
        &format!("[{}]", error_body(503, "UNAVAILABLE", "overloaded", "")),
        Next::Transient,
        Effect::Maybe,
    );
}

fn check_hint(header: Option<&str>, message: &str, details: &str, expected: Option<Duration>) {
    let body = error_body(429, "RESOURCE_EXHAUSTED", message, details);
    let error = api_error(
        Call::CreateBatch,
        &HttpAnswer {
            status: 429,
            retry_after: header,
            date: Some("Sat, 21 Nov 2026 10:00:00 GMT"),
            body: body.as_bytes(),
        },
    );
    let expected = Next::Throttled {
        after: expected,
        quota: Quota::Rate,
    };
    assert_eq!(error.next, expected, "{header:?} {message} {details}");
}

#[test]
fn f38_hints_are_read_in_every_form() {
    let nanos = |whole, nanos| Some(Duration::new(whole, nanos));
    check_hint(Some("37"), "retry in 5s", "", nanos(37, 0));
    check_hint(Some("Sat, 21 Nov 2026 10:00:09 GMT"), "", "", nanos(9, 0));
    check_hint(Some("Sat, 21 Nov 2026 09:00:00 GMT"), "", "", nanos(0, 0));
    check_hint(Some("soon"), "", "", None);
    check_hint(Some("-5"), "", "", None);
    check_hint(Some("99999999999999999999"), "", "", nanos(u64::MAX, 0));
    check_hint(
        None,
        "",
        r#"{"retryDelay":"36.962849995s"}"#,
        nanos(36, 962_849_995),
    );
    check_hint(
        None,
        "",
        r#"{"retry_delay":{"seconds":9223372036854775807,"nanos":5}}"#,
        nanos(9_223_372_036_854_775_807, 5),
    );
    check_hint(
        None,
        "",
        r#"{"retryDelay":{"seconds":"3","nanos":-1}}"#,
        None,
    );
    check_hint(
        None,
        "",
        r#"{"retryDelay":"9223372036854775807s"}"#,
        nanos(9_223_372_036_854_775_807, 0),
    );
    check_hint(None, "", r#"{"retryDelay":"-1s"}"#, None);
    check_hint(None, "Please retry in 36.9s.", "", nanos(36, 900_000_000));
    check_hint(None, "Please retry in 500ms.", "", nanos(0, 500_000_000));
    check_hint(
        None,
        "Please retry in 99999999999999999999h",
        "",
        Some(Duration::MAX),
    );
    check_hint(None, "Please retry in a while", "", None);
}

#[test]
fn messages_carry_no_secret() {
    let message = "GET https://h/v1/x?alt=media&key=AIzaSecret failed, key=planted AIzaSyPlanted";
    let error = api_error(
        Call::GetFile,
        &answer(400, &error_body(400, "X", message, "")),
    );
    for secret in ["Secret", "planted", "Planted", "alt=media"] {
        assert!(!error.message.contains(secret), "{}", error.message);
    }
    assert!(
        error
            .message
            .starts_with("look at a file: HTTP 400 X: GET https://h/v1/x?")
    );
    let long = api_error(Call::GetFile, &answer(500, &"é".repeat(9_000)));
    assert!(long.message.len() < 300);
    assert_eq!(
        api_error(Call::GetFile, &answer(500, "")).message,
        "look at a file: HTTP 500: empty body"
    );
}

#[test]
fn p13_a_word_with_several_secrets_shows_none_of_them() {
    let check = |text: &str, expected: &str| assert_eq!(one_line(text), expected);
    check("a https://h/x?y=1 b", "a https://h/x?[removed] b");
    check("a key=b c", "a [removed] c");
    check("Key:AIzaSyA,see:https://h/?key=AIzaSyB", "Key:[removed]");
    check("https://h/?q#AIzaSyA", "https://h/?[removed]");
    check("https://h/AIzaSyA?key=B", "https://h/[removed]");
}

proptest! {
    #[test]
    fn no_answer_panics(
        status in any::<u16>(),
        header in ".{0,30}",
        digits in "[0-9.s-]{0,40}",
        body in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        api_error(Call::Upload, &HttpAnswer { status, retry_after: Some(&header), date: None, body: &body });
        let body = error_body(429, "", &format!("retry in {digits}"), &format!(r#"{{"retryDelay":"{digits}"}}"#));
        api_error(Call::Upload, &HttpAnswer { status: 429, retry_after: Some(&digits), date: None, body: body.as_bytes() });
    }
}
