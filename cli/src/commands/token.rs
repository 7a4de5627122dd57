//! `encaje token`: bearer tokens for people. The token is printed once; what is kept is its digest.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::{Args, Subcommand};
use coordinator::access::{Role, TokenFile, TokenFileError, TokenLine, token_digest};
use dataset::vectors::AtomicFile;
use rand::Rng;

use crate::args::parse_role;
use crate::exit::{Advice, Exit};
use crate::ui::Ui;

/// Creates, lists or revokes the tokens by which people authenticate.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Creates a token, prints it once, and adds its digest to a token file.
    New(TokenNewArgs),
    /// Lists the tokens of a token file.
    List(TokenFileArgs),
    /// Removes a name's tokens from a token file; coordinators notice within about a second.
    Revoke(TokenRevokeArgs),
}

/// Which token file.
#[derive(Debug, Args)]
pub(crate) struct TokenFileArgs {
    /// The token file of the coordinators.
    #[arg(long, value_name = "FILE")]
    pub(crate) tokens: PathBuf,
}

/// `encaje token new`.
#[derive(Debug, Args)]
pub(crate) struct TokenNewArgs {
    #[command(flatten)]
    pub(crate) file: TokenFileArgs,
    /// Whose token it is.
    #[arg(long, value_name = "NAME", env = "ENCAJE_TOKEN_NAME")]
    pub(crate) name: String,
    /// What it is for: `read`, `submit` (which reads too), `worker` or `admin`.
    #[arg(long, value_name = "SCOPE", value_parser = parse_role)]
    pub(crate) scope: Role,
    /// How long it is valid.
    #[arg(long, env = "ENCAJE_TOKEN_DAYS", value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub(crate) days: u32,
}

/// `encaje token revoke`.
#[derive(Debug, Args)]
pub(crate) struct TokenRevokeArgs {
    #[command(flatten)]
    pub(crate) file: TokenFileArgs,
    /// Whose tokens.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

const DAY_S: i64 = 24 * 3600;

/// Makes, lists or revokes tokens.
pub(crate) fn run(ui: &Ui, args: &TokenArgs) -> anyhow::Result<Exit> {
    match &args.command {
        TokenCommand::New(args) => new(ui, args),
        TokenCommand::List(args) => list(ui, args),
        TokenCommand::Revoke(args) => revoke(ui, args),
    }
}

fn new(ui: &Ui, args: &TokenNewArgs) -> anyhow::Result<Exit> {
    if args.name.is_empty() || args.name.contains(char::is_whitespace) || args.name.starts_with('#') {
        return Err(Advice::usage("--name is one word").into());
    }
    let secret: [u8; 32] = rand::rng().random();
    let token = format!("encaje_{}", blake3::Hash::from_bytes(secret).to_hex());
    let expires_s = now_s() + i64::from(args.days) * DAY_S;
    let line = TokenLine { name: args.name.clone(), role: args.scope, expires_s, digest: token_digest(&token) };
    change(&args.file.tokens, |mut text| {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        Ok(text + &format!("{line}\n"))
    })?;
    ui.data(token)?;
    ui.note("keep it: it is not shown again, and only its digest is stored");
    Ok(Exit::Done)
}

/// Replaces the text of a token file. Others who change it at the same time come before or after.
fn change(path: &Path, edit: impl FnOnce(String) -> Result<String, Advice>) -> anyhow::Result<()> {
    let cannot = || format!("cannot write `{}`", path.display());
    let file = AtomicFile::create(path, true)?;
    let mut text = String::new();
    if path.exists() {
        // A coordinator rejects the whole file for one broken line, so none is added to a broken file.
        text = fs::read_to_string(path).map_err(|source| TokenFileError::Read { path: path.to_owned(), source })?;
        TokenFile::parse(path, &text)?;
    } else {
        #[cfg(unix)]
        fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o600)).with_context(cannot)?;
    }
    let text = edit(text)?;
    file.write(|file| file.write_all(text.as_bytes()))?;
    file.persist()?;
    Ok(())
}

fn list(ui: &Ui, args: &TokenFileArgs) -> anyhow::Result<Exit> {
    for line in TokenFile::lines(&args.tokens)? {
        let left = line.expires_s - now_s();
        let until = if left > 0 { format!("{} days left", left / DAY_S) } else { "expired".to_owned() };
        ui.data(format!("{:<16}  {:<7}  {until}", line.name, line.role))?;
    }
    Ok(Exit::Done)
}

fn revoke(ui: &Ui, args: &TokenRevokeArgs) -> anyhow::Result<Exit> {
    let path = &args.file.tokens;
    change(path, |text| {
        let is_of = |line: &str| line.split_whitespace().next() == Some(args.name.as_str());
        if !text.lines().any(is_of) {
            return Err(Advice::failed(format!("`{}` has no token of `{}`", path.display(), args.name)));
        }
        Ok(text.lines().filter(|line| !is_of(line)).map(|line| format!("{line}\n")).collect())
    })?;
    ui.data(format!("{}: revoked", args.name))?;
    Ok(Exit::Done)
}

fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
