//! The special tokens of a tokenizer: from the files, with defaults of the class.

use super::class::Class;
use super::settings::Settings;
use super::token::{Properties, ROLES, TokenSpec};
use crate::LoadError;

/// The special tokens by role, in the order of [`ROLES`], and the others.
pub(super) struct SpecialTokens {
    roles: [Option<TokenSpec>; ROLES.len()],
    specific: Vec<TokenSpec>,
    extra: Vec<TokenSpec>,
}

impl SpecialTokens {
    /// Collects the special tokens. `preset_padding` is the padding token of `tokenizer.json`.
    pub(super) fn of(
        class: Class,
        settings: &Settings,
        preset_padding: Option<&str>,
    ) -> Result<SpecialTokens, LoadError> {
        let mut roles = [const { None }; ROLES.len()];
        for ((role, default), place) in ROLES.into_iter().zip(defaults(class)).zip(&mut roles) {
            let preset = preset_padding.filter(|_| role == "pad_token" && !decides_padding(class));
            let silent = || default.or(preset).map(|content| TokenSpec::Text(content.to_owned()));
            let given = settings.role(role)?.unwrap_or_else(silent);
            *place = given.map(|given| with_properties(class, role, given));
        }
        let specific = settings.specific.iter().map(|(_, token)| token.clone()).collect();
        Ok(SpecialTokens { roles, specific, extra: extra(class, settings)? })
    }

    pub(super) fn role(&self, role: &str) -> Option<&str> {
        let at = ROLES.iter().position(|known| *known == role)?;
        self.roles[at].as_ref().map(TokenSpec::content)
    }

    /// Returns the token of a role that the class requires.
    pub(super) fn needed(&self, role: &str, settings: &Settings) -> Result<&str, LoadError> {
        self.role(role).ok_or_else(|| settings.invalid(format!("`{role}` is null, but the tokenizer needs one")))
    }

    /// Returns the named tokens in transformers' order.
    pub(super) fn named(&self) -> impl Iterator<Item = &TokenSpec> {
        self.roles.iter().flatten().chain(&self.specific)
    }

    pub(super) fn extra(&self) -> &[TokenSpec] {
        &self.extra
    }
}

/// Returns the default tokens of a class: begin, end, unknown, separator, padding, class, mask.
fn defaults(class: Class) -> [Option<&'static str>; ROLES.len()] {
    let all = |names: [&'static str; ROLES.len()]| names.map(|name| (name != "-").then_some(name));
    match class {
        Class::Backend => all(["-"; ROLES.len()]),
        Class::Bert | Class::ConvBert => all(["-", "-", "[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"]),
        Class::Herbert => all(["-", "-", "<unk>", "</s>", "<pad>", "<s>", "<mask>"]),
        Class::MpNet => all(["<s>", "</s>", "[UNK]", "</s>", "<pad>", "<s>", "<mask>"]),
        Class::Roberta | Class::XlmRoberta | Class::Camembert | Class::Barthez => {
            all(["<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>"])
        }
        Class::Deberta | Class::DebertaV2 => all(["[CLS]", "[SEP]", "[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"]),
        Class::Albert | Class::FNet => all(["[CLS]", "[SEP]", "<unk>", "[SEP]", "<pad>", "[CLS]", "[MASK]"]),
        Class::BigBird => all(["<s>", "</s>", "<unk>", "[SEP]", "<pad>", "[CLS]", "[MASK]"]),
        Class::T5 => all(["-", "</s>", "<unk>", "-", "<pad>", "-", "-"]),
        Class::Gpt2 => all(["<|endoftext|>", "<|endoftext|>", "<|endoftext|>", "-", "-", "-", "-"]),
        Class::Qwen2 => all(["-", "<|endoftext|>", "<|endoftext|>", "-", "<|endoftext|>", "-", "-"]),
        Class::Llama => all(["<s>", "</s>", "<unk>", "-", "-", "-", "-"]),
        Class::Gemma => all(["<bos>", "<eos>", "<unk>", "-", "<pad>", "-", "<mask>"]),
    }
}

/// Whether a class determines the padding token, even as none; otherwise the preset of `tokenizer.json` counts.
fn decides_padding(class: Class) -> bool {
    !matches!(class, Class::Backend | Class::Llama)
}

/// Adds the class's properties to a plain token.
fn with_properties(class: Class, role: &str, given: TokenSpec) -> TokenSpec {
    let TokenSpec::Text(content) = &given else { return given };
    let mask = role == "mask_token";
    if mask && matches!(class, Class::MpNet | Class::BigBird | Class::Barthez | Class::Camembert) {
        // The token absorbs the space before it.
        return TokenSpec::Token(Properties { lstrip: true, ..Properties::new(content, class == Class::Camembert) });
    }
    if matches!(class, Class::MpNet | Class::BigBird) {
        return TokenSpec::Token(Properties::new(content, false));
    }
    given
}

/// Tokens of CamemBERT's vocabulary that no text has.
const CAMEMBERT_UNUSED: [&str; 3] = ["<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"];

/// Returns the special tokens without a role.
fn extra(class: Class, settings: &Settings) -> Result<Vec<TokenSpec>, LoadError> {
    if settings.has("extra_special_tokens") {
        return Ok(settings.list("extra_special_tokens")?.unwrap_or_default());
    }
    let additional = settings.list("additional_special_tokens")?;
    if class == Class::T5 {
        return sentinels(additional, settings);
    }
    if class == Class::Camembert && additional.is_none() {
        return Ok(CAMEMBERT_UNUSED.map(|text| TokenSpec::Text(text.to_owned())).to_vec());
    }
    Ok(additional.unwrap_or_default())
}

/// Returns T5's sentinel tokens, unless the files name some.
fn sentinels(additional: Option<Vec<TokenSpec>>, settings: &Settings) -> Result<Vec<TokenSpec>, LoadError> {
    let count = settings.count("extra_ids", 100)?;
    let mut tokens = additional.unwrap_or_default();
    let named = tokens.iter().filter(|token| token.content().contains("<extra_id_")).count();
    if named == 0 {
        tokens.extend((0..count).map(|id| TokenSpec::Text(format!("<extra_id_{id}>"))));
    } else if count > 0 && count != named {
        return Err(settings.invalid(format!("`extra_ids` is {count}, but {named} of these tokens are named")));
    }
    Ok(tokens)
}
