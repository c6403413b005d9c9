//! Models.

use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use reqwest::Method;
use reqwest::header::DATE;

use super::client::{GeminiClient, Reply, is_plain};
use super::fault;
use crate::domain::failure::ApiError;
use crate::domain::remote::RemoteModel;
use crate::domain::time::Timestamp;
use crate::ports::model_api::{ModelApi, ModelLook};
use crate::wire::error::Call;
use crate::wire::model;

const CALL: Call = Call::GetModel;

#[async_trait(?Send)]
impl ModelApi for GeminiClient {
    async fn model(&self, name: &str) -> ModelLook {
        let unanswered = |error: ApiError| ModelLook {
            date: None,
            outcome: Err(error),
        };
        if !is_plain(name) {
            return unanswered(fault::not_sent(CALL, &format!("'{name}' is not a model")));
        }
        let url = self.url("", &format!("models/{name}"));
        let request = self.request(&self.calls, Method::GET, url);
        match self
            .exchange(CALL, request.timeout(self.request_timeout))
            .await
        {
            Err(error) => unanswered(error),
            Ok(reply) => ModelLook {
                date: date(&reply),
                outcome: self.read_model(&reply),
            },
        }
    }
}

impl GeminiClient {
    fn read_model(&self, reply: &Reply) -> Result<RemoteModel, ApiError> {
        if !reply.is_success() {
            return Err(self.refusal(CALL, reply));
        }
        model::model(&reply.body)
            .map_err(|error| self.unreadable(CALL, reply.status, &error.to_string()))
    }
}

fn date(reply: &Reply) -> Option<Timestamp> {
    let instant = httpdate::parse_http_date(reply.header(DATE.as_str())?).ok()?;
    let since = instant.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Some(Timestamp::EPOCH.plus(since))
}
