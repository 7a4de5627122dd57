//! `encaje certs`: an authority, a certificate for coordinators and one for each worker, in one go.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::Args;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

use crate::exit::{Advice, Exit};
use crate::ui::Ui;

/// Creates certificates for a cluster: an authority, one for coordinators, one for each worker.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  encaje certs --out certs/ --host coordinator.example.org --host 10.0.0.5")]
pub(crate) struct CertsArgs {
    /// Writes the files to this directory, which must not hold any of them yet.
    #[arg(long, value_name = "DIR", env = "ENCAJE_CERTS_OUT")]
    pub(crate) out: PathBuf,
    /// A name or address under which coordinators are reached; may be given several times. `localhost` is always one.
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Vec<String>,
    /// A worker to make a certificate for; may be given several times. The default is one named `worker`.
    #[arg(long, value_name = "NAME")]
    pub(crate) worker: Vec<String>,
    /// How long the certificates are valid.
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub(crate) days: u32,
}

/// Most characters of a worker's name.
const NAME_BYTES_MAX: usize = 64;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Makes the files.
pub(crate) fn run(ui: &Ui, args: &CertsArgs) -> anyhow::Result<Exit> {
    let mut hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    hosts.extend(args.host.iter().filter(|host| !hosts.contains(host)).cloned().collect::<Vec<_>>());
    let workers = if args.worker.is_empty() { vec!["worker".to_owned()] } else { args.worker.clone() };
    let sans = hosts.iter().map(|host| host_name(host)).collect::<anyhow::Result<Vec<_>>>()?;
    for (index, worker) in workers.iter().enumerate() {
        check_name(worker)?;
        if workers[..index].contains(worker) {
            return Err(Advice::usage(format!("--worker `{worker}` is given twice")).into());
        }
    }
    let names = ["ca", "server"].into_iter().chain(workers.iter().map(String::as_str));
    for file in names.flat_map(|name| [format!("{name}.pem"), format!("{name}-key.pem")]) {
        let path = args.out.join(file);
        if path.is_symlink() || path.exists() {
            let what = format!("`{}` already exists", path.display());
            return Err(Advice::usage(what).hint("give a new directory as --out").into());
        }
    }
    fs::create_dir_all(&args.out).with_context(|| format!("cannot make `{}`", args.out.display()))?;

    let valid = DAY * args.days;
    let mut params = params(valid, "encaje authority")?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().context("cannot make a key")?;
    let authority = params.self_signed(&key).context("cannot make the authority")?;
    write(&args.out, "ca", &authority.pem(), &key)?;
    let issuer = Issuer::new(params, key);

    issue(&args.out, "server", valid, sans, ExtendedKeyUsagePurpose::ServerAuth, &issuer)?;
    for worker in &workers {
        let uri = SanType::URI(Ia5String::try_from(format!("encaje://worker/{worker}"))?);
        issue(&args.out, worker, valid, vec![uri], ExtendedKeyUsagePurpose::ClientAuth, &issuer)?;
    }
    let out = args.out.display();
    ui.data(format!(
        "{out}: ca.pem, server.pem for {}, {}.pem, and their keys",
        hosts.join(", "),
        workers.join(".pem, ")
    ))?;
    ui.note("keep ca-key.pem away from the cluster: anyone who has it can add workers");
    Ok(Exit::Done)
}

/// Refuses what is no name of a worker, before anything is made.
fn check_name(worker: &str) -> Result<(), Advice> {
    let is_plain = worker.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    let is_ours = ["ca", "server"].contains(&worker) || worker.ends_with("-key") || worker.starts_with('.');
    if !is_plain || worker.is_empty() || is_ours || worker.len() > NAME_BYTES_MAX {
        return Err(Advice::usage(format!(
            "--worker `{worker}`: letters, digits, `-`, `_` and `.` make a name, but not `ca`, `server`, nor one that begins with \
             `.`, ends with `-key` or has more than {NAME_BYTES_MAX} characters"
        )));
    }
    Ok(())
}

fn params(valid: Duration, name: &str) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::<String>::new()).context("cannot describe a certificate")?;
    params.distinguished_name.push(DnType::CommonName, name);
    let now = SystemTime::now();
    // Clocks differ: certificates must be valid on other machines at once.
    params.not_before = (now - DAY).into();
    params.not_after = (now + valid).into();
    Ok(params)
}

fn host_name(host: &str) -> anyhow::Result<SanType> {
    match host.parse::<IpAddr>() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => {
            let is_plain = host.chars().all(|c| c.is_ascii_alphanumeric() || "-_.*".contains(c));
            let is_address = host.chars().all(|c| c.is_ascii_digit() || c == '.');
            if host.is_empty() || host.len() > 253 || !is_plain || is_address {
                return Err(Advice::usage(format!("--host `{host}` is neither a name nor an address")).into());
            }
            let name = Ia5String::try_from(host)
                .with_context(|| Advice::usage(format!("--host `{host}` is neither a name nor an address")))?;
            Ok(SanType::DnsName(name))
        }
    }
}

fn issue(
    out: &Path,
    name: &str,
    valid: Duration,
    names: Vec<SanType>,
    purpose: ExtendedKeyUsagePurpose,
    issuer: &Issuer<'_, KeyPair>,
) -> anyhow::Result<()> {
    let mut params = params(valid, name)?;
    params.subject_alt_names = names;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    let key = KeyPair::generate().context("cannot make a key")?;
    let certificate = params.signed_by(&key, issuer).with_context(|| format!("cannot sign `{name}`"))?;
    write(out, name, &certificate.pem(), &key)
}

fn write(out: &Path, name: &str, certificate: &str, key: &KeyPair) -> anyhow::Result<()> {
    create(&out.join(format!("{name}-key.pem")), &key.serialize_pem())?;
    create(&out.join(format!("{name}.pem")), certificate)
}

/// Writes a file for its owner alone; one that is there is not touched.
fn create(path: &PathBuf, text: &str) -> anyhow::Result<()> {
    let mut options = fs::File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let cannot = || Advice::usage(format!("cannot write `{}`", path.display())).hint("give a new directory as --out");
    let mut file = options.open(path).with_context(cannot)?;
    file.write_all(text.as_bytes()).with_context(cannot)
}
