//! The post-processor of each class, which adds special tokens around a text.

use tokenizers::processors::bert::BertProcessing;
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{PostProcessorWrapper, Tokenizer};

use super::BuildInput;
use crate::LoadError;
use crate::tokenizer::class::Class;

/// Returns the post-processor of a tokenizer with all tokens. `in_file` is the one of `tokenizer.json`.
pub(in crate::tokenizer) fn post_processor(
    given: &BuildInput<'_>,
    tokenizer: &Tokenizer,
    in_file: Option<PostProcessorWrapper>,
) -> Result<PostProcessorWrapper, LoadError> {
    let surround = |start: &str, end: &str| between(given, tokenizer, Some(start), Some(end));
    match given.class {
        Class::Bert | Class::ConvBert | Class::Deberta | Class::DebertaV2 | Class::BigBird => {
            surround("cls_token", "sep_token")
        }
        Class::XlmRoberta | Class::Camembert => surround("bos_token", "eos_token"),
        Class::Roberta | Class::MpNet => {
            let (cls, sep) = (token(given, tokenizer, "cls_token")?, token(given, tokenizer, "sep_token")?);
            let trim = given.settings.flag("trim_offsets", true)?;
            let spaced = given.class == Class::Roberta && given.settings.flag("add_prefix_space", false)?;
            Ok(RobertaProcessing::new(sep, cls).trim_offsets(trim).add_prefix_space(spaced).into())
        }
        Class::Herbert => {
            let (cls, _) = token(given, tokenizer, "cls_token")?;
            let (sep, _) = token(given, tokenizer, "sep_token")?;
            // The class hard-codes these two ids.
            Ok(BertProcessing::new((sep, 2), (cls, 0)).into())
        }
        Class::T5 => {
            // The class hard-codes the name of its end token, with the id of the token in that role.
            let (_, id) = token(given, tokenizer, "eos_token")?;
            template(given, "$A </s>", vec![("</s>".to_owned(), id)])
        }
        Class::Albert => match in_file {
            Some(in_file) => Ok(in_file),
            None => surround("cls_token", "sep_token"),
        },
        Class::Backend | Class::FNet | Class::Gpt2 | Class::Qwen2 | Class::Barthez | Class::Llama | Class::Gemma => {
            ends(given, tokenizer, in_file)
        }
    }
}

/// Uses the file's post-processor, unless settings override it or there is none: then `add_bos_token` and
/// `add_eos_token`.
fn ends(
    given: &BuildInput<'_>,
    tokenizer: &Tokenizer,
    in_file: Option<PostProcessorWrapper>,
) -> Result<PostProcessorWrapper, LoadError> {
    let settings = given.settings;
    let configured = settings.has("add_bos_token") || settings.has("add_eos_token");
    if let (Some(in_file), false) = (in_file, configured) {
        return Ok(in_file);
    }
    let end = |flag: &str, role: &'static str| -> Result<Option<&'static str>, LoadError> {
        let enabled = settings.flag_or_null(flag, false, false)? && given.special.role(role).is_some();
        Ok(enabled.then_some(role))
    };
    between(given, tokenizer, end("add_bos_token", "bos_token")?, end("add_eos_token", "eos_token")?)
}

/// Surrounds a text with the tokens of up to two roles.
fn between(
    given: &BuildInput<'_>,
    tokenizer: &Tokenizer,
    start: Option<&str>,
    end: Option<&str>,
) -> Result<PostProcessorWrapper, LoadError> {
    let start = start.map(|role| token(given, tokenizer, role)).transpose()?;
    let end = end.map(|role| token(given, tokenizer, role)).transpose()?;
    let name = |token: &Option<(String, u32)>| token.as_ref().map(|(content, _)| format!("{content}:0"));
    let pieces = [name(&start), Some("$A:0".to_owned()), name(&end)];
    template(given, &pieces.into_iter().flatten().collect::<Vec<_>>().join(" "), start.into_iter().chain(end).collect())
}

fn template(
    given: &BuildInput<'_>,
    single: &str,
    tokens: Vec<(String, u32)>,
) -> Result<PostProcessorWrapper, LoadError> {
    let invalid = |error: String| given.settings.invalid(format!("no special tokens can go around a text: {error}"));
    let mut builder = TemplateProcessing::builder();
    builder.try_single(single).map_err(invalid)?;
    Ok(builder.special_tokens(tokens).build().map_err(|error| invalid(error.to_string()))?.into())
}

/// Returns the token of a role with its id, or the id of the unknown token.
fn token(given: &BuildInput<'_>, tokenizer: &Tokenizer, role: &str) -> Result<(String, u32), LoadError> {
    let content = given.special.needed(role, given.settings)?;
    let unknown = || tokenizer.token_to_id(given.special.role("unk_token")?);
    let id = tokenizer.token_to_id(content).or_else(unknown);
    let id = id.ok_or_else(|| given.settings.invalid(format!("`{role}`: `{content}` is not in the vocabulary")))?;
    Ok((content.to_owned(), id))
}
