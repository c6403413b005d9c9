//! Request lines: what is asked about each page, measured for packing and written for sending.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::BatchSubmitterPorts;
use super::prompts::{Prompted, Prompts, not_packed};
use crate::actors::blocking::sha256;
use crate::actors::state::messages::{IncludedMember, Member, UploadedPage};
use crate::decide::cost::{self, Price};
use crate::decide::steps::{self, Asked, RetrySteps, Tried};
use crate::domain::attempt::FailureDetail;
use crate::domain::failure::ErrorType;
use crate::domain::ids::{BatchId, RecipeHash, RecordKey, Sha256Hex};
use crate::domain::layout::Layout;
use crate::ports::page_source::{PageSource, SourceError};
use crate::prompt::Recipe;
use crate::wire::request::{self, GenerationConfig, LineParts, WireError};

/// Lines that are rendered in one go on the blocking pool.
const LINES_TOGETHER: usize = 64;
/// A file reference no shorter than any that the provider gives, for measuring.
const LONGEST_URI: &str = "https://generativelanguage.googleapis.com/v1beta/files/\
                           0123456789012345678901234567890123456789012345678901234567890123";
/// The longest image type.
const LONGEST_MIME: &str = "image/jpeg";
/// The parameters that a further try may change.
const OUTPUT_TOKENS: &str = "maxOutputTokens";
const TEMPERATURE: &str = "temperature";
/// Bytes by which the parameters of a further try may be longer than the recipe's.
const PARAMETERS_GROWTH: u64 = 32;
/// Characters of prompt that make about one token; for estimates only.
const CHARACTERS_A_TOKEN: u64 = 4;

/// What a batch may cost, where a price is known.
#[derive(Debug, Clone)]
pub struct Prices {
    pub price: Option<Price>,
    pub tokens_per_image: u64,
    /// The most output tokens of one answer, where the recipe limits them.
    pub output_tokens_max: Option<u64>,
    /// How further tries of a page differ from the first.
    pub steps: RetrySteps,
}

/// Makes request lines from pages by one recipe.
pub struct LineWriter {
    recipe: Arc<Recipe>,
    /// How answers are to be made, where a try changes nothing of it.
    generation_config: Result<GenerationConfig, WireError>,
    layout: Layout,
    chained: bool,
    prices: Prices,
    /// Sizes of pages that wait for a batch.
    measured: RefCell<HashMap<RecordKey, LineSize>>,
}

/// The size of one line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LineSize {
    pub line_bytes: u64,
    pub tokens: u64,
}

/// A lines file that is on disk.
pub struct Built {
    pub sha256: Sha256Hex,
    pub bytes: u64,
    pub included: Vec<IncludedMember>,
    pub refused: Vec<(RecordKey, FailureDetail)>,
    pub reserved_cost_nanos: Option<u64>,
}

/// A page that is asked about.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    pub key: &'a RecordKey,
    pub file_uri: &'a str,
    pub file_mime: &'a str,
    /// The page before, if the prompt is to see its output.
    pub predecessor: Option<&'a RecordKey>,
    /// What this try changes of the recipe's parameters.
    pub parameters: Option<Value>,
}

/// A request line, newline included.
pub struct Line {
    pub text: Vec<u8>,
    prompted: Prompted,
    /// What was asked differently from the recipe.
    pub parameters: Option<Value>,
}

impl Line {
    /// The hash of its prompt.
    pub fn prompt_sha256(&self) -> Sha256Hex {
        sha256(self.prompted.prompt.as_bytes())
    }

    /// The hash of what its prompt saw of the page before; absent when it saw nothing.
    pub fn context_sha256(&self) -> Option<Sha256Hex> {
        let context = self.prompted.context.as_ref();
        context.map(|context| sha256(context.as_bytes()))
    }

    /// Its prompt.
    pub fn prompt(&self) -> &str {
        &self.prompted.prompt
    }
}

/// Why a page cannot be put into a request.
pub type Refusal = Box<FailureDetail>;

impl LineWriter {
    /// Makes a writer for one recipe.
    pub fn new(recipe: Arc<Recipe>, layout: Layout, chained: bool, prices: Prices) -> Self {
        LineWriter {
            measured: RefCell::default(),
            generation_config: GenerationConfig::new(
                &recipe.generation_config,
                &recipe.response_schema,
            ),
            recipe,
            layout,
            chained,
            prices,
        }
    }

    /// The recipe's name.
    pub fn recipe_hash(&self) -> &RecipeHash {
        &self.recipe.hash
    }

    /// The model that is asked.
    pub fn model(&self) -> &str {
        &self.recipe.model
    }

    fn prompts(&self) -> Prompts<'_> {
        Prompts {
            recipe: &self.recipe,
            layout: &self.layout,
        }
    }

    /// The sizes of these pages' lines, in order, never less than what is written later. A page
    /// that cannot be rendered counts as nothing here; it is refused by name when its batch is
    /// built; one that the disk does not give now has no size. What was measured is remembered as
    /// long as the page waits.
    pub async fn measure(
        &self,
        pages: &[UploadedPage],
        source: &dyn PageSource,
    ) -> Vec<Result<LineSize, SourceError>> {
        let mut not_given: HashMap<&RecordKey, SourceError> = HashMap::new();
        let waiting: HashSet<&RecordKey> = pages.iter().map(|page| &page.key).collect();
        self.measured
            .borrow_mut()
            .retain(|key, _| waiting.contains(key));
        let new: Vec<&UploadedPage> = {
            let measured = self.measured.borrow();
            pages
                .iter()
                .filter(|page| !measured.contains_key(&page.key))
                .collect()
        };
        for chunk in new.chunks(LINES_TOGETHER) {
            let mut given = Vec::with_capacity(chunk.len());
            let mut materials = Vec::with_capacity(chunk.len());
            let asked: Vec<(&RecordKey, Option<&RecordKey>)> = chunk
                .iter()
                .map(|page| {
                    let completed = page.predecessor_completed && self.chained;
                    let predecessor = page.predecessor.as_ref().filter(|_| completed);
                    (&page.key, predecessor)
                })
                .collect();
            for (page, material) in chunk
                .iter()
                .zip(self.prompts().materials(&asked, source).await)
            {
                match material {
                    Ok(material) => {
                        given.push(page);
                        materials.push(material);
                    }
                    Err(error) => {
                        not_given.insert(&page.key, error);
                    }
                }
            }
            for (page, prompted) in given.iter().zip(self.prompts().rendered(materials).await) {
                let size = prompted.map_or(LineSize::default(), |prompted| {
                    self.size(page.key.as_str(), &prompted)
                });
                self.measured.borrow_mut().insert(page.key.clone(), size);
            }
        }
        let measured = self.measured.borrow();
        pages
            .iter()
            .map(|page| match not_given.remove(&page.key) {
                Some(error) => Err(error),
                None => Ok(measured.get(&page.key).copied().unwrap_or_default()),
            })
            .collect()
    }

    fn size(&self, key: &str, prompted: &Prompted) -> LineSize {
        let counted = self.generation_config.as_ref().map(|generation_config| {
            request::line_bytes(&LineParts {
                key,
                file_uri: LONGEST_URI,
                mime: LONGEST_MIME,
                prompt: &prompted.prompt,
                generation_config,
            })
        });
        LineSize {
            line_bytes: match counted {
                Ok(Ok(bytes)) => bytes + PARAMETERS_GROWTH,
                Ok(Err(_)) | Err(_) => 0,
            },
            tokens: self.tokens(prompted),
        }
    }

    /// The input tokens of one request, estimated.
    fn tokens(&self, prompted: &Prompted) -> u64 {
        let characters = prompted.prompt.len() as u64;
        self.prices.tokens_per_image + characters.div_ceil(CHARACTERS_A_TOKEN)
    }

    /// Writes the lines file of a batch. Members that cannot be put into a request are left out
    /// and named.
    pub async fn build(
        &self,
        batch: &BatchId,
        members: &[Member],
        ports: &BatchSubmitterPorts,
    ) -> Result<Built, SourceError> {
        let mut spool = ports.sink.open_spool(batch).await?;
        let mut included = Vec::with_capacity(members.len());
        let mut refused = Vec::new();
        let mut tokens = 0_u64;
        let mut output_tokens = 0_u64;
        for chunk in members.chunks(LINES_TOGETHER) {
            let subjects: Vec<Subject<'_>> =
                chunk.iter().map(|member| self.subject(member)).collect();
            let mut texts = Vec::new();
            let lines = self.lines(&subjects, &*ports.source).await?;
            for (member, line) in chunk.iter().zip(lines) {
                match line {
                    Ok(line) => {
                        output_tokens += self.output_tokens_max(line.parameters.as_ref());
                        tokens += self.tokens(&line.prompted);
                        texts.extend_from_slice(&line.text);
                        included.push(IncludedMember {
                            key: member.key.clone(),
                            prompt_sha256: line.prompt_sha256(),
                            context_sha256: line.context_sha256(),
                            parameters: line.parameters.map(|changed| changed.to_string()),
                        });
                    }
                    Err(failure) => refused.push((member.key.clone(), *failure)),
                }
            }
            spool.write(texts).await?;
        }
        let written = spool.finish().await?;
        let reserved_cost_nanos = self.reserve(tokens, output_tokens, included.len() as u64);
        let (sha256, bytes) = (written.sha256, written.bytes);
        Ok(Built {
            sha256,
            bytes,
            included,
            refused,
            reserved_cost_nanos,
        })
    }

    /// A member as the subject of its line: what it sees of the page before, and what its
    /// parameters change.
    pub fn subject<'m>(&self, member: &'m Member) -> Subject<'m> {
        let completed = self.chained && member.predecessor_completed;
        Subject {
            key: &member.key,
            file_uri: &member.file_uri,
            file_mime: &member.file_mime,
            predecessor: member.predecessor.as_ref().filter(|_| completed),
            parameters: self.parameters(member),
        }
    }

    /// The lines of some pages, in order, as they are sent. Fails when the disk does.
    pub async fn lines(
        &self,
        subjects: &[Subject<'_>],
        source: &dyn PageSource,
    ) -> Result<Vec<Result<Line, Refusal>>, SourceError> {
        let asked: Vec<(&RecordKey, Option<&RecordKey>)> = subjects
            .iter()
            .map(|subject| (subject.key, subject.predecessor))
            .collect();
        let materials = self.prompts().materials(&asked, source).await;
        let materials = materials.into_iter().collect::<Result<_, _>>()?;
        let prompted = self.prompts().rendered(materials).await.into_iter();
        let lines = subjects.iter().zip(prompted);
        Ok(lines
            .map(|(subject, prompted)| self.line(subject, prompted?))
            .collect())
    }

    fn reserve(&self, tokens: u64, output_tokens: u64, requests: u64) -> Option<u64> {
        let price = self.prices.price.as_ref()?;
        self.prices.output_tokens_max?;
        let output_mean = output_tokens.div_ceil(requests.max(1));
        Some(cost::reserve_nanos(price, tokens, requests, output_mean))
    }

    /// The most output tokens of one line, where they are limited.
    fn output_tokens_max(&self, parameters: Option<&Value>) -> u64 {
        let raised = parameters.and_then(|changed| changed.get(OUTPUT_TOKENS)?.as_u64());
        raised.or(self.prices.output_tokens_max).unwrap_or_default()
    }

    /// What the parameters of this try change of the recipe's; `None` when nothing.
    fn parameters(&self, member: &Member) -> Option<Value> {
        let config = &self.recipe.generation_config;
        let asked = Asked {
            output_tokens_max: config.get(OUTPUT_TOKENS).and_then(Value::as_u64),
            temperature: config.get(TEMPERATURE).and_then(Value::as_f64),
        };
        let tried = Tried {
            truncations: member.truncations,
            refusals: member.refusals,
        };
        let steps::Changed {
            output_tokens_max,
            temperature,
        } = steps::changed(asked, tried, self.prices.steps);
        let mut changed = Map::new();
        changed.extend(output_tokens_max.map(|max| (OUTPUT_TOKENS.to_owned(), max.into())));
        changed.extend(temperature.map(|warm| (TEMPERATURE.to_owned(), warm.into())));
        (!changed.is_empty()).then_some(Value::Object(changed))
    }

    fn line(&self, subject: &Subject<'_>, prompted: Prompted) -> Result<Line, Refusal> {
        let refused = |error: &WireError| not_packed(ErrorType::Validation, &error.to_string());
        let changed = self.changed(subject);
        let generation_config = changed.as_ref().unwrap_or(&self.generation_config);
        let parts = LineParts {
            key: subject.key.as_str(),
            file_uri: subject.file_uri,
            mime: subject.file_mime,
            prompt: &prompted.prompt,
            generation_config: generation_config.as_ref().map_err(refused)?,
        };
        let text = request::line(&parts).map_err(|error| refused(&error))?;
        Ok(Line {
            text,
            prompted,
            parameters: subject.parameters.clone(),
        })
    }

    /// How this answer is to be made, if otherwise than the others.
    fn changed(&self, subject: &Subject<'_>) -> Option<Result<GenerationConfig, WireError>> {
        let Some(Value::Object(changed)) = &subject.parameters else {
            return None;
        };
        let mut config = self.recipe.generation_config.as_object()?.clone();
        config.extend(changed.clone());
        let schema = &self.recipe.response_schema;
        Some(GenerationConfig::new(&Value::Object(config), schema))
    }
}
