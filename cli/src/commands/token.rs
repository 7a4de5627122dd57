//! `encaje token`: bearer tokens for people. The token is printed once; what is kept is its digest.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use coordinator::access::{TokenFile, TokenLine, token_digest};
use dataset::vectors::write_atomically;
use rand::Rng;

use crate::args::{TokenCommand, TokenFileArgs, TokenNewArgs, TokenRevokeArgs};
use crate::exit::{Advice, Exit};
use crate::ui::Ui;

const DAY_S: i64 = 24 * 3600;

/// Makes, lists or revokes tokens.
pub(crate) fn run(ui: &Ui, command: &TokenCommand) -> anyhow::Result<Exit> {
    match command {
        TokenCommand::New(args) => new(ui, args),
        TokenCommand::List(args) => list(ui, args),
        TokenCommand::Revoke(args) => revoke(ui, args),
    }
}

fn new(ui: &Ui, args: &TokenNewArgs) -> anyhow::Result<Exit> {
    if args.name.is_empty() || args.name.contains(char::is_whitespace) || args.name.starts_with('#') {
        return Err(Advice::usage("--name is one word").into());
    }
    // What is there must be sound: a line appended to a broken file would be taken by nobody.
    if args.file.tokens.exists() {
        TokenFile::lines(&args.file.tokens)?;
    }
    let secret: [u8; 32] = rand::rng().random();
    let token = format!("encaje_{}", blake3::Hash::from_bytes(secret).to_hex());
    let expires_s = now_s() + i64::from(args.days) * DAY_S;
    let line = TokenLine { name: args.name.clone(), role: args.scope, expires_s, digest: token_digest(&token) };
    append(&args.file.tokens, &format!("{line}\n"))?;
    ui.data(token)?;
    ui.note("keep it: it is not shown again, and only its digest is stored");
    Ok(Exit::Done)
}

fn append(path: &Path, line: &str) -> anyhow::Result<()> {
    let mut options = fs::File::options();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let cannot = || format!("cannot write `{}`", path.display());
    let mut file = options.open(path).with_context(cannot)?;
    file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).with_context(cannot)
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
    let lines = TokenFile::lines(path)?;
    let kept: Vec<&TokenLine> = lines.iter().filter(|line| line.name != args.name).collect();
    let gone = lines.len() - kept.len();
    if gone == 0 {
        return Err(Advice::failed(format!("`{}` has no token of `{}`", path.display(), args.name)).into());
    }
    let text: String = kept.iter().map(|line| format!("{line}\n")).collect();
    // It keeps its permissions, from the first byte on.
    write_atomically(path, text.as_bytes())?;
    ui.data(format!("{}: revoked", args.name))?;
    Ok(Exit::Done)
}

fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
