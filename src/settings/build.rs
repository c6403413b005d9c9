//! From what was typed to what is meant. Every fault is noted, and reading goes on.

mod checks;
pub(super) mod reader;

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

pub use checks::{host, is_loopback};
use reader::Reader;

use super::fault::Fault;
use super::raw::RawSettings;
use super::{
    Api, ApiKey, Batch, Breaker, Context, Execution, Files, Log, LogFormat, Model,
    OnDeadPredecessor, Paths, Prompt, Report, Results, Settings, State, generation, scope,
    snapshot,
};
use crate::domain::layout::Layout;
use crate::domain::period::Zone;

/// Seconds in an hour.
const HOUR: u64 = 3_600;
/// Seconds in a day.
const DAY: u64 = 24 * HOUR;

/// Builds the settings; they are only meant when no fault was noted.
pub fn build(
    raw: &RawSettings,
    base: &Path,
    api_key: Option<ApiKey>,
    faults: &mut Vec<Fault>,
) -> Settings {
    let mut reader = Reader::new(raw, base);
    let paths = paths(&mut reader);
    let filters = filters(&mut reader);
    let mut misplaced = Vec::new();
    let scope = scope::place(&paths.layout, filters, &mut misplaced);
    // Against a layout that is at fault itself, every filter would look misplaced.
    if !reader
        .faults
        .iter()
        .any(|fault| fault.path == "paths.layout")
    {
        reader.faults.append(&mut misplaced);
    }
    let execution = execution(&mut reader);
    let settings = Settings {
        model: model(&mut reader),
        prompt: prompt(&mut reader, execution.context),
        schema_file: reader.path("schema.file"),
        batch: batch(&mut reader),
        breaker: breaker(&mut reader),
        files: files(&mut reader),
        results: results(&mut reader),
        alerts: super::alerts::alerts(&mut reader),
        report: report(&mut reader),
        compress_after: Duration::from_secs(DAY * reader.integer("retention.compress_after_days")),
        compress_exports: reader.bool("retention.compress_exports"),
        state: state(&mut reader),
        api: api(&mut reader),
        shutdown_grace: reader.seconds("shutdown.grace_seconds"),
        log: log(&mut reader),
        paths,
        execution,
        api_key,
        scope,
        effective: snapshot::effective(raw),
    };
    checks::between_settings(&settings, &mut reader.faults);
    faults.append(&mut reader.faults);
    #[cfg(test)]
    reader.assert_all_read();
    settings
}

fn paths(reader: &mut Reader<'_>) -> Paths {
    let text = reader.text("paths.layout");
    let layout = Layout::parse(&text).unwrap_or_else(|error| {
        reader.fault(
            "paths.layout",
            error.to_string(),
            "write it like {state}/{school}/{year}/{page}, in quotes",
        );
        Layout::parse("{page}").expect("a single level is a layout")
    });
    Paths {
        label_source_dir: reader.path("paths.label_source_dir"),
        image_source_dir: reader.path("paths.image_source_dir"),
        output_dir: reader.path("paths.output_dir"),
        work_dir: reader.path("paths.work_dir"),
        free_bytes_min: reader.bytes("paths.free_bytes_min"),
        layout,
    }
}

fn filters(
    reader: &mut Reader<'_>,
) -> Vec<(String, String, crate::ports::page_source::LevelFilter)> {
    let mut found = Vec::new();
    for (path, level) in [
        ("filters.target_states", "state"),
        ("filters.target_years", "year"),
    ] {
        if let Some(filter) = reader.filter(path) {
            found.push((path.to_owned(), level.to_owned(), filter));
        }
    }
    for (level, filter) in reader.filter_map("filters.where") {
        found.push((format!("filters.where.{level}"), level, filter));
    }
    found
}

fn execution(reader: &mut Reader<'_>) -> Execution {
    Execution {
        max_retries: reader.small("execution.max_retries"),
        batch_size_limit: reader.integer("execution.batch_size_limit"),
        max_concurrent_batches: reader.integer("execution.max_concurrent_batches"),
        context: match reader.word("execution.context") {
            "none" => Context::None,
            _ => Context::Chain,
        },
        on_dead_predecessor: match reader.word("execution.on_dead_predecessor") {
            "block" => OnDeadPredecessor::Block,
            _ => OnDeadPredecessor::SkipContext,
        },
        dry_run: reader.bool("execution.dry_run"),
        scan_interval: reader.seconds("execution.scan_interval_seconds"),
        max_releases: reader.small("execution.max_releases"),
        provider_unavailable: reader.seconds("execution.provider_unavailable_seconds"),
        retry_delay: reader.seconds("execution.retry_delay_seconds"),
        truncated_tokens_percent: reader.small("execution.truncated_tokens_percent"),
        truncated_tokens_max: reader.integer("execution.truncated_tokens_max"),
        refused_temperature_step: reader.small("execution.refused_temperature_step"),
        low_priority_max: match reader.integer("execution.low_priority_hours") {
            0 => None,
            hours => Some(Duration::from_secs(hours * HOUR)),
        },
        recovers_by_itself: reader.bool("recovery.auto"),
    }
}

fn model(reader: &mut Reader<'_>) -> Model {
    let given = reader.text("model.name");
    let name = given.strip_prefix("models/").unwrap_or(&given).to_owned();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || !name.chars().all(is_plain) {
        reader.fault(
            "model.name",
            "is not a model's name".to_owned(),
            "write it like gemini-3.8-flash",
        );
    }
    let mut config = Map::new();
    for (path, value) in reader.entries("model.generation_config") {
        match serde_json::to_value(&value) {
            Ok(Value::Null) => {}
            Ok(value) => {
                config.insert(path, generation::camel_case_below(value));
            }
            Err(_) => reader.fault(
                &format!("model.generation_config.{path}"),
                "has no JSON form".to_owned(),
                "use texts, numbers, lists and mappings with text names",
            ),
        }
    }
    generation::check(&name, &config, &mut reader.faults);
    Model {
        name,
        generation_config: Value::Object(config),
        prices_file: reader.optional_path("model.prices_file"),
    }
}

fn prompt(reader: &mut Reader<'_>, context: Context) -> Prompt {
    let name = reader.file_name("prompt.name");
    let template_file = reader.file_name("prompt.template_file");
    let context_file = reader.file_name("prompt.context_file");
    Prompt {
        registry_dir: reader.path("prompt.registry_dir"),
        name,
        template_file,
        context_file: (context == Context::Chain).then_some(context_file),
    }
}

fn batch(reader: &mut Reader<'_>) -> Batch {
    let prefix = reader.text("batch.display_name_prefix");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if !(1..=64).contains(&prefix.len()) || !prefix.chars().all(is_plain) {
        reader.fault(
            "batch.display_name_prefix",
            "is not 1 to 64 letters, digits, dots, dashes and underscores".to_owned(),
            "choose such a name; batches of running work keep theirs",
        );
    }
    Batch {
        poll_interval: reader.seconds("batch.poll_interval_seconds"),
        display_name_prefix: prefix,
        fill_wait: reader.seconds("batch.fill_wait_seconds"),
        bytes_max: reader.bytes("batch.bytes_max"),
        tokens_max: reader.optional_integer("batch.tokens_max"),
        tokens_per_image: reader.integer("batch.tokens_per_image"),
        in_doubt_settle: reader.seconds("batch.in_doubt_settle_seconds"),
        in_doubt_lookups: reader.small("batch.in_doubt_lookups"),
        create_delay_min: reader.seconds("batch.create_delay_min_seconds"),
        create_delay_max: reader.seconds("batch.create_delay_max_seconds"),
        polls_in_flight: reader.count("batch.polls_in_flight"),
        results_wait: reader.seconds("batch.results_wait_seconds"),
        slow_warn: Duration::from_secs(reader.integer("batch.slow_warn_hours") * HOUR),
        results_lost: Duration::from_secs(reader.integer("batch.results_lost_hours") * HOUR),
        keep_remote_jobs: reader.bool("batch.keep_remote_jobs"),
        slow_after: Duration::from_secs(reader.integer("batch.slow_after_hours") * HOUR),
        stop_after: Duration::from_secs(reader.integer("batch.stop_after_hours") * HOUR),
        expired_pause: reader.seconds("batch.expired_pause_seconds"),
        size_min: reader.small("batch.size_min"),
        grow_after: reader.small("batch.grow_after"),
        enqueued_tokens_max: reader.optional_integer("batch.enqueued_tokens_max"),
        late_look: reader.seconds("batch.late_look_seconds"),
    }
}

fn breaker(reader: &mut Reader<'_>) -> Breaker {
    Breaker {
        identical_failures: reader.integer("breaker.identical_failures"),
        nothing_accepted: reader.integer("breaker.nothing_accepted"),
        accept_percent: reader.integer("breaker.accept_percent"),
        window: reader.integer("breaker.window"),
        pilot_pages: reader.small("breaker.pilot_pages"),
        pilot_accept_percent: reader.integer("breaker.pilot_accept_percent"),
    }
}

fn files(reader: &mut Reader<'_>) -> Files {
    Files {
        upload_retry_attempts: reader.small("files.upload_retry_attempts"),
        upload_retry_backoff: reader.seconds("files.upload_retry_backoff_seconds"),
        upload_cycles_max: reader.small("files.upload_cycles_max"),
        upload_concurrency: reader.count("files.upload_concurrency"),
        uploads_per_second: reader.small("files.uploads_per_second"),
        uploads_burst: reader.small("files.uploads_burst"),
        storage_budget_bytes: reader.bytes("files.storage_budget_bytes"),
        image_bytes_max: reader.bytes("files.image_bytes_max"),
        min_life: Duration::from_secs(reader.integer("files.min_life_hours") * HOUR),
        upload_ahead_batches: reader.integer("files.upload_ahead_batches"),
        retry_hint_max: reader.seconds("files.retry_hint_max_seconds"),
        active_wait: reader.seconds("files.active_wait_seconds"),
        deletes_in_flight: reader.count("files.deletes_in_flight"),
    }
}

fn results(reader: &mut Reader<'_>) -> Results {
    Results {
        line_bytes_max: reader.bytes("results.line_bytes_max"),
        stored_response_bytes_max: reader.bytes("results.stored_response_bytes_max"),
        writers: reader.count("results.writers"),
        verdicts_per_commit: reader.count("results.verdicts_per_commit"),
        downloads_in_flight: reader.count("results.downloads_in_flight"),
        refuse_empty: reader.bool("results.refuse_empty"),
        echo_field: reader.optional_text("results.echo_field"),
        compare_images: reader.bool("results.compare_images"),
        uncollected_alarm: Duration::from_secs(
            reader.integer("results.uncollected_alarm_hours") * HOUR,
        ),
    }
}

fn report(reader: &mut Reader<'_>) -> Report {
    let zone = reader.text("report.zone");
    Report {
        daily: reader.bool("report.daily"),
        weekly: reader.bool("report.weekly"),
        formats: reader.words("report.formats"),
        zone: Zone::parse(&zone).unwrap_or_else(|_unknown| {
            reader.fault(
                "report.zone",
                format!("'{zone}' is no time zone"),
                "write a name such as Europe/Berlin, or UTC",
            );
            Zone::utc()
        }),
    }
}

fn state(reader: &mut Reader<'_>) -> State {
    let url = reader.text("state.url");
    let file = match checks::sqlite_path(&url) {
        Ok(path) => reader.absolute(path),
        Err((problem, remedy)) => {
            reader.fault("state.url", problem, remedy);
            Path::new("").to_path_buf()
        }
    };
    State {
        url,
        sqlite_file: file,
    }
}

fn api(reader: &mut Reader<'_>) -> Api {
    let given = reader.text("api.base_url");
    let base_url = given.trim_end_matches('/').to_owned();
    if let Err((problem, remedy)) = checks::base_url(&given) {
        reader.fault("api.base_url", problem, remedy);
    }
    let version = reader.text("api.version");
    if !version.starts_with('v') || !version.chars().all(|c| c.is_ascii_alphanumeric()) {
        reader.fault(
            "api.version",
            "is not a version".to_owned(),
            "write it like v1beta",
        );
    }
    Api {
        base_url,
        version,
        connect_timeout: reader.seconds("api.connect_timeout_seconds"),
        request_timeout: reader.seconds("api.request_timeout_seconds"),
        project: reader.optional_text("api.project"),
    }
}

fn log(reader: &mut Reader<'_>) -> Log {
    Log {
        format: match reader.word("log.format") {
            "human" => LogFormat::Human,
            "json" => LogFormat::Json,
            _ => LogFormat::Auto,
        },
        level: reader.text("log.level"),
        slow_query: match reader.integer("log.slow_query_ms") {
            0 => None,
            milliseconds => Some(Duration::from_millis(milliseconds)),
        },
    }
}
