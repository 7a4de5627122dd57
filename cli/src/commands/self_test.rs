//! `encaje self-test`: proves in a minute that a device computes what it should, and says how fast.

use clap::Args;
use engine::selftest::{Effort, Finding};
use engine::{DeviceSpec, ModelDir};
use serde::Serialize;

use crate::args::{DeviceArg, HubArgs, parse_device};
use crate::exit::Exit;
use crate::ui::Ui;
use crate::{devices, model};

/// Checks every operation of a device against a reference and measures it; exits with 1 if anything is wrong.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  encaje self-test --device cuda:0")]
pub(crate) struct SelfTestArgs {
    /// Tests these devices: `auto`, `cpu`, `cuda:0,1` or `cuda:all`. `auto` is every GPU that can be used, else the CPU.
    #[arg(long, value_name = "DEVICE", value_parser = parse_device, default_value = "auto")]
    pub(crate) device: DeviceArg,
    /// Tests this model too, a Hub id or a directory: against the CPU in f32, and its speed.
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<String>,
    /// Tests a few sizes only.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Uses only a model that is in the local cache, and never asks the Hub.
    #[arg(long)]
    pub(crate) offline: bool,
    /// Prints one JSON object per finding on stdout.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A finding as a script reads it.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    /// A comparison with the reference.
    Check { device: &'a str, name: &'a str, detail: &'a str, error: f64, bound: f64, passed: bool },
    /// A measurement.
    Measure { device: &'a str, name: &'a str, value: f64, unit: &'a str },
    /// The last line.
    Done { passed: bool },
}

/// Tests every device that is asked for; the result is the exit code.
pub(crate) fn run(ui: &Ui, args: &SelfTestArgs) -> anyhow::Result<Exit> {
    let devices = devices::resolve(&args.device, true)?;
    let opened = args
        .model
        .as_deref()
        .map(|name| model::open(ui, name, &HubArgs { revision: None, offline: args.offline }, None))
        .transpose()?;
    let model = opened.as_ref().map(|opened| &opened.dir);
    let effort = if args.quick { Effort::Short } else { Effort::Whole };
    let mut passed = true;
    for device in &devices {
        ui.note(format!("testing {device}"));
        passed &= test(ui, args.json, device, model, effort)?;
    }
    if args.json {
        ui.json(&Event::Done { passed })?;
    }
    ui.note(if passed { "all checks passed" } else { "SOME CHECKS FAILED: do not compute on this device" });
    Ok(if passed { Exit::Done } else { Exit::Failed })
}

fn test(ui: &Ui, json: bool, device: &DeviceSpec, model: Option<&ModelDir>, effort: Effort) -> anyhow::Result<bool> {
    let mut shown = Ok(());
    let name_of_device = device.to_string();
    let passed = engine::selftest::self_test(device, model, effort, &mut |finding| {
        let line = match json {
            true => ui.json(&event(&name_of_device, finding)),
            false => ui.data(sentence(finding)),
        };
        if let (Ok(()), Err(error)) = (&shown, line) {
            shown = Err(error);
        }
    })?;
    shown?;
    Ok(passed)
}

fn event<'a>(device: &'a str, finding: &'a Finding) -> Event<'a> {
    match finding {
        Finding::Check { name, detail, error, bound } => {
            Event::Check { device, name, detail, error: *error, bound: *bound, passed: finding.passed() }
        }
        Finding::Measure { name, value, unit } => Event::Measure { device, name, value: *value, unit },
    }
}

fn sentence(finding: &Finding) -> String {
    let verdict = if finding.passed() { "pass" } else { "FAIL" };
    match finding {
        Finding::Check { name, detail, error, bound } => {
            format!("{verdict}  {name}: error {error:.1e} of at most {bound:.0e} ({detail})")
        }
        Finding::Measure { name, value, unit } if *value >= 100.0 => format!("      {name}: {value:.0} {unit}"),
        Finding::Measure { name, value, unit } => format!("      {name}: {value:.3} {unit}"),
    }
}
